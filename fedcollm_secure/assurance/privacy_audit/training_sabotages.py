"""Ways to let a record say more than its noise hides: no clipping or another one, coupled, repeated, over-drawn."""

import itertools
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from unittest.mock import patch

import torch
from torch import Tensor
from torch.nn import functional as F

from fedcollm_privacy import dpsgd, per_record
from fedcollm_privacy.clipping import clip_factors
from fedcollm_privacy.ledger import Ledger
from fedcollm_privacy.noise import gaussian
from fedcollm_privacy.per_record import Taps
from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.assurance.privacy_audit.sabotage_scene import Randomness, Scene, clipping, sampler, silence
from fedcollm_secure.federation.open_round import Kept, Pending
from fedcollm_secure.learning import training
from fedcollm_secure.learning.data import Record, holdings
from fedcollm_secure.learning.data.held_out import set_apart
from fedcollm_secure.learning.training import Learner
from fedcollm_secure.learning.vectors import Float32

UNCLIPPED = 1e9
GROUP = 8
RATE = 2.0
LEAKED = 0.01


def no_clip(stack: ExitStack, _scene: Scene) -> None:
    """Clip to a norm that nothing reaches."""
    clipped = clipping()

    def unclipped(
        losses: Tensor, taps: Taps, _clip_norm: float, *, unit_sizes: Sequence[int] | None = None
    ) -> dict[Tensor, Tensor]:
        return clipped(losses, taps, UNCLIPPED, unit_sizes=unit_sizes)

    def as_it_is(vector: Float32, _norm: float) -> Float32:
        return vector

    stack.enter_context(patch.object(dpsgd, "clipped_sum", unclipped))
    stack.enter_context(patch.object(training, "clip_vector", as_it_is))


def by_record(stack: ExitStack, _scene: Scene) -> None:
    """Clip each record of a person, and add them up."""
    clipped = clipping()

    def each_record(
        losses: Tensor, taps: Taps, clip_norm: float, *, unit_sizes: Sequence[int] | None = None
    ) -> dict[Tensor, Tensor]:
        del unit_sizes
        return clipped(losses, taps, clip_norm)

    stack.enter_context(patch.object(dpsgd, "clipped_sum", each_record))


def by_group(stack: ExitStack, _scene: Scene) -> None:
    """Where more than GROUP units come at once, clip the mean of each GROUP of them, and count it as often."""
    clipped = clipping()

    def grouped(
        losses: Tensor, taps: Taps, clip_norm: float, *, unit_sizes: Sequence[int] | None = None
    ) -> dict[Tensor, Tensor]:
        sizes = [1] * len(losses) if unit_sizes is None else list(unit_sizes)
        if len(sizes) <= GROUP:
            return clipped(losses, taps, clip_norm, unit_sizes=unit_sizes)
        groups = [sum(sizes[first : first + GROUP]) for first in range(0, len(sizes), GROUP)]
        found = clipped(losses, taps, clip_norm, unit_sizes=groups)
        return {tensor: total * GROUP for tensor, total in found.items()}

    stack.enter_context(patch.object(dpsgd, "clipped_sum", grouped))


def by_layer(stack: ExitStack, _scene: Scene) -> None:
    """Clip each layer's gradient to C by itself."""
    clipped = clipping()

    def each_layer(
        losses: Tensor, taps: Taps, clip_norm: float, *, unit_sizes: Sequence[int] | None = None
    ) -> dict[Tensor, Tensor]:
        found = dict[Tensor, Tensor]()
        with patch.object(torch.autograd, "grad", partial(torch.autograd.grad, retain_graph=True)):
            for name, layer in taps.layers.items():
                alone = Taps(layers={name: layer}, uses={name: taps.uses.get(name, [])})
                found |= clipped(losses, alone, clip_norm, unit_sizes=unit_sizes)
        return found

    stack.enter_context(patch.object(dpsgd, "clipped_sum", each_layer))


def noise_first(stack: ExitStack, _scene: Scene) -> None:
    """Add the noise to the sum of gradients, clip that, and add none afterwards."""
    clipped = clipping()

    def noisy(
        losses: Tensor, taps: Taps, clip_norm: float, *, unit_sizes: Sequence[int] | None = None
    ) -> dict[Tensor, Tensor]:
        found = clipped(losses, taps, UNCLIPPED, unit_sizes=unit_sizes)
        added = {each: total + gaussian(tuple(total.shape), clip_norm).to(total) for each, total in found.items()}
        length = sum(float(total.square().sum()) for total in added.values()) ** 0.5
        return {each: total * min(1.0, clip_norm / length) for each, total in added.items()}

    stack.enter_context(patch.object(dpsgd, "clipped_sum", noisy))
    silence(stack, lambda: True)


def mean_of_batch(stack: ExitStack, _scene: Scene) -> None:
    """Take the loss that transformers compute from labels, and take away the check that would refuse it."""

    def blind(_losses: Tensor, _taps: Taps) -> bool:
        return False

    stack.enter_context(patch.object(training, "cross_entropy", batch_mean))
    stack.enter_context(patch.object(dpsgd, "couples_records", blind))


def duplicates(stack: ExitStack, _scene: Scene) -> None:
    """Hold every record of a silo twice."""

    def twice(
        silos: Mapping[str, Sequence[Record]], *, share: float, seed: int
    ) -> tuple[dict[str, Sequence[Record]], dict[str, Sequence[Record]]]:
        return set_apart({name: [*each, *each] for name, each in silos.items()}, share=share, seed=seed)

    stack.enter_context(patch.object(holdings, "set_apart", twice))


def other_rate(stack: ExitStack, scene: Scene) -> None:
    """Draw RATE times as often as planned, in one silo."""
    sample = sampler()

    def often(population: int, rate: float, random: Randomness) -> list[int]:
        here = scene.learner is not None and scene.learner.name == scene.silo
        return sample(population, min(1.0, RATE * rate) if here else rate, random)

    stack.enter_context(patch.object(dpsgd, "poisson_sample", often))


def same_batches(stack: ExitStack, scene: Scene) -> None:
    """Draw the batches of a silo's first round, and take them in every round."""
    sample, kept = sampler(), dict[tuple[str, int, int], list[int]]()

    def remembered(population: int, rate: float, random: Randomness) -> list[int]:
        if scene.learner is None:
            return sample(population, rate, random)
        drawn = sample(population, rate, random)
        return list(kept.setdefault((scene.learner.name, scene.step, population), drawn))

    stack.enter_context(patch.object(dpsgd, "poisson_sample", remembered))


def at_the_edge(stack: ExitStack, scene: Scene) -> None:
    """Count the last record of a full microbatch twice, as an index that is off by one does."""
    clipped = clipping()

    def overlapping(
        losses: Tensor, taps: Taps, clip_norm: float, *, unit_sizes: Sequence[int] | None = None
    ) -> dict[Tensor, Tensor]:
        full = scene.learner is not None and len(losses) == scene.learner.rows
        twice = torch.ones_like(losses)
        twice[-1] = 2.0 if full and unit_sizes is None else 1.0
        with patch.object(per_record, "clip_factors", _times(twice)):
            return clipped(losses, taps, clip_norm, unit_sizes=unit_sizes)

    stack.enter_context(patch.object(dpsgd, "clipped_sum", overlapping))


def _times(factor: Tensor) -> Callable[..., Tensor]:
    def factors(squared_norms: Tensor, clip_norm: float, *, usable: Tensor | None = None) -> Tensor:
        found = clip_factors(squared_norms, clip_norm, usable=usable)
        return found * factor.detach().to(found) if len(found) == len(factor) else found

    return factors


def extra_step(stack: ExitStack, _scene: Scene) -> None:
    """Take one step more than is priced."""
    train = Learner._train_privately  # pyright: ignore[reportPrivateUsage]  # a sabotage stops at nothing

    def longer(learner: Learner, optimizer: torch.optim.Optimizer, plan: RecordPlan, round_number: int) -> None:
        more = replace(plan, steps_per_round=plan.steps_per_round + 1, epsilon=1e30)
        train(learner, optimizer, more, round_number)

    stack.enter_context(patch.object(Learner, "_train_privately", longer))


def side_step(stack: ExitStack, _scene: Scene) -> None:
    """Move the weights a little by a gradient without noise, past the optimiser."""
    train = Learner._train_privately  # pyright: ignore[reportPrivateUsage]  # a sabotage stops at nothing

    def leaking(learner: Learner, optimizer: torch.optim.Optimizer, plan: RecordPlan, round_number: int) -> None:
        train(learner, optimizer, plan, round_number)
        slopes = torch.autograd.grad(learner._losses([0])[0], learner.adapter.parameters)  # pyright: ignore[reportPrivateUsage]
        with torch.no_grad():
            for parameter, slope in zip(learner.adapter.parameters, slopes, strict=True):
                parameter.sub_(LEAKED * plan.clip_norm * slope / (slope.norm() + 1e-30))

    stack.enter_context(patch.object(Learner, "_train_privately", leaking))


def redraw(stack: ExitStack, _scene: Scene) -> None:
    """Draw noise afresh where a round is asked for again, and let the ledger say nothing to that."""
    read, release, numbers = Pending.read, Ledger.release, itertools.repeat("0" * 64)

    def forgetful(pending: Pending, version: str) -> Kept | None:
        kept = read(pending, version)
        return kept and replace(kept, vectors={})

    def indulgent(ledger: Ledger, *, session: str, round: int, digest: str) -> None:  # noqa: A002  # the ledger's word
        release(ledger, session=session, round=round, digest=digest[:0] + next(numbers))

    stack.enter_context(patch.object(Pending, "read", forgetful))
    stack.enter_context(patch.object(Ledger, "release", indulgent))


def batch_mean(logits: Tensor, targets: Tensor) -> Tensor:
    """Return float32[B]: for each record the mean over all answer tokens of the batch, which couples the records."""
    mean = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=-100)
    return mean.expand(len(targets))


TRAINING_WAYS: Mapping[str, Callable[[ExitStack, Scene], None]] = {
    "noisefirst": noise_first,
    "groupclip": by_group,
    "layerclip": by_layer,
    "recordunit": by_record,
    "noclip": no_clip,  # after those that clip otherwise
    "hfloss": mean_of_batch,
    "duplicates": duplicates,
    "otherrate": other_rate,
    "samebatches": same_batches,
    "edge": at_the_edge,
    "extrastep": extra_step,
    "sidestep": side_step,
    "redraw": redraw,
}
