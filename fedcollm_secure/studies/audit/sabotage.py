"""Ways to break DP-SGD as a careless change would, for as long as a block runs: the audit must see each of them.

They replace parts of the training path in this process, so that the path itself has no switch for them.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F

from fedcollm_privacy import dpsgd
from fedcollm_privacy.noise import gaussian
from fedcollm_privacy.per_record import Taps, clipped_sum
from fedcollm_privacy.plan import RecordPlan
from fedcollm_privacy.sampling import poisson_sample
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning import training

UNCLIPPED = 1e9
Randomness = Callable[[int], bytes]


def _no_noise(stack: ExitStack) -> None:
    """Add zeros."""

    def silent(shape: Sequence[int], _std: float, _random: Randomness) -> Tensor:
        return _zeros(shape)

    stack.enter_context(patch.object(dpsgd, "gaussian", silent))


def _no_clip(stack: ExitStack) -> None:
    """Clip to a norm that nothing reaches."""

    def unclipped(
        losses: Tensor, taps: Taps, _clip_norm: float, *, unit_sizes: Sequence[int] | None = None
    ) -> dict[Tensor, Tensor]:
        return clipped_sum(losses, taps, UNCLIPPED, unit_sizes=unit_sizes)

    stack.enter_context(patch.object(dpsgd, "clipped_sum", unclipped))


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

    stack.enter_context(patch.object(dpsgd, "poisson_sample", remembered))
    stack.enter_context(patch.object(dpsgd, "gaussian", skipped))


_WAYS: Mapping[str, Callable[[ExitStack], None]] = {
    "skipempty": _skip_empty,  # before nonoise, which also speaks for the noise
    "nonoise": _no_noise,
    "recordunit": _by_record,  # before noclip, which clips neither
    "noclip": _no_clip,
    "hfloss": _batch_mean,
}
SABOTAGES = tuple(_WAYS)


def check_sabotages(names: Sequence[str], plan: RecordPlan) -> None:
    """Refuse a name that is unknown, or that breaks nothing under this plan. Raises: ConfigError."""
    possible = [name for name in SABOTAGES if name != "recordunit" or plan.unit == "subject"]
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
