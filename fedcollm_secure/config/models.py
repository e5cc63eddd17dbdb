"""Settings of the models: which two, and where their LoRA matrices sit."""

from dataclasses import dataclass, field
from typing import Annotated, Literal

from pydantic import Field

from fedcollm_secure.config.require import require
from fedcollm_secure.config.setting import Named, Setting, Several, Text, TextOrSeveral


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
    """LoRA on both models (peft); `targets` is `all-linear`, or names of modules.

    `rank_pattern` gives layers of some names another rank. `use_rslora` scales by alpha / √rank, `use_dora` trains the
    length of each weight's rows apart from their direction; `modules_to_save` are trained in full, such as norms.
    """

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0
    targets: TextOrSeveral = "all-linear"
    rank_pattern: Named[int] | None = None
    use_rslora: bool = False
    use_dora: bool = False
    modules_to_save: Several[Text] | None = None

    def __post_init__(self) -> None:
        """Refuse what peft would accept silently."""
        require(self.rank > 0, f"rank: expected 1 or more, got {self.rank}")
        require(self.alpha > 0, f"alpha: expected 1 or more, got {self.alpha}: at 0 no adapter would change its model")
        require(0.0 <= self.dropout < 1.0, f"dropout: expected [0, 1), got {self.dropout}")
        for name, rank in (self.rank_pattern or {}).items():
            require(rank > 0, f"rank_pattern: expected 1 or more for {name}, got {rank}")
        targets = self.targets if isinstance(self.targets, tuple) else (self.targets,)
        twice = sorted(set(targets) & set(self.modules_to_save or ()))
        require(
            not twice,
            f"modules_to_save: {', '.join(twice)} would train in full and, as targets say, by low rank; name it once",
        )

    @property
    def has_only_pairs(self) -> bool:
        """Return whether nothing trains but A and B of products B·A."""
        return not self.use_dora and not self.modules_to_save
