"""A paired gain: the same records, two models. Only records on which the two differ say anything.

    gain = (b − c) / n      b right after and not before, c right before and not after
    ci95 = (p₁ − p₂) ± 1.96·√((p₁ + p₂ − (p₁ − p₂)²) / (n + 2)),   p₁ = (b + 1)/(n + 2), p₂ = (c + 1)/(n + 2)

The interval is Bonett and Price's (2012, "Adjusted Wald confidence interval for a difference of binomial proportions
based on paired data"), which keeps its level for few records and does not shrink to nothing where b = c = 0.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.stats import norm


@dataclass(frozen=True, kw_only=True)
class Paired:
    """How many of `records` were right after only (`won`), and before only (`lost`)."""

    won: int
    lost: int
    records: int

    @classmethod
    def of(cls, before: Sequence[bool], after: Sequence[bool]) -> "Paired":
        """Compare answers to the same records, in the same order."""
        pairs = list(zip(before, after, strict=True))
        return cls(won=pairs.count((False, True)), lost=pairs.count((True, False)), records=len(pairs))

    @property
    def net(self) -> int:
        """Return b − c: right after less right before. One record more or less changes it by at most 1."""
        return self.won - self.lost

    @property
    def gain(self) -> float:
        """Return b − c per record."""
        return self.net / self.records

    @property
    def ci95(self) -> tuple[float, float]:
        """Return the 95 % interval of the gain on records like these; see the module."""
        wider = self.records + 2
        won, lost = (self.won + 1) / wider, (self.lost + 1) / wider
        half = float(norm.ppf(0.975)) * math.sqrt((won + lost - (won - lost) ** 2) / wider)
        return max(-1.0, won - lost - half), min(1.0, won - lost + half)


def verdict(low: float, high: float) -> str:
    """Return what an interval of the gain says: `gained`, `lost`, or `cannot_tell` where it holds 0."""
    if low > 0:
        return "gained"
    return "lost" if high < 0 else "cannot_tell"
