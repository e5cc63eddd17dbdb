"""The server's pair: LLM and SLM with their adapters, co-tuned, scored and saved as PEFT folders."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from peft import PeftModel, set_peft_model_state_dict
from safetensors.torch import load_file

from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.distill import CoTuning
from fedcollm_secure.learning.evaluate import Evaluation, Scores

CARD = """\
---
library_name: peft
---
A LoRA adapter of the {name}, made by fedcollm-secure: RUN/audit says how, and RUN/config.yaml with which settings.
Its base model is `{origin}` (of `embedded:` names the weights lie in the package's folder `embedded/`):
`PeftModel.from_pretrained(base, this_folder)`.
"""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Both adapters and what the server does with them."""

    llm: Adapter
    slm: Adapter
    co_tuning: CoTuning
    evaluations: Mapping[str, Evaluation]  # of each side, by its own tokens
    origins: Mapping[str, str]  # where each base comes from, for the PEFT folder

    def score(self) -> Mapping[str, Scores]:
        """Score both on the public test data."""
        return {name: self.evaluations[name].score(adapter.model) for name, adapter in self._sides()}

    def save(self, folder: Path) -> None:
        """Write `slm/` and `llm/` as PEFT folders: `PeftModel.from_pretrained(base, folder)` opens them."""
        for name, adapter in self._sides():
            model = cast(PeftModel, adapter.model)
            model.peft_config["default"].base_model_name_or_path = self.origins[name]
            model.save_pretrained(str(folder / name), save_embedding_layers=False)
            # In the place of peft's unfilled card, which names this machine's folders.
            (folder / name / "README.md").write_text(
                CARD.format(name=name, origin=self.origins[name]), encoding="utf-8"
            )

    def load(self, folder: Path) -> None:
        """Read what `save` wrote."""
        for name, adapter in self._sides():
            load_adapter(adapter, folder / name)

    def _sides(self) -> tuple[tuple[str, Adapter], ...]:
        return (("slm", self.slm), ("llm", self.llm))


def load_adapter(adapter: Adapter, folder: Path) -> None:
    """Read one PEFT folder that `Pair.save` wrote."""
    set_peft_model_state_dict(adapter.model, load_file(folder / "adapter_model.safetensors"))
