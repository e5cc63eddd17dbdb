"""The `check` command: everything that can be said about a configuration before anything is trained."""

from collections.abc import Mapping

from fedcollm_secure.assemble.prepare import Prepared, needed_to_finish, prepare
from fedcollm_secure.config import Config
from fedcollm_secure.config.protection import Masked
from fedcollm_secure.config.schema import tag_of
from fedcollm_secure.federation import trust

Json = Mapping[str, object]


def check(config: Config) -> Json:
    """Return what a run of this configuration would do.

    Raises:
        ConfigError: it cannot run.
    """
    prepared = prepare(config)
    count, words = len(prepared.silos), prepared.parameters + 2
    per_word = prepared.encoding.ring_bits // 8 if isinstance(config.aggregation, Masked) else 8
    return {
        "ok": True,
        "name": config.name,
        "aggregation": tag_of(config.aggregation),
        "models": {"LLM": _model(prepared, "llm"), "SLM": _model(prepared, "slm")},
        "silos": list(prepared.silos),
        "needed": needed_to_finish(config, count),
        "test_records": len(prepared.holdings.test),
        "auxiliary_records": len(prepared.holdings.auxiliary),
        "parameters": prepared.parameters,
        "bytes_per_parameter": per_word,
        "headroom_bits": prepared.encoding.headroom_bits,
        "bytes_per_round": count * (words * per_word + 4 * prepared.parameters),
        "archive_bytes_per_round": count * words * per_word if config.audit.archive else 0,
        "plan": _plan(prepared),
        "guarantees": [row.as_json() for row in trust.guarantees(config)],
        "visible_to": trust.visible_to(config, count),
        "warnings": trust.warnings(config, count),
    }


def _model(prepared: Prepared, name: str) -> str:
    base = prepared.llm if name == "llm" else prepared.slm
    adapter = prepared.server_llm if name == "llm" else prepared.server_slm
    source = prepared.config.models.llm if name == "llm" else prepared.config.models.slm
    own = sum(p.numel() for n, p in base.model.named_parameters() if ".lora_" not in n)
    return f"{source.source}, {own:,} parameters, {adapter.schema.length:,} trained"


def _plan(prepared: Prepared) -> Json:
    plan = prepared.plan
    if plan is None:
        return {}
    row = {
        "epsilon_per_round": [round(plan.epsilon_after(n), 4) for n in range(1, plan.rounds + 1)],
        "epsilon_total": round(plan.epsilon_after(plan.rounds), 4),
        "delta": plan.delta,
        "noise_multiplier": plan.noise_multiplier,
    }
    return dict.fromkeys(prepared.silos, row)
