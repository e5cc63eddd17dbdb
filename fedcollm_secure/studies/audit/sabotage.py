"""Ways to break DP-SGD as a careless change would, for as long as a block runs: the audit must see each of them.

They replace parts of the training path in this process, so that the path itself has no switch for them.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import cast
from unittest.mock import patch

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from fedcollm_privacy import dpsgd
from fedcollm_privacy.discrete import discrete_gaussian
from fedcollm_privacy.ledger import Ledger
from fedcollm_privacy.noise import gaussian
from fedcollm_privacy.per_record import Taps, clipped_sum
from fedcollm_privacy.plans import TrainingPlan
from fedcollm_privacy.sampling import poisson_sample
from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.federation import silo
from fedcollm_secure.federation.pending import Kept, Pending
from fedcollm_secure.learning import training
from fedcollm_secure.learning.vectors import Float32

UNCLIPPED = 1e9
Randomness = Callable[[int], bytes]


def _no_noise(stack: ExitStack) -> None:
    """Add zeros."""

    def silent(shape: Sequence[int], _std: float, _random: Randomness) -> Tensor:
        return _zeros(shape)

    def no_share(length: int, _variance: int) -> NDArray[np.int64]:
        return np.zeros(length, dtype=np.int64)

    stack.enter_context(patch.object(dpsgd, "gaussian", silent))
    stack.enter_context(patch.object(silo, "discrete_gaussian", no_share))


def _small_share(stack: ExitStack) -> None:
    """Divide the variance by the cohort once more, as if the plan's were that of the whole noise."""
    share_variance = cast(Callable[[SharedPlan], int], SharedPlan.__dict__["share_variance"].fget)

    def divided(plan: SharedPlan) -> int:
        return max(9, share_variance(plan) // plan.silos)

    stack.enter_context(patch.object(SharedPlan, "share_variance", property(divided)))


def _redraw(stack: ExitStack) -> None:
    """Draw noise afresh where a round is asked for again, and let the ledger say nothing to that."""
    read = Pending.read

    def forgetful(pending: Pending, version: str) -> Kept | None:
        kept = read(pending, version)
        return kept and replace(kept, vectors={})

    def indulgent(ledger: Ledger, *, session: str, round: int, digest: str) -> None:  # noqa: A002  # the ledger's word
        release(ledger, session=session, round=round, digest=digest[:0] + "0" * 64)

    release = Ledger.release
    stack.enter_context(patch.object(Pending, "read", forgetful))
    stack.enter_context(patch.object(Ledger, "release", indulgent))


def _no_clip(stack: ExitStack) -> None:
    """Clip to a norm that nothing reaches."""

    def unclipped(
        losses: Tensor, taps: Taps, _clip_norm: float, *, unit_sizes: Sequence[int] | None = None
    ) -> dict[Tensor, Tensor]:
        return clipped_sum(losses, taps, UNCLIPPED, unit_sizes=unit_sizes)

    def as_it_is(vector: Float32, _norm: float) -> Float32:
        return vector

    stack.enter_context(patch.object(dpsgd, "clipped_sum", unclipped))
    stack.enter_context(patch.object(training, "clip_vector", as_it_is))


def _by_record(stack: ExitStack) -> None:
    """Clip each record of a person, and add them up."""

    def each_record(
        losses: Tensor, taps: Taps, clip_norm: float, *, unit_sizes: Sequence[int] | None = None
    ) -> dict[Tensor, Tensor]:
        del unit_sizes
        return clipped_sum(losses, taps, clip_norm)

    stack.enter_context(patch.object(dpsgd, "clipped_sum", each_record))


def _batch_mean(stack: ExitStack) -> None:
    """Take the loss that transformers compute from labels, and take away the check that would refuse it."""

    def blind(_losses: Tensor, _taps: Taps) -> bool:
        return False

    stack.enter_context(patch.object(training, "cross_entropy", batch_mean))
    stack.enter_context(patch.object(dpsgd, "couples_records", blind))


def _skip_empty(stack: ExitStack) -> None:
    """Let a batch of nobody change nothing: it gets no noise."""
    drawn = list[int]()

    def remembered(population: int, rate: float, random: Randomness) -> list[int]:
        drawn[:] = poisson_sample(population, rate, random)
        return list(drawn)

    def skipped(shape: Sequence[int], std: float, random: Randomness) -> Tensor:
        return gaussian(shape, std, random) if drawn else _zeros(shape)

    def skipped_share(length: int, variance: int) -> NDArray[np.int64]:
        return discrete_gaussian(length, variance) if drawn else np.zeros(length, dtype=np.int64)

    stack.enter_context(patch.object(dpsgd, "poisson_sample", remembered))
    stack.enter_context(patch.object(silo, "discrete_gaussian", skipped_share))
    stack.enter_context(patch.object(dpsgd, "gaussian", skipped))


_WAYS: Mapping[str, Callable[[ExitStack], None]] = {
    "skipempty": _skip_empty,  # before nonoise, which also speaks for the noise
    "nonoise": _no_noise,
    "recordunit": _by_record,  # before noclip, which clips neither
    "noclip": _no_clip,
    "hfloss": _batch_mean,
    "smallshare": _small_share,
    "redraw": _redraw,
}
SABOTAGES = tuple(_WAYS)


def check_sabotages(names: Sequence[str], plan: TrainingPlan) -> None:
    """Refuse a name that is unknown, or that breaks nothing under this plan. Raises: ConfigError."""
    shared = isinstance(plan, SharedPlan)
    useless = {"skipempty", "hfloss"} if plan.unit == "silo" else set[str]()
    useless |= set[str]() if plan.unit == "subject" else {"recordunit"}
    useless |= set[str]() if shared else {"smallshare", "redraw"}
    possible = [name for name in SABOTAGES if name not in useless]
    if wrong := [name for name in names if name not in possible]:
        expected = f"expected some of {', '.join(possible)} for this kind of privacy"
        raise ConfigError("--sabotage", f"{expected}, got {', '.join(wrong)}")


@contextmanager
def sabotaged(names: Sequence[str]) -> Generator[None]:
    """Break the training path of this process in these ways, together, until the block ends."""
    with ExitStack() as stack:
        for name, way in _WAYS.items():
            if name in names:
                way(stack)
        yield


def batch_mean(logits: Tensor, targets: Tensor) -> Tensor:
    """Return float32[B]: for each record the mean over all answer tokens of the batch, which couples the records."""
    mean = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=-100)
    return mean.expand(len(targets))


def _zeros(shape: Sequence[int]) -> Tensor:
    return torch.zeros(tuple(shape), dtype=torch.float64)
