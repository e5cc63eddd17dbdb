"""What one test of the mechanism measured, and what it had to be."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Check:
    """A measured figure and the range [`low`, `high`] that an honest mechanism stays in. `told`: for a person.

    `alarm` bounds the probability that an honest mechanism leaves the range; 0 where nothing drawn is compared.
    """

    name: str
    measured: float
    low: float
    high: float
    told: str
    alarm: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether the figure is in its range; NaN is not."""
        return self.low <= self.measured <= self.high

    def as_json(self) -> Mapping[str, object]:
        """Return a plain map."""
        return {
            "check": self.name,
            "holds": self.holds,
            "measured": round(self.measured, 6),
            "expected": [round(self.low, 6), round(self.high, 6)],
            "told": self.told,
        }
