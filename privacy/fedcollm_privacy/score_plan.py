"""Two integers that a silo tells of its own evaluation: its score, and how many records it was scored on.

    M(D) = (g(D) + X, n(D) + Y)      X, Y independent, P[X = x] ∝ exp(−r·|x|), r ≤ ε/2, all integers

g and n are integers, and one record more or less changes each by at most 1. For neighbours D, D' and integers a, b

    P[M(D) = (a, b)] / P[M(D') = (a, b)] = exp(r·(|a − g'| − |a − g| + |b − n'| − |b − n|)) ≤ e^(2r) ≤ e^ε

so that M is (ε, 0)-DP. dp-accounting prices it, on a grid that holds the only two losses, ±r, exactly.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import lru_cache

from dp_accounting.pld import privacy_loss_distribution

from fedcollm_privacy import validate
from fedcollm_privacy.decimals import parse_decimal, to_decimal
from fedcollm_privacy.discrete import discrete_laplace

MECHANISM = "discrete_laplace"
INTEGERS = 2
_MOST = 1e6  # beyond any promise; its arithmetic is exact up to there
_GRID = 2**20  # r is a multiple of 1/_GRID, rounded to the private side: the sampler takes fractions


@dataclass(frozen=True, kw_only=True)
class ScorePlan:
    """Fix what one release of a silo's own score costs: `epsilon` for add-or-remove-one record, at δ = 0.

    Guarantee: `noisy` of two integers that one record changes by at most 1 each is (`epsilon`, 0)-DP for every record
    that was scored, against whoever sees its result; what is computed from that is post-processing.
    """

    epsilon: float

    def __post_init__(self) -> None:
        """Refuse an ε that is not positive, so small that no rate is left, or senselessly large (`ValueError`)."""
        validate.positive(epsilon=self.epsilon)
        if self.epsilon > _MOST:
            raise ValueError(f"epsilon must be at most {_MOST:g}, got {self.epsilon}: it would protect nothing")
        if self.rate <= 0:
            raise ValueError(f"epsilon must be at least {INTEGERS / _GRID:.3g}, got {self.epsilon}: say a larger one")

    @property
    def rounds(self) -> int:
        """Return 1: a plan pays for one release."""
        return 1

    @property
    def delta(self) -> float:
        """Return 0: no probability of failure."""
        return 0.0

    @property
    def rate(self) -> Fraction:
        """Return r, at most ε/2."""
        return Fraction(math.floor(self.epsilon / INTEGERS * _GRID), _GRID)

    def noisy(self, score: int, records: int) -> tuple[int, int]:
        """Return both integers with fresh noise from the operating system. Each call is a release of its own."""
        first, second = discrete_laplace(INTEGERS, self.rate).tolist()
        return score + first, records + second

    def noise_bound(self, probability: float) -> int:
        """Return the least k with P[|X| > k] ≤ `probability`: P[|X| ≥ m] = 2e^(−rm) / (1 + e^(−r)) for m ≥ 1."""
        validate.probability(probability=probability)
        rate = float(self.rate)
        exact = math.log(2 / ((1 + math.exp(-rate)) * probability)) / rate
        return max(0, math.ceil(exact) - 1)

    def epsilon_after(self, rounds: int) -> float:
        """Return ε, at δ = 0, of this many releases; 0 cost 0."""
        validate.integer(rounds=rounds, at_least=0)
        return _price(self.rate, INTEGERS * rounds) if rounds else 0.0

    def as_json(self) -> dict[str, str | int]:
        """Return the plan as JSON without floats (decimal strings), ready to be canonicalised and signed."""
        return {"epsilon": to_decimal(self.epsilon), "mechanism": MECHANISM, "unit": "record"}

    @classmethod
    def from_json(cls, tree: Mapping[str, object]) -> ScorePlan:
        """Read what `as_json` wrote; surplus, missing or mistyped keys are refused (`ValueError`)."""
        fixed = {"mechanism": MECHANISM, "unit": "record"}
        if {name: value for name, value in tree.items() if name != "epsilon"} != fixed or "epsilon" not in tree:
            raise ValueError(f"a plan of a score has an epsilon beside {fixed}, got {dict(tree)}")
        return cls(epsilon=parse_decimal(tree["epsilon"]))

    def digest(self) -> str:
        """Return the SHA-256, in hex, of the plan's canonical JSON (RFC 8785: sorted ASCII keys, no white space)."""
        canonical = json.dumps(self.as_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


@lru_cache(maxsize=64)
def _price(rate: Fraction, integers: int) -> float:
    one = privacy_loss_distribution.from_discrete_laplace_mechanism(
        float(rate), sensitivity=1, value_discretization_interval=float(rate)
    )
    return float(one.self_compose(integers).get_epsilon_for_delta(0.0))
