"""A silo's part of a round: E epochs or steps on its own records, from the adapter that the server sent (Algorithm 1).

θ_t → write → train, plainly or by DP-SGD under a plan → read − θ_t = Δ, float32[d]

Where silos share one noise (`SharedPlan`), what is returned has none yet and must go into a sum: the clipped Δ of a
silo, or the clipped gradients of one step, Σ clip(∇) / batch_size.

Where records or persons are the unit of privacy, a record is padded to a shape that follows from itself alone, and
stands in a pass of a constant number of rows: its gradient then has the same bits whoever else is drawn
(`fedcollm_privacy.blocks`).
Such training knows no dropout, in no model: a mask that follows from a record's place in a pass would move with the
other records.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from fedcollm_privacy import dpsgd
from fedcollm_privacy.plan import RecordPlan
from fedcollm_privacy.plans import TrainingPlan
from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure.config.training import LocalTraining
from fedcollm_secure.errors import TrainingError
from fedcollm_secure.learning.adapter import Adapter, Matrices
from fedcollm_secure.learning.batches import SMALLEST, TOKENS_PER_PASS, Encoder, Shape, Tokens, answer_logits, filled
from fedcollm_secure.learning.losses import cross_entropy
from fedcollm_secure.learning.optimise import (
    batch_order,
    load_optimizer,
    make_optimizer,
    make_schedule,
    save_optimizer,
    seeded,
)
from fedcollm_secure.learning.vectors import Float32

ROWS = 16
"""Rows of a pass whose shape must not tell who else is in it; one that is not full is filled up."""


def clip_vector(vector: Float32, norm: float) -> Float32:
    """Return the vector, shortened to this 2-norm where it is longer; zeros where it is not finite."""
    wide = vector.astype(np.float64)
    length = float(np.linalg.norm(wide))
    if not np.isfinite(length):
        return np.zeros_like(vector)
    return (wide * min(1.0, norm / length)).astype(np.float32) if length else vector


def both(_round_number: int) -> Matrices:
    """Train A and B in every round."""
    return "AB"


@dataclass(frozen=True, kw_only=True)
class Learner:
    """One silo's SLM, records and settings. `plan` makes its training differentially private.

    `subjects` lists each person's records, where a plan protects persons.
    `trains` says which of the shared factors a round trains (`learning.factors`); the others stay as they came.
    `gradients` says how each record's, or person's, gradient is had: what the configuration names, or `one_by_one` for
    models that need it (`learning.probe`).
    Records are best given in order of length (`length_order`): a microbatch of equals holds little padding.
    """

    adapter: Adapter
    encoder: Encoder
    records: Sequence[Tokens] = field(repr=False)
    settings: LocalTraining
    rounds: int
    seed: int
    name: str
    plan: TrainingPlan | None
    subjects: Sequence[Sequence[int]] | None = field(default=None, repr=False)
    trains: Callable[[int], Matrices] = both
    gradients: dpsgd.Gradients = "linear"
    optimizer_file: Path | None = None  # where `optimizer_state: kept` lives between rounds
    random: Callable[[int], bytes] = os.urandom  # who is sampled, and the noise; anything else is for the audit

    def update(self, start: Float32, round_number: int) -> Float32:
        """Train from `start` and return Δ = θ_k − θ_t, float32[d].

        Guarantee: with a `RecordPlan`, Δ is what `fedcollm_privacy.dpsgd.train` promises for one round of it. With a
        `SharedPlan`, one unit changes what is returned by at most `plan.tightened_clip_norm / plan.batch_size`, and an
        update that is not finite counts as zero. Without a plan, nothing.

        Raises:
            TrainingError: without a plan, a loss that is not finite; in either case, an adapter that did not move.
        """
        self.adapter.write(start)
        self.adapter.choose(self.trains(round_number))
        self.adapter.model.eval()  # plain training turns dropout on for itself
        if isinstance(self.plan, SharedPlan):
            return self._clipped_update(start, round_number, self.plan)
        optimizer = self._optimizer()
        if self.plan is None:
            self._train_plainly(optimizer, round_number)
        else:
            self._train_privately(optimizer, self.plan, round_number)
        if self.settings.optimizer_state == "kept" and self.optimizer_file is not None:
            save_optimizer(optimizer, self.optimizer_file)
        change: Float32 = self.adapter.read() - start
        if not np.isfinite(change).all():
            raise TrainingError(f"silo {self.name}: training diverged; the update is withheld. Lower learning_rate")
        if not np.any(change):
            raise TrainingError(f"silo {self.name}: training moved no weight; check lora.targets and learning_rate")
        return change

    @property
    def steps_per_round(self) -> int:
        """Return E in optimiser steps."""
        batches = -(-len(self.records) // self.settings.batch_size)
        return self.settings.steps or batches * (self.settings.epochs or 1)

    @property
    def rows(self) -> int:
        """Return how many records stand in a forward pass where they are the unit of privacy."""
        return min(self.settings.microbatch, ROWS)

    def _optimizer(self) -> Optimizer:
        settings = self.settings
        optimizer = make_optimizer(
            settings.optimizer, self.adapter.parameters, settings.learning_rate, settings.weight_decay
        )
        if settings.optimizer_state == "kept" and self.optimizer_file is not None:
            load_optimizer(optimizer, self.optimizer_file)
        return optimizer

    def _clipped_update(self, start: Float32, round_number: int, plan: SharedPlan) -> Float32:
        if plan.unit != "silo":
            return self._gradient(plan)
        optimizer = self._optimizer()
        try:
            self._train_plainly(optimizer, round_number)
        except TrainingError:  # to say so would be a release
            return np.zeros_like(start)
        return clip_vector(self.adapter.read() - start, plan.tightened_clip_norm)

    def _gradient(self, plan: SharedPlan) -> Float32:
        """Return Σ clip(∇) / batch_size over one Poisson draw, float32[d]; factors that do not train have none."""
        total = dpsgd.gradient_sum(
            model=self.adapter.model,
            parameters=self.adapter.parameters,
            clip_norm=plan.tightened_clip_norm,
            sampling_rate=plan.sampling_rate,
            population=len(self.records if self.subjects is None else self.subjects),
            losses=self._losses,
            subjects=self.subjects,
            microbatch=self.rows,
            shape_of=self._shape,
            gradients=self.gradients,
            random=self.random,
        )
        gradient: Float32 = (total / plan.batch_size).to(torch.float32).numpy()
        return gradient

    def _train_plainly(self, optimizer: Optimizer, round_number: int) -> None:
        done = (round_number - 1) * self.steps_per_round
        schedule = make_schedule(optimizer, self.settings, total_steps=self.rounds * self.steps_per_round, done=done)
        batches = self.plain_batches(round_number)
        self.adapter.model.train()
        with seeded(self.seed, f"silo {self.name}/round {round_number}/dropout", self.adapter.device):
            for step in range(1, self.steps_per_round + 1):
                self._step(optimizer, sorted(next(batches)), step)
                schedule.step()
        self.adapter.model.eval()

    def _step(self, optimizer: Optimizer, indices: Sequence[int], step: int) -> None:
        optimizer.zero_grad()
        if not np.isfinite(loss := self._accumulate(indices)):
            raise TrainingError(
                f"silo {self.name}: the loss of step {step} is not finite ({loss}), and nothing is sent. "
                "Lower silo.learning_rate, set silo.gradient_norm, or look for broken records"
            )
        if self.settings.gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.adapter.parameters, self.settings.gradient_norm)
        optimizer.step()

    def _accumulate(self, indices: Sequence[int]) -> float:
        """Add up the gradient of the batch's mean loss, a few records of like length at a time."""
        total = 0.0
        for part in self.parts(indices):
            loss = self._losses(part).sum() / len(indices)
            loss.backward()  # type: ignore[no-untyped-call] # torch's own annotation
            total += loss.item()
        return total

    def _train_privately(self, optimizer: Optimizer, plan: RecordPlan, round_number: int) -> None:
        done = (round_number - 1) * plan.steps_per_round
        schedule = make_schedule(optimizer, self.settings, total_steps=plan.rounds * plan.steps_per_round, done=done)
        dpsgd.train(
            model=self.adapter.model,
            parameters=self.adapter.parameters,
            optimizer=optimizer,
            plan=plan,
            population=len(self.records if self.subjects is None else self.subjects),
            losses=self._losses,
            subjects=self.subjects,
            microbatch=self.rows,
            shape_of=self._shape,
            gradients=self.gradients,
            random=self.random,
            progress=lambda _: schedule.step(),
        )

    def plain_batches(self, round_number: int) -> Iterator[list[int]]:
        """Yield the batches of a round's plain training, without end."""
        purpose = f"silo {self.name}/round {round_number}"
        return batch_order(len(self.records), self.settings.batch_size, seed=self.seed, purpose=purpose)

    def parts(self, indices: Sequence[int]) -> Iterator[list[int]]:
        """Yield a batch of plain training in the parts that are in memory at once, of records of like length."""
        lengths = [self.records[index].width for index in indices]
        for part in filled(lengths, TOKENS_PER_PASS, also=([1] * len(indices), self.settings.microbatch)):
            yield [indices[place] for place in part]

    def losses(self, indices: Sequence[int]) -> Tensor:
        """Return float32[B], one loss a record, as training computes them."""
        return self._losses(indices)

    def _losses(self, indices: Sequence[int]) -> Tensor:
        """Return float32[B], one loss a record; empty for no records (transformers refuses a batch of none)."""
        if not indices:
            return torch.zeros(0, requires_grad=True)
        records = [self.records[index] for index in indices]
        least = Shape.covering([self._shape(index) for index in indices]) if self._by_record else SMALLEST
        batch = self.encoder.collate(records, self.adapter.device, least)
        return cross_entropy(answer_logits(self.adapter.model, batch), batch.targets)

    @property
    def _by_record(self) -> bool:
        return self.plan is not None and self.plan.unit != "silo"

    def _shape(self, index: int) -> Shape:
        """Return the shape that a record is padded to, by itself alone."""
        return self.encoder.shape(self.records[index])
