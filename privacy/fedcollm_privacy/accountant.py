"""What an event costs: accountants turn a ledger of events into ε at a given δ, or refuse.

An event is first flattened to its leaves (`NonPrivate`, `Gaussian`, `PoissonGaussian`), with equal (q, σ) merged, so
that composing n times and composing once with count n are the same computation. All bounds hold for both directions of
the add-or-remove-one relation.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from typing import Protocol

import dp_accounting
from dp_accounting.pld.privacy_loss_distribution import PrivacyLossDistribution, from_gaussian_mechanism
from dp_accounting.rdp import RdpAccountant as _DpRDP

from fedcollm_privacy import validate
from fedcollm_privacy.errors import UnsupportedEvent
from fedcollm_privacy.event import Composed, Event, Gaussian, NonPrivate, NoOp, PoissonGaussian, Repeated

# The grid of the privacy loss: a coarser grid gives a larger, still valid ε (pessimistic rounding).
COARSE_INTERVAL = 1e-3
FINE_INTERVAL = 1e-4
# Below this ε the coarse grid is visible (0.060 for 0.046 at q=0.01, σ=20, 1000 steps); the fine one is fast there.
_FINE_BELOW = 0.5
# Above this ε nobody needs a tight figure, and the PLD's grid would fill the memory: the RDP bound is returned instead.
_RDP_ABOVE = 100.0
# Integer orders only: the series for fractional orders does not always converge.
_RDP_ORDERS = (*range(2, 65), 72, 80, 96, 128, 192, 256, 512, 1024)


@dataclass(frozen=True, kw_only=True)
class Spent:
    """One line of an accountant's ledger: `event`, run `count` times."""

    event: Event
    count: int


@dataclass(frozen=True, kw_only=True, order=True)
class Step:
    """The kind of one noisy step: Poisson rate q = `sampling_rate` (1 is no sampling) and σ = `noise_multiplier`."""

    sampling_rate: float
    noise_multiplier: float


class Accountant(Protocol):
    """Price events. Every accountant passes the contract in `tests/privacy/test_accountant.py`."""

    @property
    def ledger(self) -> tuple[Spent, ...]:
        """All that was spent, in order."""
        ...

    def spend(self, event: Event, count: int = 1) -> None:
        """Compose `event`, run `count` ≥ 0 times. Raises: `UnsupportedEvent` naming the sub-event it cannot price."""
        ...

    def epsilon(self, delta: float) -> float:
        """Return ε such that all that was spent is (ε, δ)-DP; infinity when something was not private."""
        ...


class PLDAccountant:
    """Price by the privacy loss distribution (Koskela et al. 2020; Doroshenko et al. 2022), as dp-accounting builds it.

    Guarantee: `epsilon(delta)` is an upper bound of the true ε for events fixed in advance, because privacy losses are
    rounded up to the grid and truncated mass is charged as infinite loss. This is the accountant that is enforced.
    """

    def __init__(self) -> None:
        """Start with nothing spent."""
        self._spent: list[Spent] = []
        self._leaves = _Leaves()

    @property
    def ledger(self) -> tuple[Spent, ...]:
        """All that was spent, in order."""
        return tuple(self._spent)

    def spend(self, event: Event, count: int = 1) -> None:
        """Compose `event`, run `count` ≥ 0 times. Raises: `UnsupportedEvent`."""
        self._leaves.add(event, count, accountant="PLDAccountant")
        self._spent.append(Spent(event=event, count=count))

    def epsilon(self, delta: float) -> float:
        """Return a tight upper bound of ε at `delta` in (0, 1)."""
        validate.probability(delta=delta)
        return math.inf if self._leaves.non_private else pld_epsilon(self._leaves.steps(), delta)


class RDPAccountant:
    """Price by Rényi DP (Mironov 2017; Mironov, Talwar, Zhang 2019): looser than PLD, derived independently.

    Guarantee: as `PLDAccountant`. Used as a cross-check and where ε is so large that a tight figure has no meaning.
    """

    def __init__(self) -> None:
        """Start with nothing spent."""
        self._spent: list[Spent] = []
        self._leaves = _Leaves()

    @property
    def ledger(self) -> tuple[Spent, ...]:
        """All that was spent, in order."""
        return tuple(self._spent)

    def spend(self, event: Event, count: int = 1) -> None:
        """Compose `event`, run `count` ≥ 0 times. Raises: `UnsupportedEvent`."""
        self._leaves.add(event, count, accountant="RDPAccountant")
        self._spent.append(Spent(event=event, count=count))

    def epsilon(self, delta: float) -> float:
        """Return an upper bound of ε at `delta` in (0, 1)."""
        validate.probability(delta=delta)
        return math.inf if self._leaves.non_private else rdp_epsilon(self._leaves.steps(), delta)


@lru_cache(maxsize=4096)
def pld_epsilon(steps: tuple[tuple[Step, int], ...], delta: float) -> float:
    """Return the PLD bound for (kind of step, how many) pairs, each kind once; see `PLDAccountant`."""
    coarse_guess = rdp_epsilon(steps, delta)
    if coarse_guess == 0 or coarse_guess > _RDP_ABOVE:
        return coarse_guess
    # Where noise is small the losses of a step lie far apart, and a fine grid of them would take seconds.
    noisy = min(step.noise_multiplier for step, _ in steps) >= 1
    interval = FINE_INTERVAL if coarse_guess < _FINE_BELOW and noisy else COARSE_INTERVAL
    losses = [_losses(step, count, interval) for step, count in steps]
    return float(reduce(lambda one, other: one.compose(other), losses).get_epsilon_for_delta(delta))


def _losses(step: Step, count: int, interval: float) -> PrivacyLossDistribution:
    """Return the privacy losses of so many steps, as dp-accounting's own accountant composes them."""
    if step.sampling_rate == 1:
        return _one_step(replace(step, noise_multiplier=step.noise_multiplier / math.sqrt(count)), interval)
    return _one_step(step, interval).self_compose(count)


@lru_cache(maxsize=64)
def _one_step(step: Step, interval: float) -> PrivacyLossDistribution:
    """Return the privacy losses of one step; a run asks for the same one after every round."""
    return from_gaussian_mechanism(
        step.noise_multiplier,
        value_discretization_interval=interval,
        sampling_prob=step.sampling_rate,
        neighboring_relation=dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE,
    )


@lru_cache(maxsize=4096)
def rdp_epsilon(steps: tuple[tuple[Step, int], ...], delta: float) -> float:
    """Return the RDP bound for (kind of step, how many) pairs, each kind once; see `RDPAccountant`."""
    if not steps:
        return 0.0
    accountant = _DpRDP(_RDP_ORDERS, dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE)
    for step, count in steps:
        accountant.compose(_dp_event(step), count)
    return float(accountant.get_epsilon(delta))


class _Leaves:
    """The leaves of all spent events: how many steps of each kind, and whether anything was not private."""

    def __init__(self) -> None:
        self.non_private = False
        self._counts: Counter[Step] = Counter()

    def add(self, event: Event, count: int, *, accountant: str) -> None:
        validate.integer(count=count, at_least=0)
        # Listed before anything is counted: an event that is refused leaves the accountant as it was.
        leaves = list(_leaves_of(event, count, accountant))
        for step, times in leaves:
            if times and step is None:
                self.non_private = True
            elif times and step is not None:
                self._counts[step] += times

    def steps(self) -> tuple[tuple[Step, int], ...]:
        return tuple(sorted(self._counts.items()))


def _leaves_of(event: Event, count: int, accountant: str) -> Iterator[tuple[Step | None, int]]:
    """Yield (kind of step, how many) for each leaf; None stands for a mechanism without privacy."""
    match event:
        case NoOp():
            return
        case NonPrivate():
            yield None, count
        case Gaussian():
            yield Step(sampling_rate=1.0, noise_multiplier=event.noise_multiplier), count
        case PoissonGaussian():
            kind = Step(sampling_rate=event.sampling_rate, noise_multiplier=event.noise_multiplier)
            yield kind, count * event.steps
        case Composed():
            for each in event.events:
                yield from _leaves_of(each, count, accountant)
        case Repeated():
            yield from _leaves_of(event.event, count * event.count, accountant)
        case _:
            raise UnsupportedEvent(accountant=accountant, event=repr(event))


def _dp_event(step: Step) -> dp_accounting.DpEvent:
    gaussian = dp_accounting.GaussianDpEvent(step.noise_multiplier)
    if step.sampling_rate == 1:
        return gaussian
    return dp_accounting.PoissonSampledDpEvent(step.sampling_rate, gaussian)
