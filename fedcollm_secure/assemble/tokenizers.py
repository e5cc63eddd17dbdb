"""Both models' tokenizers: one, or two of which the server aligns the answers. Silos have the SLM's alone."""

from fedcollm_secure.config import Config
from fedcollm_secure.learning.models import Base, require_output_rows, require_same_tokenizer
from fedcollm_secure.learning.two_tokenizers import require_offsets


def check_tokenizers(config: Config, llm: Base, slm: Base) -> None:
    """Refuse a pair whose distributions cannot be compared as `distill.align` says. Raises: ConfigError."""
    if config.distill.align == "same":
        require_same_tokenizer(llm, slm)
        return
    require_output_rows(llm, slm)
    require_offsets(llm.tokenizer, "models.llm")
    require_offsets(slm.tokenizer, "models.slm")
