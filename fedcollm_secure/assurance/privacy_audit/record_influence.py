"""What one record of a silo's data set changes, on the whole way from its file to what leaves the optimiser.

Neighbours are two data sets, not two batches: one file has a row (or a person's rows) that the other has not. Both are
read, held and trained on by the product; in one step of either everybody is drawn.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.assemble import Prepared
from fedcollm_secure.assurance.privacy_audit.audited_data_set import Planted, texts, with_planted
from fedcollm_secure.assurance.privacy_audit.mechanism_check import Check
from fedcollm_secure.assurance.privacy_audit.neighbouring_units import LOUD, START_STD, Float64
from fedcollm_secure.assurance.privacy_audit.training_mechanism import SLACK, quiet_step, sums_of
from fedcollm_secure.learning.training import Learner
from fedcollm_secure.learning.vectors import Float32

OTHERS = 6
Sums = Callable[[Learner, Float32, int, Sequence[float]], Float64]
"""Return float64[d], what a silo's step over everybody comes to in units of C: learner, start, round, loudness."""


def record_check(prepared: Prepared, sums: Sums, floor: float) -> Check:
    """Measure what the worst record changes, over all silos, in the first and the last planned round.

    `floor`: what a record whose gradient is clipped changes at least, if the test sees it at all.
    """
    plan = prepared.plan
    if plan is None:
        raise ValueError("record_check: expected a plan")
    prompts = texts(prepared)
    few = _few(prepared)
    added = {name: Planted(text=next(prompts), subject="the audit's person") for name in few.silos}
    with_it = replace(few, holdings=with_planted(few, {name: [each] for name, each in added.items()}))
    without = replace(few, holdings=with_planted(few, {}))
    generator = np.random.default_rng(prepared.config.seed)
    noise = generator.normal(0.0, START_STD, prepared.parameters).astype(np.float32)
    start, worst, least, where = prepared.server_slm.read() + noise, 0.0, float("inf"), ""
    for name in few.silos:
        for number in sorted({1, plan.rounds}):
            change = float(
                np.linalg.norm(
                    _sums(with_it.learner(name), start, number, sums)
                    - _sums(without.learner(name), start, number, sums)
                )
            )
            least = min(least, change)
            if change > worst:
                worst, where = change, f"{name}, round {number}"
    measured = least if least < floor else worst
    told = f"a {plan.unit} more in a silo's file changes what its step comes to by {measured:.3f} C ({where})"
    return Check(name="record", measured=measured, low=floor, high=1.0 + SLACK, told=told)


def read_by_optimizer(plan: RecordPlan) -> Sums:
    """Return how to ask a silo that adds its own noise."""

    def sums(learner: Learner, start: Float32, number: int, loudness: Sequence[float]) -> Float64:
        quiet = replace(learner, plan=replace(quiet_step(plan), rounds=plan.rounds), rounds=plan.rounds)
        everybody = range(len(learner.records if learner.subjects is None else learner.subjects))
        return sums_of(quiet, start, number, everybody, loudness=loudness) * plan.batch_size / plan.clip_norm

    return sums


def _few(prepared: Prepared) -> Prepared:
    """Return the job with a few records in each silo."""
    silos = {name: records[:OTHERS] for name, records in prepared.holdings.silos.items()}
    return replace(prepared, holdings=replace(prepared.holdings, silos=silos))


def _sums(learner: Learner, start: Float32, number: int, sums: Sums) -> Float64:
    loudness = LOUD * (learner.plan.clip_norm if learner.plan is not None else 1.0)  # all are clipped, if any is
    return sums(learner, start, number, [loudness] * len(learner.records))
