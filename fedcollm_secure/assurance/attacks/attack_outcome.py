"""What an attack is, and what came of it: once against a known-bad twin, once against this project's own code."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

Figure = int | float
"""A number that was measured; its unit is in its name."""


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One side of an attack.

    `told`: one sentence for a person. `reason`: the codes with which silos refused, or what bounded the attack; empty
    where nothing stopped it. `figures`: what was measured. `table`: a header and rows, if a sentence is too little.
    """

    succeeded: bool
    told: str
    reason: str = ""
    figures: Mapping[str, Figure] = field(default_factory=dict[str, Figure])
    table: Sequence[tuple[str, ...]] = ()

    def __post_init__(self) -> None:
        """Refuse a failure without a reason, and figures that JSON does not know."""
        if not self.succeeded and not self.reason:
            raise ValueError("an attack that failed needs a reason: what stopped it?")
        if not all(math.isfinite(value) for value in self.figures.values()):
            raise ValueError("figures must be finite")

    def as_json(self) -> Mapping[str, object]:
        """Return a plain map; figures stand beside the verdict."""
        table = {"table": [list(row) for row in self.table]} if self.table else {}
        return {"succeeded": self.succeeded, "reason": self.reason, "told": self.told, **self.figures, **table}


@dataclass(frozen=True, kw_only=True)
class Attack:
    """An attack that runs for real on both sides. `does`: what the attacker does, in a sentence."""

    id: str
    title: str
    does: str
    unprotected: Callable[[], Outcome]
    protected: Callable[[], Outcome]


@dataclass(frozen=True, kw_only=True)
class Finding:
    """An attack that was run."""

    attack: Attack
    unprotected: Outcome
    protected: Outcome

    @property
    def as_expected(self) -> bool:
        """Whether the twin fell, which shows that the attack works, and the protection held."""
        return self.unprotected.succeeded and not self.protected.succeeded

    def as_json(self) -> Mapping[str, object]:
        """Return a plain map."""
        return {
            "id": self.attack.id,
            "title": self.attack.title,
            "does": self.attack.does,
            "unprotected": self.unprotected.as_json(),
            "protected": self.protected.as_json(),
        }
