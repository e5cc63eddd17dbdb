"""Settings of the models: which two, and where their LoRA matrices sit."""

from dataclasses import dataclass, field
from typing import Literal

from fedcollm_secure.config.require import require


@dataclass(frozen=True, kw_only=True)
class ModelSource:
    """Where a causal language model comes from: `embedded:llm`, a local folder, or a hub id."""

    source: str = field(metadata={"key": "from"})
    revision: str | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    layers: int | None = None  # keep the first so many transformer blocks: a small model out of a large one

    def __post_init__(self) -> None:
        """Refuse an empty model."""
        require(self.layers is None or self.layers > 0, f"layers: expected 1 or more, got {self.layers}")


@dataclass(frozen=True, kw_only=True)
class Models:
    """The server's LLM f_ψ and the silos' SLM g_φ; one tokenizer."""

    llm: ModelSource
    slm: ModelSource


@dataclass(frozen=True, kw_only=True)
class Lora:
    """LoRA on both models (peft); `targets` is `all-linear`, or names of modules."""

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0
    targets: str | tuple[str, ...] = "all-linear"

    def __post_init__(self) -> None:
        """Refuse what peft would accept silently."""
        require(self.rank > 0, f"rank: expected 1 or more, got {self.rank}")
        require(0.0 <= self.dropout < 1.0, f"dropout: expected [0, 1), got {self.dropout}")
