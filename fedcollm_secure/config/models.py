"""Settings of the models: which two, and where their LoRA matrices sit."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from fedcollm_secure.config.require import require
from fedcollm_secure.config.setting import Setting, Text, TextOrSeveral


@dataclass(frozen=True, kw_only=True)
class ModelSource(Setting):
    """Where a causal language model comes from: `embedded:llm`, a local folder, or a hub id."""

    source: Annotated[Text, Field(alias="from")] = field(metadata={"key": "from"})
    revision: Text | None = None
    dtype: Literal["float32", "bfloat16"] = "float32"
    layers: int | None = None  # keep the first so many transformer blocks: a small model out of a large one

    def __post_init__(self) -> None:
        """Refuse an empty model."""
        require(self.layers is None or self.layers > 0, f"layers: expected 1 or more, got {self.layers}")


@dataclass(frozen=True, kw_only=True)
class Models(Setting):
    """The server's LLM f_ψ and the silos' SLM g_φ; one tokenizer."""

    llm: ModelSource
    slm: ModelSource


@dataclass(frozen=True, kw_only=True)
class Lora(Setting):
    """LoRA on both models (peft); `targets` is `all-linear`, or names of modules."""

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0
    targets: TextOrSeveral = "all-linear"

    def __post_init__(self) -> None:
        """Refuse what peft would accept silently."""
        require(self.rank > 0, f"rank: expected 1 or more, got {self.rank}")
        require(self.alpha > 0, f"alpha: expected 1 or more, got {self.alpha}: at 0 no adapter would change its model")
        require(0.0 <= self.dropout < 1.0, f"dropout: expected [0, 1), got {self.dropout}")
