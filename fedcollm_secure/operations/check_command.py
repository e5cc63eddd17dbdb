"""The `check` command: everything that can be said about a configuration before anything is trained."""

from collections.abc import Mapping

from fedcollm_crypto.homomorphic.messages import KEY_COEFFICIENTS
from fedcollm_crypto.homomorphic.residues import wire_bytes
from fedcollm_crypto.masking.policy import SiloPolicy
from fedcollm_privacy.plans import TrainingPlan
from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_privacy.signal_share import signal_share
from fedcollm_secure.assemble.cohort_size import needed_to_finish
from fedcollm_secure.assemble.prepare import Prepared, prepare
from fedcollm_secure.assemble.privacy_plans import ledger_budget
from fedcollm_secure.assemble.server_work import make_aligned
from fedcollm_secure.assemble.simulated_silos import check_weights
from fedcollm_secure.config import Config
from fedcollm_secure.config.protection import NonPrivate, RecordDP, SiloDP, UnsafePlain
from fedcollm_secure.config.schema import tag_of
from fedcollm_secure.federation import guarantees
from fedcollm_secure.learning.data.inventory import inventory
from fedcollm_secure.learning.dtype_speed import SLOW, slowdown_of_bfloat16
from fedcollm_secure.operations.work_prediction import predict

Json = Mapping[str, object]
MOST_FIGURES = 100


def check(config: Config, *, measure: bool = False) -> Json:
    """Return what a run of this configuration would do; with `measure` also how long, after timing a few passes.

    Raises:
        ConfigError: it cannot run.
    """
    prepared = prepare(config)
    check_weights(prepared)
    count, upload = len(prepared.silos), _upload_bytes(prepared)
    return {
        "ok": True,
        "name": config.name,
        "aggregation": tag_of(config.aggregation),
        "models": {"LLM": _model(prepared, "llm"), "SLM": _model(prepared, "slm")},
        "silos": list(prepared.silos),
        "needed": needed_to_finish(config, count),
        "max_single_changes": _exceptions(config),
        "test_records": len(prepared.holdings.test),
        "auxiliary_records": len(prepared.holdings.auxiliary),
        "data": {**inventory(prepared.holdings, prepared.encoder), "warnings": list(prepared.notices)},
        "factors": config.what_travels,
        "parameters": prepared.parameters,
        "bytes_per_parameter": _bytes_each(prepared),
        "headroom_bits": prepared.encoding.headroom_bits,
        "encryption": _encryption(prepared),
        "bytes_per_round": round(count * (upload + _download_bytes(prepared))),
        "archive_bytes_per_round": round(count * upload) if config.audit.archive else 0,
        "plan": _plan(prepared),
        "tokenizers": _tokenizers(prepared),
        "work": predict(prepared) if measure else {},
        "gradients": _gradients(prepared),
        "unit": _unit(config),
        "own": _own(config),
        "guarantees": [row.as_json() for row in guarantees.guarantees(config)],
        "visible_to": guarantees.visible_to(config, count),
        "warnings": [
            *prepared.model_warnings,
            *guarantees.warnings(config, count),
            *_without_effect(prepared),
            *_slow(prepared),
        ],
    }


def _exceptions(config: Config) -> int | None:
    """Return how many sums that give a few silos away a silo bears with; None where nobody counts them."""
    if isinstance(config.aggregation, UnsafePlain) or not isinstance(config.privacy, NonPrivate):
        return None
    return SiloPolicy().max_single_changes


def _upload_bytes(prepared: Prepared) -> float:
    """Return the bytes that a silo sends a round, on average over the run."""
    packing, lengths = prepared.packing, prepared.vector_lengths
    if packing is not None:
        ciphertexts = sum(packing.ciphertexts(length) for length in lengths)
        return ciphertexts * wire_bytes(2 * packing.scheme.lattice.degree) / prepared.config.rounds
    return sum(lengths) * _bytes_each(prepared) / prepared.config.rounds


def _bytes_each(prepared: Prepared) -> float:
    """Return the bytes of one word, or of one value in a full ciphertext."""
    packing = prepared.packing
    if packing is not None:
        return wire_bytes(2 * packing.scheme.lattice.degree) / (packing.scheme.slots * packing.per_slot)
    return 8 if isinstance(prepared.config.aggregation, UnsafePlain) else prepared.encoding.ring_bits // 8


def _download_bytes(prepared: Prepared) -> int:
    """Return the bytes of the adapter that goes out, and of the public key where there is one."""
    packing = prepared.packing
    key = 0 if packing is None else wire_bytes(KEY_COEFFICIENTS * packing.scheme.lattice.degree)
    return 4 * prepared.parameters + key


def _encryption(prepared: Prepared) -> Json:
    """Return what is known of the ciphertexts before the run; empty without them."""
    packing = prepared.packing
    if packing is None:
        return {}
    return {
        "scheme": packing.scheme.name,
        "degree": packing.scheme.lattice.degree,
        "primes": list(packing.scheme.lattice.primes),
        "security": packing.scheme.lattice.security,
        "values_per_slot": packing.per_slot,
        "ciphertexts": packing.ciphertexts(prepared.encoding.length(prepared.parameters)),
    }


def _model(prepared: Prepared, name: str) -> str:
    base = prepared.llm if name == "llm" else prepared.slm
    adapter = prepared.server_llm if name == "llm" else prepared.server_slm
    source = prepared.config.models.llm if name == "llm" else prepared.config.models.slm
    beside = (".lora_", ".modules_to_save.")
    own = sum(p.numel() for n, p in base.model.named_parameters() if not any(part in n for part in beside))
    return f"{source.source}, {own:,} parameters, {adapter.schema.length:,} trained"


def _tokenizers(prepared: Prepared) -> Json:
    """Return how far two tokenizers agree; empty where there is one."""
    if prepared.config.distill.align == "same":
        return {}
    aligned = make_aligned(prepared.server_side, prepared.holdings.auxiliary)
    sizes = {name: len(base.tokenizer) for name, base in (("llm", prepared.llm), ("slm", prepared.slm))}
    return {**sizes, "shared": len(aligned.vocabulary.slm), "aligned": _digits(aligned.share)}


def _unit(config: Config) -> Json:
    """Return what is protected, and (ε, δ) of one unit over all silos."""
    privacy = config.privacy
    if isinstance(privacy, SiloDP):
        return {"unit": "silo", "epsilon": privacy.epsilon, "delta": privacy.delta}
    if not isinstance(privacy, RecordDP):
        return {}
    epsilon, delta = guarantees.person_guarantee(privacy)
    silos = {} if privacy.silos_per_subject is None else {"silos_per_subject": privacy.silos_per_subject}
    return {"unit": tag_of(privacy.unit), "epsilon": epsilon, "delta": delta, **silos}


def _own(config: Config) -> Json:
    """Return what silos keep apart for themselves, and the ledger's budget with what they may spend on telling."""
    if config.evaluate.own == 0:
        return {}
    own = {"share": config.evaluate.own, "epsilon": config.evaluate.own_epsilon}
    return {**own, "ledger_epsilon": ledger_budget(config)[0]}


def _gradients(prepared: Prepared) -> str:
    """Return how DP-SGD gets each record's gradient; empty where it needs none."""
    if prepared.plan is None or prepared.plan.unit == "silo":
        return ""
    if prepared.apart:
        return f"one {prepared.plan.unit} at a time, which is slow: {prepared.apart}{_remedy(prepared)}"
    learner = prepared.learner(prepared.silos[0])
    by = ", by Opacus" if learner.gradients == "opacus" else ""
    return f"{learner.rows} records in a forward pass{by}"


def _remedy(prepared: Prepared) -> str:
    """Say what might let records share a pass."""
    privacy = prepared.config.privacy
    if not isinstance(privacy, RecordDP) or privacy.gradients == "opacus" or prepared.config.lora.has_only_pairs:
        return ""
    return "; privacy.record_dp.gradients: opacus knows more layers"


def _without_effect(prepared: Prepared) -> list[str]:
    """Say what is set and does nothing in this run."""
    if prepared.plan is None or prepared.plan.unit == "silo" or prepared.config.lora.dropout == 0:
        return []
    return ["lora.dropout: silos train without it under record_dp, where a record's mask would depend on the others"]


def _slow(prepared: Prepared) -> list[str]:
    """Say where bfloat16 costs time on this processor instead of saving it."""
    models = {"llm": prepared.config.models.llm, "slm": prepared.config.models.slm}
    half = [f"models.{name}.dtype" for name, source in models.items() if source.dtype == "bfloat16"]
    if not half or prepared.server_slm.device.type != "cpu" or (times := slowdown_of_bfloat16()) < SLOW:
        return []
    told = (
        f"{' and '.join(half)}: a product in bfloat16 takes {times:.1f} times as long as in float32 on this processor, "
        "which has no units for it; float32 is faster here, for twice the memory"
    )
    return [told]


def _plan(prepared: Prepared) -> Json:
    plan = prepared.plan
    if plan is None:
        return {}
    row: dict[str, object] = {
        "epsilon_per_round": [_digits(plan.epsilon_after(n)) for n in _some_rounds(plan.rounds)],
        "epsilon_total": _digits(plan.epsilon_after(plan.rounds)),
        "delta": plan.delta,
        "noise_multiplier": plan.noise_multiplier,
        "sampling_rate": plan.sampling_rate,
    }
    if prepared.signal is not None:
        row["signal_to_noise"] = _digits(prepared.signal.release)
        row["signal_to_noise_run"] = _digits(prepared.signal.run)
        row |= _share(plan)
        row["release"] = "a round's sum" if isinstance(plan, SharedPlan) else "a silo's step"
    return dict.fromkeys(prepared.silos, row)


def _share(plan: TrainingPlan) -> Json:
    """Return how much of the attainable signal the plan has, and which sampling rate would bring more."""
    if plan.unit == "silo":
        return {}
    steps = plan.rounds if isinstance(plan, SharedPlan) else plan.rounds * plan.steps_per_round
    found = signal_share(
        epsilon=plan.epsilon,
        delta=plan.delta,
        sampling_rate=plan.sampling_rate,
        steps=steps,
        noise_multiplier=plan.noise_multiplier,
    )
    better = {} if found.better_rate is None else {"rate": found.better_rate, "share": _digits(found.better_share or 0)}
    return {"signal_share": _digits(found.share), "better_sampling": better}


def _some_rounds(rounds: int) -> list[int]:
    """Return every round; of very many, a hundred evenly spaced ones with the last: each figure takes its time."""
    if rounds <= MOST_FIGURES:
        return list(range(1, rounds + 1))
    return [rounds * (place + 1) // MOST_FIGURES for place in range(MOST_FIGURES)]


def _digits(value: float) -> float:
    """Keep five digits that count: what is small is not 0."""
    return float(f"{value:.5g}")
