"""Audit one configuration at one claim: the mechanism first, then what observers of a run can prove."""

import math
from collections.abc import Callable, Mapping, Sequence

from fedcollm_privacy.plan import RecordPlan
from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure.assemble import Prepared, prepare
from fedcollm_secure.assurance.privacy_audit.audited_config import audited_config
from fedcollm_secure.assurance.privacy_audit.claim_evidence import Evidence, Say, joint_noise, own_noise, silo_updates
from fedcollm_secure.assurance.privacy_audit.sabotage import check_sabotages, sabotaged
from fedcollm_secure.config import Config
from fedcollm_secure.errors import ConfigError

Json = Mapping[str, object]
CONFIDENCE = 0.95


def audit(config: Config, claimed: float, sabotages: Sequence[str], say: Callable[[str], None]) -> Json:
    """Return the document: what was measured, the largest ε that it refutes, and whether the claim holds.

    Guarantee: where training is as private as claimed, `lower_bound` exceeds the claim with probability at most 5 %,
    and any of the mechanism's checks fails with probability below `false_alarms.FALSE_ALARM`. Where silos share the
    noise, that is against the server with all silos but as many as the plan counts on.

    Raises:
        ConfigError: nothing to audit, or a sabotage that is unknown or breaks nothing here.
    """
    audited = audited_config(config, claimed)
    prepared = prepare(audited)
    if (plan := prepared.plan) is None:
        raise ConfigError("privacy", "expected a plan: without differential privacy there is no claim to audit")
    check_sabotages(sabotages, plan, audited)
    largest, *others = sorted(prepared.silos, key=lambda name: -len(prepared.holdings.silos[name]))
    with sabotaged(sabotages, silo=others[-1] if others else largest):
        found = _evidence(prepared, largest, say)
    lower_bound = max((observation.lower_bound for observation in found.observations), default=0.0)
    return {
        "claimed": claimed,
        "lower_bound": round(lower_bound, 4),
        "confidence": CONFIDENCE,
        "holds": lower_bound <= claimed and all(check.holds for check in found.checks),
        "sabotage": ",".join(sabotages) or None,
        "unit": plan.unit,
        "noise": "own" if isinstance(plan, RecordPlan) else "shared",
        "honest": None if isinstance(plan, RecordPlan) else plan.honest,
        "largest_refutable": round(found.largest_refutable, 4),
        "delta": plan.delta,
        "noise_multiplier": plan.noise_multiplier,
        "canaries": found.canaries,
        "rounds": {"looked_at": list(found.rounds), "planned": plan.rounds},
        "surely_found_below": None if found.sight is None else found.sight.as_json(),
        "false_alarm": math.fsum(check.alarm for check in found.checks),
        "checks": [check.as_json() for check in found.checks],
        "observations": [observation.as_json() for observation in found.observations],
        "not_observed": dict(found.not_observed),
    }


def exit_code(found: Json) -> int:
    """Return 0 where the claim holds, 1 where something refutes it."""
    return 0 if found["holds"] is True else 1


def _evidence(prepared: Prepared, silo: str, say: Say) -> Evidence:
    match prepared.plan:
        case RecordPlan() as plan:
            return own_noise(prepared, silo, plan, CONFIDENCE, say)
        case SharedPlan() as plan if plan.unit != "silo":
            return joint_noise(prepared, silo, plan, CONFIDENCE, say)
        case SharedPlan() as plan:
            return silo_updates(prepared, silo, plan, CONFIDENCE, say)
        case None:
            raise ConfigError("privacy", "expected a plan: without differential privacy there is no claim to audit")
