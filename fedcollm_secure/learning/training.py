"""A silo's part of a round: E epochs or steps on its own records, from the adapter that the server sent (Algorithm 1).

θ_t → write → train, plainly or by DP-SGD under a plan → read − θ_t = Δ, float32[d]
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.optim import Optimizer

from fedcollm_privacy import dpsgd
from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.config.training import LocalTraining
from fedcollm_secure.errors import TrainingError
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.batches import Encoder, Tokens, answer_logits
from fedcollm_secure.learning.losses import cross_entropy
from fedcollm_secure.learning.optimise import (
    batch_order,
    load_optimizer,
    make_optimizer,
    make_schedule,
    save_optimizer,
)
from fedcollm_secure.learning.vectors import Float32


@dataclass(frozen=True, kw_only=True)
class Learner:
    """One silo's SLM, records and settings. `plan` makes its training differentially private.

    Records are best given in order of length (`by_length`): a microbatch of equals holds little padding.
    """

    adapter: Adapter
    encoder: Encoder
    records: Sequence[Tokens] = field(repr=False)
    settings: LocalTraining
    rounds: int
    seed: int
    name: str
    plan: RecordPlan | None
    optimizer_file: Path | None = None  # where `optimizer_state: kept` lives between rounds

    def update(self, start: Float32, round_number: int) -> Float32:
        """Train from `start` and return Δ = θ_k − θ_t, float32[d].

        Guarantee: with a plan, Δ is what `fedcollm_privacy.dpsgd.train` promises for one round of it; without one,
        nothing.

        Raises:
            TrainingError: without a plan, a loss that is not finite; in either case, an adapter that did not move.
        """
        self.adapter.write(start)
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

    def _optimizer(self) -> Optimizer:
        settings = self.settings
        optimizer = make_optimizer(
            settings.optimizer, self.adapter.parameters, settings.learning_rate, settings.weight_decay
        )
        if settings.optimizer_state == "kept" and self.optimizer_file is not None:
            load_optimizer(optimizer, self.optimizer_file)
        return optimizer

    def _train_plainly(self, optimizer: Optimizer, round_number: int) -> None:
        done = (round_number - 1) * self.steps_per_round
        schedule = make_schedule(optimizer, self.settings, total_steps=self.rounds * self.steps_per_round, done=done)
        batches = batch_order(
            len(self.records),
            self.settings.batch_size,
            seed=self.seed,
            purpose=f"silo {self.name}/round {round_number}",
        )
        self.adapter.model.train()
        for step in range(1, self.steps_per_round + 1):
            optimizer.zero_grad()
            if not np.isfinite(loss := self._accumulate(sorted(next(batches)))):
                raise TrainingError(
                    f"silo {self.name}: the loss of step {step} is not finite ({loss}), and nothing is sent. "
                    "Lower silo.learning_rate, set silo.gradient_norm, or look for broken records"
                )
            if self.settings.gradient_norm is not None:
                torch.nn.utils.clip_grad_norm_(self.adapter.parameters, self.settings.gradient_norm)
            optimizer.step()
            schedule.step()
        self.adapter.model.eval()

    def _accumulate(self, indices: Sequence[int]) -> float:
        """Add up the gradient of the batch's mean loss, a microbatch at a time."""
        size, total = self.settings.microbatch, 0.0
        for start in range(0, len(indices), size):
            loss = self._losses(indices[start : start + size]).sum() / len(indices)
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
            population=len(self.records),
            losses=self._losses,
            microbatch=self.settings.microbatch,
            progress=lambda _: schedule.step(),
        )

    def _losses(self, indices: Sequence[int]) -> Tensor:
        """Return float32[B], one loss a record; empty for no records (transformers refuses a batch of none)."""
        if not indices:
            return torch.zeros(0, requires_grad=True)
        device = self.adapter.parameters[0].device
        batch = self.encoder.collate([self.records[index] for index in indices], device)
        return cross_entropy(answer_logits(self.adapter.model, batch), batch.targets)
