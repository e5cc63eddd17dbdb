"""The server's part of a round: LLM and SLM teach each other on the auxiliary set (Algorithm 1, lines r = 1..R).

    L^f = CE(f) + λ·KL(g ‖ f)   for the LLM's adapter ω        f: LLM, g: SLM; in each KL the first is the teacher,
    L^g = CE(g) + λ·KL(f ‖ g)   for the SLM's adapter θ        detached

Both steps of one r start from the same pair of models: interleaved and simultaneous, never one after the other.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from fedcollm_secure.config.training import Distillation
from fedcollm_secure.errors import TrainingError
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.batches import TOKENS_PER_PASS, Batch, Encoder, Tokens, answer_logits, filled
from fedcollm_secure.learning.losses import cross_entropy
from fedcollm_secure.learning.optimise import (
    batch_order,
    load_optimizer,
    make_optimizer,
    make_schedule,
    save_optimizer,
    seeded,
)
from fedcollm_secure.learning.two_tokenizers import Aligned, Both, both


@dataclass(kw_only=True)
class Side:
    """One of the two models with its optimiser."""

    name: Literal["llm", "slm"]
    adapter: Adapter
    optimizer: Optimizer
    schedule: LambdaLR
    learns_from_other: bool

    def logits(self, batch: Batch) -> Tensor:
        """Return float32[B, K, V], with gradients."""
        return answer_logits(self.adapter.model, batch)

    def add_gradient(self, loss: Tensor) -> None:
        """Back-propagate a part of a batch's loss.

        Raises:
            TrainingError: the loss is not finite; the weights stay as they were.
        """
        if not torch.isfinite(loss):
            raise TrainingError(f"distillation: the {self.name}'s loss is not finite; lower distill.learning_rate")
        loss.backward()  # type: ignore[no-untyped-call] # torch's own annotation

    def step(self, gradient_norm: float | None) -> None:
        """Take one optimiser step with the gradient added up so far, and forget it."""
        if gradient_norm is not None:
            torch.nn.utils.clip_grad_norm_(self.adapter.parameters, gradient_norm)
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.schedule.step()


@dataclass(frozen=True, kw_only=True)
class CoTuning:
    """The pair, the auxiliary records and the settings of eq. 5–6."""

    llm: Adapter
    slm: Adapter
    encoder: Encoder
    records: Sequence[Tokens] = field(repr=False)
    settings: Distillation
    rounds: int
    seed: int
    optimizer_folder: Path | None = None  # where `optimizer_state: kept` lives between rounds
    aligned: Aligned | None = field(default=None, repr=False)  # where the LLM has a tokenizer of its own

    def run(self, round_number: int) -> None:
        """Take R simultaneous steps on both adapters.

        Guarantee: it reads the auxiliary set and the two models alone, so for the silos' records it is
        post-processing of the aggregate and costs no ε.

        Raises:
            TrainingError: a loss is not finite.
        """
        llm, slm = self._side("llm", self.llm, round_number), self._side("slm", self.slm, round_number)
        batches = self.batches(round_number)
        for side in (llm, slm):
            side.adapter.model.train()
        with self._dropout(round_number):
            for _ in range(self.settings.steps):
                self._step(llm, slm, next(batches))
        for side in (llm, slm):
            side.adapter.model.eval()
            self._keep(side)

    @torch.no_grad()
    def slm_loss(self) -> float:
        """Return the SLM's mean cross-entropy over all auxiliary records, in nats."""
        self.slm.model.eval()
        everything = range(len(self.records))
        parts = [part.slm for part in self._parts(everything)]
        losses = [cross_entropy(answer_logits(self.slm.model, part), part.targets) for part in parts]
        return float(torch.cat(losses).mean())

    def tune_llm(self) -> None:
        """Take R steps of cross-entropy on the LLM alone: the `centralized` baseline, not a part of Algorithm 1.

        Raises:
            TrainingError: a loss is not finite.
        """
        side, batches = self._side("llm", self.llm, 1), self.batches(1)
        side.adapter.model.train()
        with self._dropout(1):
            for _ in range(self.settings.steps):
                indices = next(batches)
                for part in self._parts(indices):
                    losses = cross_entropy(side.logits(part.llm), part.llm.targets)
                    side.add_gradient(losses.sum() / len(indices))
                side.step(self.settings.gradient_norm)
        side.adapter.model.eval()

    def _step(self, llm: Side, slm: Side, indices: Sequence[int]) -> None:
        """Take one step on both sides, from losses that see the same pair."""
        for part in self._parts(indices):
            llm_logits, slm_logits = llm.logits(part.llm), slm.logits(part.slm)
            for side, own, other in ((llm, llm_logits, slm_logits), (slm, slm_logits, llm_logits)):
                side.add_gradient(self._losses(side, own, other, part).sum() / len(indices))
        llm.step(self.settings.gradient_norm)
        slm.step(self.settings.gradient_norm)

    def _losses(self, side: Side, student: Tensor, teacher: Tensor, part: Both) -> Tensor:
        """Return CE + λ·KL, float32[B], one per record (eq. 6)."""
        losses = cross_entropy(student, (part.llm if side.name == "llm" else part.slm).targets)  # [B]
        if not side.learns_from_other or self.settings.weight == 0:
            return losses
        divergence = part.divergence(side.name, student, teacher, self.settings.temperature)
        return losses + self.settings.weight * divergence

    def _dropout(self, round_number: int) -> AbstractContextManager[None]:
        """Let both models' dropout follow from seed and round, so that a resumed run goes on as it would have."""
        return seeded(self.seed, f"server/round {round_number}/dropout", self.slm.device)

    def batches(self, round_number: int) -> Iterator[list[int]]:
        """Yield the batches of a round, without end."""
        return batch_order(
            len(self.records), self.settings.batch_size, seed=self.seed, purpose=f"server/round {round_number}"
        )

    def parts(self, indices: Sequence[int]) -> Iterator[list[int]]:
        """Yield a batch in parts of records of like length, by both models' tokens."""
        widths = [max(records[index].width for records in self._read) for index in indices]
        for part in filled(widths, TOKENS_PER_PASS, also=([1] * len(indices), self.settings.microbatch)):
            yield [indices[place] for place in part]

    @property
    def llm_records(self) -> Sequence[Tokens]:
        """Return the records as the LLM reads them."""
        return self.records if self.aligned is None else self.aligned.llm_records

    @property
    def _read(self) -> tuple[Sequence[Tokens], ...]:
        return (self.records,) if self.aligned is None else (self.records, self.aligned.llm_records)

    def _parts(self, indices: Sequence[int]) -> Iterator[Both]:
        for part in self.parts(indices):
            if self.aligned is not None:
                yield both(self.aligned, self.records, self.encoder, part, self.slm.device)
                continue
            batch = self.encoder.collate([self.records[index] for index in part], self.slm.device)
            yield Both(llm=batch, slm=batch)

    def _side(self, name: Literal["llm", "slm"], adapter: Adapter, round_number: int) -> Side:
        settings = self.settings
        rate = settings.learning_rate.llm if name == "llm" else settings.learning_rate.slm
        optimizer = make_optimizer("adamw", adapter.parameters, rate, settings.weight_decay)
        if settings.optimizer_state == "kept" and self.optimizer_folder is not None:
            load_optimizer(optimizer, self._file(name))
        schedule = make_schedule(
            optimizer, settings, total_steps=self.rounds * settings.steps, done=(round_number - 1) * settings.steps
        )
        learns = settings.direction in ("mutual", "slm_to_llm" if name == "llm" else "llm_to_slm")
        return Side(name=name, adapter=adapter, optimizer=optimizer, schedule=schedule, learns_from_other=learns)

    def _keep(self, side: Side) -> None:
        if self.settings.optimizer_state == "kept" and self.optimizer_folder is not None:
            save_optimizer(side.optimizer, self._file(side.name))

    def _file(self, name: str) -> Path:
        if self.optimizer_folder is None:
            raise RuntimeError("no folder to keep the optimisers in")
        return self.optimizer_folder / f"{name}.safetensors"
