"""What an audit of one kind of claim finds: tests of the mechanism, and what each observer could prove."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fedcollm_privacy.plan import RecordPlan
from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure.assemble import Prepared
from fedcollm_secure.assurance.privacy_audit.detection_power import Sight
from fedcollm_secure.assurance.privacy_audit.mechanism_check import Check
from fedcollm_secure.assurance.privacy_audit.one_run_audit import Canaries, Observation, Seen, confidence_of_each
from fedcollm_secure.assurance.privacy_audit.planted_run import ROUNDS, with_microbatch
from fedcollm_secure.assurance.privacy_audit.record_influence import read_by_optimizer, record_check
from fedcollm_secure.assurance.privacy_audit.repeated_sums import REPEATS, largest_refutable, repeated_sums
from fedcollm_secure.assurance.privacy_audit.shared_mechanism import encoded_by_silo, joint_checks
from fedcollm_secure.assurance.privacy_audit.shared_run import run_checks, shared_run
from fedcollm_secure.assurance.privacy_audit.silo_mechanism import reach_checks, reaches
from fedcollm_secure.assurance.privacy_audit.tensor_places import Places
from fedcollm_secure.assurance.privacy_audit.training_mechanism import mechanism_checks
from fedcollm_secure.assurance.privacy_audit.watched_run import watched_run

Say = Callable[[str], None]
LLM = (
    "computed from the sums, public data and the server's own randomness: no more can be proved from it than from them"
)
STEPS = "no part of the claim: a silo's own share of the noise would be too little for it"
UPDATE = "masked, and not part of the claim: a silo's own share of the noise would be too little for it"
MODEL = "computed from the sums and public data: no more can be proved from it than from them"


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """`largest_refutable`: the bound if an observer erred nowhere; `canaries`: how many; `not_observed`: and why.

    `rounds`: those whose noise was looked at. `sight`: how little too little is found.
    """

    checks: Sequence[Check]
    observations: Sequence[Observation]
    largest_refutable: float
    canaries: int
    rounds: Sequence[int]
    sight: Sight | None
    not_observed: Mapping[str, str]


def own_noise(prepared: Prepared, silo: str, plan: RecordPlan, confidence: float, say: Say) -> Evidence:
    """Audit DP-SGD whose noise each silo adds in full."""
    say(f"testing the mechanism at σ = {plan.noise_multiplier:g} …")
    checks = [*mechanism_checks(prepared, silo), record_check(prepared, read_by_optimizer(plan), 0.99)]
    places = Places.of(prepared.server_slm.schema)
    canaries = Canaries.draw(prepared, places, min(ROUNDS, plan.rounds))
    say(f"{min(ROUNDS, plan.rounds)} rounds with {len(canaries.included)} canaries in {silo} …")
    try:
        run = watched_run(with_microbatch(prepared, len(canaries.present)), silo, plan, canaries, places)
    except RuntimeError as error:  # where nothing but noise moves the weights, and there is none
        return _stopped(checks, canaries, error)
    say(f"testing {len(run.draws)} draws of noise …")
    return Evidence(
        checks=[*checks, *run.checks()],
        observations=guessed(canaries, run.seen, plan.delta, confidence),
        largest_refutable=canaries.power(plan.delta, confidence_of_each(confidence, len(run.seen))),
        canaries=len(canaries.included),
        rounds=run.rounds,
        sight=Sight.of(run.tables),
        not_observed={"llm": LLM},
    )


def joint_noise(prepared: Prepared, silo: str, plan: SharedPlan, confidence: float, say: Say) -> Evidence:
    """Audit DP-SGD whose noise the silos share, against whoever sees the sums and knows all but `honest` shares."""
    say(f"testing the mechanism at z = {plan.noise_multiplier:g}, of which {plan.honest} silos are counted on …")
    checks = [*joint_checks(prepared, silo, plan), record_check(prepared, encoded_by_silo(prepared, plan), 0.95)]
    canaries = Canaries.draw(prepared, Places.of(prepared.server_slm.schema), min(ROUNDS, plan.rounds))
    say(f"{min(ROUNDS, plan.rounds)} rounds with {len(canaries.included)} canaries in {silo} …")
    run = shared_run(prepared, silo, plan, canaries)
    return Evidence(
        checks=[*checks, *run_checks(prepared, plan, run)],
        observations=guessed(canaries, run.seen, plan.delta, confidence),
        largest_refutable=canaries.power(plan.delta, confidence_of_each(confidence, len(run.seen))),
        canaries=len(canaries.included),
        rounds=run.rounds,
        sight=Sight.of(run.tables),
        not_observed={"steps": STEPS, "update": UPDATE, "llm": LLM},
    )


def silo_updates(prepared: Prepared, silo: str, plan: SharedPlan, confidence: float, say: Say) -> Evidence:
    """Audit whole updates under noise that the silos share: the mechanism is drawn again and again, training is not."""
    say(f"testing the mechanism at z = {plan.noise_multiplier:g}, of which {plan.honest} silos are counted on …")
    lengths = reaches(prepared, plan)
    say(f"{min(ROUNDS, plan.rounds)} rounds, then {REPEATS:,} sums with and without an update …")
    run = shared_run(prepared, silo, plan, None)
    levels = max(lengths.values()) / prepared.encoding.grid
    return Evidence(
        checks=[*reach_checks(lengths, plan), *run_checks(prepared, plan, run)],
        observations=[repeated_sums(run.uploads, run.honest, levels, plan, confidence)],
        largest_refutable=largest_refutable(plan, confidence),
        canaries=0,
        rounds=run.rounds,
        sight=Sight.of(run.tables),
        not_observed={"update": UPDATE, "model": MODEL, "llm": LLM},
    )


def _stopped(checks: Sequence[Check], canaries: Canaries, error: RuntimeError) -> Evidence:
    """Say that training came to no end."""
    stopped = Check(name="training", measured=0, low=1, high=1, told=f"a silo's training stopped: {error}")
    return Evidence(
        checks=[*checks, stopped],
        observations=[],
        largest_refutable=0.0,
        canaries=len(canaries.included),
        rounds=[],
        sight=None,
        not_observed={},
    )


def guessed(canaries: Canaries, seen: Mapping[str, Seen], delta: float, confidence: float) -> list[Observation]:
    """Guess at each point, so that all bounds hold together at `confidence`."""
    each = confidence_of_each(confidence, len(seen))
    return [canaries.observe(point, shown, delta, each) for point, shown in seen.items()]
