"""Test the mechanism on the path that trains silos: what a unit changes of what the configured optimiser reads.

Randomness is an argument of `Learner`, so the audit can say who is drawn: batches of up to more than a microbatch.
Noise is next to nothing here, and tested in whole rounds (`noise_checks`); a record's way from its file in `records`.

| check | what is compared | broken by |
|---|---|---|
| sensitivity | a step's sum with and without a unit | no clipping, or by record, layer, group; coupled records |
| contribution | a person of more records than the plan admits | a bound that is not kept |
| crowd | what each of more than a microbatch counts | one at a microbatch's edge that counts twice |
| sampling rate, batch sizes | how many are drawn over many steps | another rate, or batches of a fixed size |
| draws of each | who is drawn over many steps | always the same ones, or everybody in turn |
| steps | how many are taken | one more than is charged |
"""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor, nn

from fedcollm_privacy import dpsgd
from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.assemble import Prepared
from fedcollm_secure.assurance.privacy_audit.false_alarms import ALARM
from fedcollm_secure.assurance.privacy_audit.mechanism_check import Check
from fedcollm_secure.assurance.privacy_audit.neighbouring_units import Company, Float64
from fedcollm_secure.assurance.privacy_audit.optimiser_watch import Step, Watch
from fedcollm_secure.assurance.privacy_audit.watched_learners import ChosenBatches, WatchedLearner
from fedcollm_secure.learning.training import Learner
from fedcollm_secure.learning.vectors import Float32

SLACK = 1e-3
"""What a record changes is known to about this part of C."""
DRAWS, POPULATION = 200, 500
SIX_SIGMA = 6.0
RARELY = 1e-9
QUIET, UNBOUNDED, LOOSE = 1e-7, 1e30, 1e3
"""Noise, ε and clip norm of plans that are trained under to look at the sums alone; they release nothing."""
RECORDS_OF_A_PERSON = 2


def mechanism_checks(prepared: Prepared, silo: str) -> list[Check]:
    """Run the tests of one silo's training. Raises: RuntimeError, ConfigError from training itself."""
    plan = prepared.plan
    if not isinstance(plan, RecordPlan):
        raise ValueError("mechanism_checks: expected a prepared configuration with a plan of DP-SGD in each silo")
    company = Company.of(prepared, silo)
    bench = Bench.of(company, plan)
    return [bench.sensitivity(), bench.crowd(), *company.contribution(prepared), *sampling_checks(plan)]


def sums_of(
    learner: Learner,
    start: Float32,
    number: int,
    batch: Sequence[int],
    *,
    loudness: Sequence[float] | None = None,
    coordinates: Sequence[int | None] | None = None,
) -> Float64:
    """Return float64[d], what the learner's optimiser reads in a round of one step that draws `batch`, unscaled."""
    found = list[Step]()
    watch = Watch(took=found.append)
    watched = WatchedLearner.of(learner, watch, loudness=loudness, coordinates=coordinates)
    random = ChosenBatches(watched.population, [batch])
    with watch.opened():
        replace(watched, random=random).update(start, number)
    read = np.zeros(len(start))
    first = 0
    for name, shape in learner.adapter.schema.shapes.items():
        size = int(np.prod(shape))
        for step in found:
            if name in step.gradients:
                read[first : first + size] += step.gradients[name]
        first += size
    return read


@dataclass(frozen=True, kw_only=True)
class Bench:
    """The audit's company, trained under the plan but for its clip norm: half the gradient of the short record.

    That shows both what clipping does and what a weaker gradient would.
    """

    company: Company
    plan: RecordPlan

    @classmethod
    def of(cls, company: Company, plan: RecordPlan) -> "Bench":
        """Clip at half the gradient of the short record."""
        loose = cls(company=company, plan=replace(plan, clip_norm=LOOSE))
        norm = float(np.linalg.norm(loose.sums([company.short])))
        return cls(company=company, plan=replace(plan, clip_norm=norm / 2))

    def sensitivity(self) -> Check:
        """Measure the most that one unit changes one step's sum, in units of C, over neighbours of several sizes."""
        measured = self.company.worst_change(self.sums) / self.plan.clip_norm
        return Check(
            name="sensitivity",
            measured=measured,
            low=0.99,  # the short record's gradient is 2 C: less would mean that the test sees nothing
            high=1.0 + SLACK,
            told=f"one {self.plan.unit} changes a step's sum by at most {measured:.3f} C",
        )

    def crowd(self) -> Check:
        """Let each of a crowd, more than a microbatch holds, pull at an entry of its own: each counts C, and once."""
        learner = replace(self.company.learner, plan=quiet_step(self.plan), rounds=1)
        units = self.company.crowd[: len(self.company.start)]
        records = [self.company.units[unit][0] for unit in units]
        entries = np.linspace(0, len(self.company.start) - 1, len(units)).astype(int).tolist()
        coordinates: list[int | None] = [None] * len(learner.records)
        for record, entry in zip(records, entries, strict=True):
            coordinates[record] = entry
        read = sums_of(learner, self.company.start, 1, units, coordinates=coordinates)
        pulled = np.abs(read[entries]) * self.plan.batch_size / self.plan.clip_norm
        trained = pulled[pulled > 0.5] if self.company.learner.trains(1) != "AB" else pulled
        worst = float(trained[np.argmax(np.abs(trained - 1))])
        told = (
            f"of {len(units)} {self.plan.unit}s at once each counts C; the one that is furthest from it {worst:.4f} C"
        )
        return Check(name="crowd", measured=worst, low=1 - SLACK, high=1 + SLACK, told=told)

    def sums(self, batch: Sequence[int]) -> Float64:
        """Return float64[d], one step's sum over these units, next to its noise."""
        learner = replace(self.company.learner, plan=quiet_step(self.plan), rounds=1)
        return self.plan.batch_size * sums_of(learner, self.company.start, 1, batch, loudness=self.company.loudness)


def quiet_step(plan: RecordPlan) -> RecordPlan:
    """Return a plan of one step next to no noise, whose sampler is asked for its batch."""
    return replace(plan, steps_per_round=1, rounds=1, sampling_rate=0.5, noise_multiplier=QUIET, epsilon=UNBOUNDED)


def sampling_checks(plan: RecordPlan) -> list[Check]:
    """Note who is drawn in many steps of `dpsgd.train`, and count the steps of a round."""
    many = replace(plan, steps_per_round=DRAWS, rounds=1, epsilon=UNBOUNDED)
    drawn, taken = _drawn(many)
    told = f"{taken} steps taken of {DRAWS} that are priced"
    return [
        *sampling_counts(drawn, plan.sampling_rate),
        Check(name="steps", measured=taken, low=DRAWS, high=DRAWS, told=told),
    ]


def sampling_counts(drawn: Sequence[Collection[int]], expected: float) -> list[Check]:
    """Hold DRAWS batches of POPULATION units against Poisson sampling at the `expected` rate."""
    sizes = [len(batch) for batch in drawn]
    times = [sum(unit in batch for batch in drawn) for unit in range(POPULATION)]
    least, most = (int(each) for each in binom.interval(1 - RARELY, DRAWS * POPULATION, expected))
    rate = sum(sizes) / (DRAWS * POPULATION)
    told = f"{sum(sizes)} draws of {DRAWS * POPULATION}, a rate of {rate:.4f} where {expected:g} is priced"
    return [
        Check(
            name="sampling rate",
            measured=rate,
            low=least / (DRAWS * POPULATION),
            high=most / (DRAWS * POPULATION),
            told=told,
            alarm=RARELY,
        ),
        _variation(
            "batch sizes", sizes, POPULATION, expected, "batch sizes vary {:.2f} times as Poisson sampling's do"
        ),
        _variation("draws of each", times, DRAWS, expected, "how often each is drawn varies {:.2f} times as it should"),
    ]


def _variation(name: str, counts: Sequence[int], trials: int, rate: float, told: str) -> Check:
    """Hold the variance of counts against that of as many independent draws: each Binomial(`trials`, `rate`)."""
    variance, number = trials * rate * (1 - rate), len(counts)
    measured = float(np.var(counts)) / variance if variance else 1.0
    below = above = 0.0
    if variance:
        # The variance of a sample variance has the binomial's own excess kurtosis; Cornish and Fisher's first term
        # follows its skewness, which is large where hardly anybody is drawn.
        fourth, sixth = 2 + 1 / variance, 8 + 22 / variance + 1 / variance**2
        below = SIX_SIGMA * math.sqrt(fourth / number)
        above = below + (SIX_SIGMA**2 - 1) / 6 * sixth / (fourth * number)
    told, low = told.format(measured), max(0.0, 1 - below)
    return Check(name=name, measured=measured, low=low, high=1 + above, told=told, alarm=ALARM)


def _drawn(plan: RecordPlan) -> tuple[list[set[int]], int]:
    """Return the units that each step draws, and the number of steps, of a round on a linear model."""
    model, steps = nn.Linear(1, 1, bias=False), [0]
    drawn = [set[int]() for _ in range(plan.steps_per_round + 1)]
    each = RECORDS_OF_A_PERSON if plan.unit == "subject" else 1
    persons = [range(each * unit, each * (unit + 1)) for unit in range(POPULATION)]

    def losses(indices: Sequence[int]) -> Tensor:
        # The probe's two come first, and are written over.
        drawn[min(steps[0], plan.steps_per_round)] = {index // each for index in indices}
        answers: Tensor = model(torch.ones(len(indices), 1))
        return answers[:, 0]

    dpsgd.train(
        model=model,
        parameters=list(model.parameters()),
        optimizer=torch.optim.SGD(model.parameters(), lr=1e-3),
        plan=plan,
        population=POPULATION,
        losses=losses,
        subjects=persons if plan.unit == "subject" else None,
        progress=lambda step: steps.__setitem__(0, step),
    )
    return drawn[:-1], steps[0]
