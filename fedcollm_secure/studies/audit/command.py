"""Audit one configuration at one claim: the mechanism first, then a whole run with canaries."""

from collections.abc import Callable, Mapping, Sequence

from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.assemble import prepare
from fedcollm_secure.config import Config
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.studies.audit.canaries import Canaries
from fedcollm_secure.studies.audit.mechanism import mechanism_checks
from fedcollm_secure.studies.audit.plan import audited_config
from fedcollm_secure.studies.audit.planted import observations
from fedcollm_secure.studies.audit.sabotage import check_sabotages, sabotaged

Json = Mapping[str, object]
CONFIDENCE = 0.95


def audit(config: Config, claimed: float, sabotages: Sequence[str], say: Callable[[str], None]) -> Json:
    """Return the document: what was measured, the largest ε that it refutes, and whether the claim holds.

    Guarantee: where training is as private as claimed, `lower_bound` exceeds the claim with probability at most 5 %,
    and each of the mechanism's statistical checks fails with probability below 10^-5.

    Raises:
        ConfigError: nothing to audit, noise in shares, or a sabotage that is unknown or breaks nothing here.
    """
    prepared = prepare(audited_config(config, claimed))
    plan, silo = prepared.plan, max(prepared.silos, key=lambda name: len(prepared.holdings.silos[name]))
    if not isinstance(plan, RecordPlan):
        raise ConfigError("privacy", "expected each silo's own noise; noise in shares is not audited")
    check_sabotages(sabotages, plan)
    with sabotaged(sabotages):
        say(f"testing the mechanism at σ = {plan.noise_multiplier:g} …")
        checks = mechanism_checks(prepared, silo)
        canaries = Canaries.draw(prepared)
        say(f"{plan.rounds} rounds with {len(canaries.included)} canaries in {silo} …")
        seen = observations(prepared, silo, canaries, CONFIDENCE)
    lower_bound = max(observation.lower_bound for observation in seen)
    return {
        "claimed": claimed,
        "lower_bound": round(lower_bound, 4),
        "confidence": CONFIDENCE,
        "holds": lower_bound <= claimed and all(check.holds for check in checks),
        "sabotage": ",".join(sabotages) or None,
        "unit": plan.unit,
        "noise": "own",
        "largest_refutable": round(canaries.power(plan.delta, CONFIDENCE), 4),
        "delta": plan.delta,
        "noise_multiplier": plan.noise_multiplier,
        "canaries": len(canaries.included),
        "checks": [check.as_json() for check in checks],
        "observations": [observation.as_json() for observation in seen],
    }


def exit_code(found: Json) -> int:
    """Return 0 where the claim holds, 1 where something refutes it."""
    return 0 if found["holds"] is True else 1
