"""`check --shape`: hold a configuration to its models' shapes, without weights, tokenizers or data.

Each model is built from its config.json on torch's meta device, where a matrix has a shape and no content, and gets its
adapter there. So a pair of 7 and 1.3 billion parameters is checked in seconds, on any machine: blocks, targets, rank,
what trains and travels, room for the sum, the privacy plan. What needs weights, a tokenizer or records is not checked.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from fedcollm_secure.assemble.common import make_numbers
from fedcollm_secure.assemble.privacy_plans import make_plan
from fedcollm_secure.config import Config
from fedcollm_secure.config.data import ByColumn, ByLabel, Files, Members
from fedcollm_secure.config.models import ModelSource
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.batches import longest_sequence
from fedcollm_secure.learning.factors import Pass
from fedcollm_secure.learning.models import DTYPES, adapted, model_shape

Json = Mapping[str, object]


def shape_check(config: Config, shapes: Path | None) -> Json:
    """Return what is known of a run from shapes alone; `shapes` holds NAME/config.json for each hub id.

    Without it a model's config.json is its folder's, or the hub's.

    Raises:
        ConfigError: a shape cannot be had, or does not fit `layers`, `lora`, `factors`, `aggregation` or `privacy`.
    """
    plan = make_plan(config)
    sides = {name: _built(source, f"models.{name}", shapes) for name, source in _sources(config)}
    llm, slm = (sides[name] for name in ("llm", "slm"))
    count = silo_count(config)
    sizes = [int(model.config.vocab_size) for model in (llm, slm)]
    warned = (
        []
        if config.distill.align == "tokens" or sizes[0] == sizes[1]
        else [f"the vocabularies have {sizes[0]:,} and {sizes[1]:,} rows: is it one tokenizer?"]
    )
    trained = Adapter(adapted(llm, config.lora, seed=config.seed), "fedavg").schema.length
    adapter = Adapter(adapted(slm, config.lora, seed=config.seed), config.what_travels)
    numbers = make_numbers(config, adapter, count, plan)
    rule, encoding, noise = numbers.rule, numbers.encoding, numbers.plan
    up = sum(encoding.length(rule.length(Pass(round=1, number=number))) for number in range(rule.passes))
    return {
        "ok": True,
        "name": config.name,
        "models": {
            "llm": _model(llm, config.models.llm, trained),
            "slm": _model(slm, config.models.slm, adapter.schema.length),
        },
        "silos": count,
        "parameters": adapter.schema.length,
        "values_up": up,
        "ring_bits": encoding.ring_bits,
        "noise_multiplier": None if noise is None else noise.noise_multiplier,
        "warnings": warned,
        "not_checked": ["weights", "tokenizers", "data", "who may drop out", "memory and time"],
    }


def shape_words(found: Json) -> str:
    """Say what the shapes told."""
    lines: list[str] = []
    for name, model in cast(Mapping[str, Mapping[str, int]], found["models"]).items():
        lines.append(
            f"{name.upper()}: {model['source']}, {model['parameters']:,} parameters ({model['bytes'] / 1e9:.2f} GB), "
            f"{model['trained']:,} trained; {model['blocks']} blocks, {model['vocabulary']:,} rows of vocabulary, "
            f"texts of up to {model['longest']:,} tokens"
        )
    share = cast(int, found["parameters"]) / cast(Mapping[str, Mapping[str, int]], found["models"])["slm"]["parameters"]
    lines.append(
        f"{found['silos']} silos; {found['parameters']:,} parameters travel ({100 * share:.3f} % of the SLM); a silo "
        f"sends {found['values_up']:,} values of {found['ring_bits']} bits a round"
    )
    if found["noise_multiplier"] is not None:
        lines.append(f"privacy: σ = {found['noise_multiplier']:.3f}")
    lines += [f"warning: {text}" for text in cast(list[str], found["warnings"])]
    lines.append(f"not checked, for that needs more than shapes: {', '.join(cast(list[str], found['not_checked']))}")
    return "\n".join(lines)


def silo_count(config: Config) -> int:
    """Return how many silos a configuration names or asks for."""
    silos = config.data.silos
    if isinstance(silos, Files):
        return len(silos.paths)
    if isinstance(silos, Members):
        return len(silos.names)
    return len(silos.groups) if isinstance(silos, ByColumn | ByLabel) else silos.count


def _sources(config: Config) -> tuple[tuple[str, ModelSource], ...]:
    return (("llm", config.models.llm), ("slm", config.models.slm))


def _built(source: ModelSource, where: str, shapes: Path | None) -> PreTrainedModel:
    """Return the model on the meta device."""
    shape = model_shape(source, where, shapes)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(shape, dtype=DTYPES[source.dtype])  # type: ignore[no-untyped-call]
    return cast(PreTrainedModel, model.eval().requires_grad_(False))


def _model(model: PreTrainedModel, source: ModelSource, trained: int) -> dict[str, object]:
    settings = model.config
    beside = (".lora_", ".modules_to_save.")
    own = [each for name, each in model.named_parameters() if not any(part in name for part in beside)]
    return {
        "source": source.source,
        "parameters": sum(each.numel() for each in own),
        "bytes": sum(each.numel() * each.element_size() for each in own),
        "trained": trained,
        "blocks": int(settings.num_hidden_layers),
        "vocabulary": int(settings.vocab_size),
        "longest": longest_sequence(settings),
    }
