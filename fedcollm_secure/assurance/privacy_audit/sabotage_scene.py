"""Who trains, in which round and by which optimiser: what a sabotage looks at before it strikes."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Protocol, cast
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from fedcollm_privacy import dpsgd
from fedcollm_privacy.per_record import Taps
from fedcollm_secure.federation import contribution
from fedcollm_secure.learning.training import Learner
from fedcollm_secure.learning.vectors import Float32

Float64 = NDArray[np.float64]
Randomness = Callable[[int], bytes]
Change = Callable[[Float64, float], Float64]
"""Return what becomes of float64[d] of noise, given its standard deviation."""


@dataclass(kw_only=True)
class Scene:
    """`silo`: one that is not the largest. `step`: of the present round, from 1; `batch`: units drawn for it."""

    silo: str
    learner: Learner | None = None
    round: int = 0
    step: int = 0
    batch: int = 0

    @property
    def optimizer(self) -> str:
        """Return what the configuration names; the tests of the sampler alone have a plain one."""
        return "sgd" if self.learner is None else self.learner.settings.optimizer

    @property
    def sizes(self) -> list[int]:
        """Return the size of each tensor that trains."""
        return [] if self.learner is None else [each.numel() for each in self.learner.adapter.parameters]


def follow(stack: ExitStack, scene: Scene) -> None:
    """Keep the scene up to date until `stack` closes."""
    update, sample = Learner.update, sampler()

    def updating(learner: Learner, start: Float32, round_number: int) -> Float32:
        scene.learner, scene.round, scene.step = learner, round_number, 0
        return update(learner, start, round_number)

    def sampling(population: int, rate: float, random: Randomness) -> list[int]:
        drawn = sample(population, rate, random)
        scene.step, scene.batch = scene.step + 1, len(drawn)
        return drawn

    stack.enter_context(patch.object(Learner, "update", updating))
    stack.enter_context(patch.object(dpsgd, "poisson_sample", sampling))


def change_noise(stack: ExitStack, change: Change) -> None:
    """Let `change` have all noise: a step's, and a silo's share."""
    whole = cast(Callable[[Sequence[int], float, Randomness], Tensor], vars(dpsgd)["gaussian"])
    share = cast(Callable[[int, int], NDArray[np.int64]], vars(contribution)["discrete_gaussian"])

    def changed(shape: Sequence[int], std: float, random: Randomness) -> Tensor:
        return torch.from_numpy(change(whole(shape, std, random).numpy().ravel(), std)).reshape(tuple(shape))

    def changed_share(length: int, variance: int) -> NDArray[np.int64]:
        drawn = share(length, variance).astype(np.float64)
        return np.rint(change(drawn, variance**0.5)).astype(np.int64)

    stack.enter_context(patch.object(dpsgd, "gaussian", changed))
    stack.enter_context(patch.object(contribution, "discrete_gaussian", changed_share))


def silence(stack: ExitStack, when: Callable[[], bool]) -> None:
    """Add no noise at all, when it is time."""
    change_noise(stack, lambda noise, _: np.zeros_like(noise) if when() else noise)


def sampler() -> Callable[[int, float, Randomness], list[int]]:
    """Return the sampler as it is now, broken or not."""
    return cast(Callable[[int, float, Randomness], list[int]], vars(dpsgd)["poisson_sample"])


class Clip(Protocol):
    """`fedcollm_privacy.per_record.clipped_sum`."""

    def __call__(
        self, losses: Tensor, taps: Taps, clip_norm: float, *, unit_sizes: Sequence[int] | None = None
    ) -> dict[Tensor, Tensor]:
        """Return the clipped sum of each parameter."""
        ...


def clipping() -> Clip:
    """Return the clipping as it is now, broken or not."""
    return cast(Clip, vars(dpsgd)["clipped_sum"])
