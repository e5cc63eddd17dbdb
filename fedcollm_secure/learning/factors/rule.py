"""The rules that need one sum a round, and what all rules have in common.

silo     start, change → share    float32[k], what is encoded, noised and masked
server   mean of the shares → merge → θ     … the server trains …     → settle → θ_{t+1}
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from fedcollm_secure.config.training import Factors
from fedcollm_secure.learning.adapter import Matrices, Schema
from fedcollm_secure.learning.factors.exact import ExactProducts
from fedcollm_secure.learning.factors.layout import Float64, Layout
from fedcollm_secure.learning.factors.low_rank import cut_to_rank
from fedcollm_secure.learning.factors.passes import Merged, Pass
from fedcollm_secure.learning.vectors import Float32


class Rule(Protocol):
    """What silos train and send in a round, and what the server makes of the mean."""

    @property
    def passes(self) -> int:
        """Return how many sums a round takes, all over the same silos."""
        ...

    def trained(self, round_number: int) -> Matrices:
        """Return what silos train in this round."""
        ...

    def fits(self, asked: Pass) -> bool:
        """Say whether this rule has such a pass, with a basis of this form."""
        ...

    def length(self, asked: Pass) -> int:
        """Return the length of what a silo sends in this pass."""
        ...

    def share(self, start: Float32, change: Float32, asked: Pass) -> Float32:
        """Return what a silo sends, a function of its own training's start and result alone."""
        ...

    def basis(self, mean: Float64) -> Float32:
        """Return what the server asks for in the second pass, from the first one's mean."""
        ...

    def merge(self, start: Float32, means: Sequence[Float64], asked: Pass) -> Merged:
        """Return θ from the mean of each pass; `asked` is the last one."""
        ...

    def settle(self, theta: Float32) -> Float32:
        """Return θ as the next round begins with it, after the server's own steps."""
        ...


@dataclass(frozen=True, kw_only=True)
class Deltas:
    """One sum of changes: `trains` says of which factors; `orthonormal` re-factors both at the round's end (FedSVD).

    `step` turns a mean of gradients into a change, where silos send those.

    Guarantee: what is sent is linear in the silos' changes, and `settle` reads the aggregate alone, so that it is
    post-processing and costs no ε.
    """

    layout: Layout
    trains: Callable[[int], Matrices] = field(repr=False)
    orthonormal: bool = False
    step: Callable[[Float64, int], Float64] | None = None

    @property
    def passes(self) -> int:
        """Return 1."""
        return 1

    def trained(self, round_number: int) -> Matrices:
        """Return what silos train in this round."""
        return self.trains(round_number)

    def fits(self, asked: Pass) -> bool:
        """Say whether it is the only pass."""
        return asked.number == 0 and asked.basis.size == 0

    def length(self, asked: Pass) -> int:
        """Return how many entries the round's factors have."""
        return int(self.layout.mask(self.trains(asked.round)).sum())

    def share(self, start: Float32, change: Float32, asked: Pass) -> Float32:
        """Return the change of the round's factors."""
        return change[self.layout.mask(self.trains(asked.round))]

    def basis(self, mean: Float64) -> Float32:
        """Raise: there is no second pass."""
        raise RuntimeError("this rule needs one sum a round, and nothing for a second one")

    def merge(self, start: Float32, means: Sequence[Float64], asked: Pass) -> Merged:
        """Return θ_t + mean in the round's factors."""
        theta = start.astype(np.float64)
        change = means[0] if self.step is None else self.step(means[0], asked.round)
        theta[self.layout.mask(self.trains(asked.round))] += change
        return Merged(theta=theta.astype(np.float32), cut_error=None)

    def settle(self, theta: Float32) -> Float32:
        """Return θ; under FedSVD with the same products B·A and orthonormal rows in each A."""
        if not self.orthonormal:
            return theta
        settled = theta.copy()
        for place in self.layout.places:
            b, a = place.cut(theta)
            cut = cut_to_rank(b, a.T, place.rank)
            place.put(settled, cut.b, cut.a)
        return settled


def make_rule(factors: Factors, schema: Schema, *, silos: int, seed: int) -> Rule:
    """Return the rule of this name; `silos` and `seed` matter to `exact` alone.

    Raises:
        ValueError: a module is narrower than its rank, where the rule needs to decompose it.
    """
    layout = Layout(schema=schema)
    match factors:
        case "fedavg" | "ffa":  # under ffa the vector holds B alone
            return Deltas(layout=layout, trains=_all_shared)
        case "rolora":
            return Deltas(layout=layout, trains=_in_turn)
        case "fedsvd":
            layout.places  # noqa: B018  # raises where a module cannot be decomposed
            return Deltas(layout=layout, trains=_only_b, orthonormal=True)
        case "exact":
            return ExactProducts(layout=layout, silos=silos, seed=seed)


def _all_shared(_: int) -> Matrices:
    return "AB"


def _only_b(_: int) -> Matrices:
    return "B"


def _in_turn(round_number: int) -> Matrices:
    """B first: as long as B = 0, A's gradient is zero."""
    return "B" if round_number % 2 else "A"
