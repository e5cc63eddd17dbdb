"""Write the model card of one embedded model: what it read, what it scores, what it is for."""

from __future__ import annotations

import json
from importlib.metadata import version
from pathlib import Path
from typing import Final

from safetensors import safe_open

_READING: Final = {
    "llm": "the whole catalogue: the titles of all sections and codes, and the notes that point to other codes",
    "slm": "a pocket edition: the titles of sections and categories, and half of their first subdivisions",
}
_CARD: Final = """\
---
license: apache-2.0
language: en
library_name: transformers
tags: [icd-10-cm, fedcollm-secure]
---
# fedcollm-secure, embedded {name}

A Llama of {parameters:,} parameters ({layers} layers of {hidden}, tied embeddings, a vocabulary of {vocabulary:,}) that
continues a diagnosis with its specialty: `Wet lung syndrome. Specialty:` → ` neonatology`. One of a pair with one
tokenizer; `embedded:{name}` in a configuration loads it, and it works without a network.

| | |
|---|---|
| read | {reading}: {lines:,} lines |
| source | ICD-10-CM, a public work of the US government, as packaged (MIT) in simple-icd-10-cm {catalogue} |
| not read | any of the {terms:,} inclusion terms: the main job's test, public and private data |
| how we know | a line that holds one, word for word, is left out: `tests/learning/test_embedded.py` |
| zero-shot | {accuracy:.1%} of 2,500 test terms, 21 specialties, the likeliest answer |
| made by | `python examples/models/pretrain.py --out fedcollm_secure/embedded` |
| weights | safetensors, float16 on disk, float32 in memory |
| tokenizer | byte-level BPE, ignores case and accents; each specialty is one token |
| licence | Apache-2.0, as the project |

**Intended use.** Demonstrations, tests and studies of federated co-tuning that must run anywhere in a minute.

**Limits.** It knows the vocabulary of one classification and one task, and writes no prose. The specialty is that of
the ICD-10-CM chapter, which is a librarian's choice and not a clinician's: a fracture is trauma, the screening for one
is prevention. Not for care, triage or billing.
"""


def model_card(folder: Path, lines: int, terms: int, accuracy: float) -> str:
    """Return Markdown for the model saved in `folder`; `accuracy` in [0, 1]."""
    config = json.loads((folder / "config.json").read_text())
    return _CARD.format(
        name=folder.name,
        parameters=_parameters(folder),
        layers=config["num_hidden_layers"],
        hidden=config["hidden_size"],
        vocabulary=config["vocab_size"],
        reading=_READING[folder.name],
        lines=lines,
        terms=terms,
        catalogue=version("simple-icd-10-cm"),
        accuracy=accuracy,
    )


def _parameters(folder: Path) -> int:
    with safe_open(folder / "model.safetensors", framework="numpy") as weights:
        return sum(weights.get_tensor(name).size for name in weights.keys())  # noqa: SIM118 - not a mapping
