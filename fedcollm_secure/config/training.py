"""Settings of training: how silos train, how the pair co-tunes, how often it is scored, by default as in the paper."""

from dataclasses import dataclass
from typing import Literal

from fedcollm_secure.config.require import require
from fedcollm_secure.config.setting import Setting

Factors = Literal["fedavg", "ffa", "rolora", "fedsvd", "exact"]
"""What of LoRA's factors travels; `learning.factors` says what each rule does."""


@dataclass(frozen=True, kw_only=True)
class LocalTraining(Setting):
    """A silo's part of a round: E epochs or steps of `optimizer` on its own records (Algorithm 1, ClientUpdate)."""

    steps: int | None = None
    epochs: int | None = None
    batch_size: int = 16
    learning_rate: float = 1.0e-3
    optimizer: Literal["adamw", "sgd"] = "adamw"
    weight_decay: float = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = 0
    gradient_norm: float | None = None
    optimizer_state: Literal["fresh", "kept"] = "fresh"
    weighting: Literal["uniform", "examples"] = "uniform"
    microbatch: int = 64  # records in memory at once; changes nothing but time and memory

    def __post_init__(self) -> None:
        """Refuse a round without an end, and rates that cannot train."""
        require(
            (self.steps is None) != (self.epochs is None),
            f"give either steps or epochs, not both and not neither; got steps={self.steps}, epochs={self.epochs}",
        )
        _check_training(self.steps or self.epochs or 0, self.batch_size, self.learning_rate, self.warmup_steps)
        require(
            self.gradient_norm is None or self.gradient_norm > 0,
            f"gradient_norm: expected a positive number, got {self.gradient_norm}",
        )
        require(self.microbatch > 0, f"microbatch: expected 1 or more, got {self.microbatch}")


def _check_training(steps: int, batch_size: int, learning_rate: float, warmup_steps: int) -> None:
    require(steps > 0, f"steps/epochs: expected 1 or more, got {steps}")
    require(batch_size > 0, f"batch_size: expected 1 or more, got {batch_size}")
    require(0 < learning_rate < float("inf"), f"learning_rate: expected a positive number, got {learning_rate}")
    require(warmup_steps >= 0, f"warmup_steps: expected 0 or more, got {warmup_steps}")


@dataclass(frozen=True, kw_only=True)
class LearningRates(Setting):
    """η_θ and η_ω of the paper."""

    slm: float = 1.0e-3
    llm: float = 1.0e-3


@dataclass(frozen=True, kw_only=True)
class Distillation(Setting):
    """R server steps on the auxiliary set (eq. 5–6): L^g = CE + λ·KL(f‖g) and L^f = CE + λ·KL(g‖f), `weight` = λ."""

    steps: int
    batch_size: int = 16
    weight: float = 1.0
    temperature: float = 1.0
    direction: Literal["mutual", "llm_to_slm", "slm_to_llm"] = "mutual"
    align: Literal["same", "tokens"] = "same"  # same: one tokenizer; tokens: two, compared where they cut a text alike
    learning_rate: LearningRates = LearningRates()
    weight_decay: float = 0.0
    schedule: Literal["constant", "linear", "cosine"] = "constant"
    warmup_steps: int = 0
    gradient_norm: float | None = None
    optimizer_state: Literal["fresh", "kept"] = "fresh"
    microbatch: int = 64  # records in memory at once; changes nothing but time and memory

    def __post_init__(self) -> None:
        """Refuse a negative λ or temperature; zero steps is plain federated averaging."""
        require(self.steps >= 0, f"steps: expected 0 or more, got {self.steps}")
        _check_training(max(self.steps, 1), self.batch_size, self.learning_rate.slm, self.warmup_steps)
        _check_training(1, self.batch_size, self.learning_rate.llm, 0)
        require(self.weight >= 0, f"weight (λ): expected 0 or more, got {self.weight}")
        require(self.microbatch > 0, f"microbatch: expected 1 or more, got {self.microbatch}")
        require(self.temperature > 0, f"temperature: expected a positive number, got {self.temperature}")


@dataclass(frozen=True, kw_only=True)
class Evaluation(Setting):
    """How often, and on how much at a time, public test data are scored; and what a silo scores for itself.

    `own`: the share of its records that each silo keeps out of training, to see whether it gained (`gain`).
    `own_epsilon`: what it may spend, on top of the run's ε, on telling others (`gain --release`).
    """

    tokens_per_batch: int = 2048  # padded tokens in memory at once; changes nothing but time and memory
    every: int = 1
    own: float = 0.0
    own_epsilon: float = 0.0

    def __post_init__(self) -> None:
        """Refuse never, a run that trains on the lesser part, and a budget for scores that nobody has."""
        require(self.tokens_per_batch > 0, f"tokens_per_batch: expected 1 or more, got {self.tokens_per_batch}")
        require(self.every > 0, f"every: expected 1 or more, got {self.every}")
        require(0 <= self.own <= 0.5, f"own: expected a share of 0 to 0.5 of each silo's records, got {self.own}")
        require(
            0 <= self.own_epsilon < float("inf"),
            f"own_epsilon: expected 0 or a positive number, got {self.own_epsilon}",
        )
        require(
            self.own > 0 or self.own_epsilon == 0,
            f"own_epsilon: expected 0 where no record is kept apart (own: 0), got {self.own_epsilon}; set own: 0.1",
        )
