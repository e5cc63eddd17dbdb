"""What an audit of one kind of claim finds: tests of the mechanism, and what each observer could prove."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fedcollm_privacy.plan import RecordPlan
from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure.assemble import Prepared
from fedcollm_secure.studies.audit.canaries import Canaries, Observation, confidence_of_each
from fedcollm_secure.studies.audit.check import Check
from fedcollm_secure.studies.audit.mechanism import mechanism_checks
from fedcollm_secure.studies.audit.planted import guessed, observations
from fedcollm_secure.studies.audit.repeated import REPEATS, largest_refutable, repeated_sums
from fedcollm_secure.studies.audit.shared_mechanism import joint_checks, run_checks
from fedcollm_secure.studies.audit.shared_run import shared_run
from fedcollm_secure.studies.audit.silo_mechanism import reach, reach_check

Say = Callable[[str], None]
LLM = (
    "computed from the sums, public data and the server's own randomness: no more can be proved from it than from them"
)
UPDATE = "masked, and not part of the claim: a silo's own share of the noise would be too little for it"
MODEL = "computed from the sums and public data: no more can be proved from it than from them"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """`largest_refutable`: the bound if an observer erred nowhere; `canaries`: how many; `not_observed`: and why."""

    checks: Sequence[Check]
    observations: Sequence[Observation]
    largest_refutable: float
    canaries: int
    not_observed: Mapping[str, str]


def own_noise(prepared: Prepared, silo: str, plan: RecordPlan, confidence: float, say: Say) -> Evidence:
    """Audit DP-SGD whose noise each silo adds in full."""
    say(f"testing the mechanism at σ = {plan.noise_multiplier:g} …")
    checks = mechanism_checks(prepared, silo)
    canaries = Canaries.draw(prepared)
    say(f"{plan.rounds} rounds with {len(canaries.included)} canaries in {silo} …")
    seen = observations(prepared, silo, canaries, confidence)
    return Evidence(
        checks=checks,
        observations=seen,
        largest_refutable=canaries.power(plan.delta, confidence_of_each(confidence, len(seen))),
        canaries=len(canaries.included),
        not_observed={"llm": LLM},
    )


def joint_noise(prepared: Prepared, silo: str, plan: SharedPlan, confidence: float, say: Say) -> Evidence:
    """Audit DP-SGD whose noise the silos share, against whoever sees the sums and knows all but `honest` shares."""
    say(f"testing the mechanism at z = {plan.noise_multiplier:g}, of which {plan.honest} silos are counted on …")
    checks = joint_checks(prepared, silo, plan)
    canaries = Canaries.draw(prepared)
    say(f"{plan.rounds} rounds with {len(canaries.included)} canaries in {silo} …")
    run = shared_run(prepared, silo, plan, canaries)
    return Evidence(
        checks=[*checks, *run_checks(prepared, plan, run.uploads, run.honest, run.empty)],
        observations=guessed(prepared, canaries, run.seen, confidence),
        largest_refutable=canaries.power(plan.delta, confidence_of_each(confidence, len(run.seen))),
        canaries=len(canaries.included),
        not_observed={"update": UPDATE, "llm": LLM},
    )


def silo_updates(prepared: Prepared, silo: str, plan: SharedPlan, confidence: float, say: Say) -> Evidence:
    """Audit whole updates under noise that the silos share: the mechanism is drawn again and again, training is not."""
    say(f"testing the mechanism at z = {plan.noise_multiplier:g}, of which {plan.honest} silos are counted on …")
    length = reach(prepared, silo, plan)
    say(f"{plan.rounds} rounds, then {REPEATS:,} sums with and without an update …")
    run = shared_run(prepared, silo, plan, None)
    levels = length / prepared.encoding.grid
    return Evidence(
        checks=[reach_check(length, plan), *run_checks(prepared, plan, run.uploads, run.honest, run.empty)],
        observations=[repeated_sums(run.uploads, run.honest, levels, plan, confidence)],
        largest_refutable=largest_refutable(plan, confidence),
        canaries=0,
        not_observed={"update": UPDATE, "model": MODEL, "llm": LLM},
    )
