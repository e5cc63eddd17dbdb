"""Test the mechanism on the path that trains silos: `Learner` and `dpsgd.train`, asked through their randomness.

Randomness is an argument of both, so the audit can say who is drawn. With
plain descent at rate 1 a round's update is minus the sum of its noisy gradients over `batch_size`.

| check | what is compared | broken by |
|---|---|---|
| sensitivity | one step with and without a unit, next to no noise | no clipping, or by record; coupled records |
| contribution | a person of more records than the plan admits | a bound that is not kept |
| noise | two updates from one batch, under fresh noises | no noise, too little, or one that repeats |
| empty batches | the same, over steps of which all but one draw nobody | skipped empty batches, steps left out |
| sampling rate, batch sizes | how many are drawn over many steps | another rate, or batches of a fixed size |
| draws of each | who is drawn over many steps | always the same ones, or everybody in turn |
| steps | how many are taken | one more than is charged |
"""

import math
import os
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.stats import binom
from torch import Tensor, nn

from fedcollm_privacy import dpsgd
from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.assemble import Prepared
from fedcollm_secure.studies.audit.check import Check
from fedcollm_secure.studies.audit.neighbours import Company, Float64

SLACK = 1e-3
"""An update is read in float32; what a record changes is known to about this part of C."""
DRAWS, POPULATION = 200, 500
SIX_SIGMA = 6.0
RARELY = 1e-9
QUIET, UNBOUNDED, LOOSE = 1e-7, 1e30, 1e3
"""Noise, ε and clip norm of plans that are trained under to look at the sums alone; they release nothing."""
RECORDS_OF_A_PERSON = 2


def mechanism_checks(prepared: Prepared, silo: str) -> list[Check]:
    """Run every test on one silo's training. Raises: RuntimeError, ConfigError from training itself."""
    plan = prepared.plan
    if not isinstance(plan, RecordPlan):
        raise ValueError("mechanism_checks: expected a prepared configuration with a plan of DP-SGD in each silo")
    company = Company.of(prepared, silo)
    bench = Bench.of(company, plan)
    checks = [bench.sensitivity(), *company.contribution(prepared), bench.noise(), bench.empty_batches()]
    return [*checks, *sampling_checks(plan)]


class ChosenBatches:
    """Randomness under which the sampler draws exactly `batches`; noise comes from the operating system as ever."""

    def __init__(self, population: int, batches: Iterable[Sequence[int]]) -> None:
        """Tell a draw of `population` indices by its size, 8 bytes each."""
        self._population, self._batches = population, iter(batches)

    def __call__(self, size: int) -> bytes:
        """Return bytes for one draw, or for one noise."""
        if size != 8 * self._population:
            return os.urandom(size)
        words = np.full(self._population, 2**64 - 1, dtype="<u8")  # never drawn …
        words[list(next(self._batches))] = 0  # … and always drawn
        return words.tobytes()


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
        norm = float(np.linalg.norm(loose._quietly([company.short])))
        return cls(company=company, plan=replace(plan, clip_norm=norm / 2))

    def sensitivity(self) -> Check:
        """Measure the most that one unit changes one step's sum, in units of C, over neighbours of several sizes."""
        measured = self.company.worst_change(self._quietly) / self.plan.clip_norm
        return Check(
            name="sensitivity",
            measured=measured,
            low=0.99,  # the short record's gradient is 2 C: less would mean that the test sees nothing
            high=1.0 + SLACK,
            told=f"one {self.plan.unit} changes a step's sum by at most {measured:.3f} C",
        )

    def noise(self) -> Check:
        """Measure the noise's standard deviation in units of σC on a batch of everybody."""
        everybody = range(len(self.company.units))
        return self._spread("noise", [everybody], "two updates from one batch differ by noise of {:.3f} σC")

    def empty_batches(self) -> Check:
        """Measure the noise of a whole round in which one step draws everybody and all others nobody."""
        steps = max(2, self.plan.steps_per_round)
        batches = [range(len(self.company.units)), *[range(0)] * (steps - 1)]
        return self._spread(
            "empty batches", batches, f"{steps - 1} steps without a {self.plan.unit}: noise of {{:.3f}} σC√steps"
        )

    def _quietly(self, batch: Sequence[int]) -> Float64:
        return self._sums([batch], replace(self.plan, noise_multiplier=QUIET, epsilon=UNBOUNDED))

    def _spread(self, name: str, batches: Sequence[Sequence[int]], told: str) -> Check:
        """Compare two updates from the same batches under fresh noises with √2 · σC · √steps."""
        difference = self._sums(batches, self.plan) - self._sums(batches, self.plan)
        std = float(difference.std()) / math.sqrt(2 * len(batches)) / self.plan.clip_norm
        measured = std / self.plan.noise_multiplier
        tolerance = SIX_SIGMA / math.sqrt(2 * len(difference)) + SLACK
        return Check(name=name, measured=measured, low=1 - tolerance, high=1 + tolerance, told=told.format(measured))

    def _sums(self, batches: Sequence[Sequence[int]], plan: RecordPlan) -> Float64:
        """Return float64[d]: the noisy gradient sums of a round that draws these batches, added up."""
        shape = replace(plan, steps_per_round=len(batches), rounds=1, sampling_rate=0.5, epsilon=UNBOUNDED)
        learner = replace(
            self.company.learner,
            plan=shape,
            rounds=1,
            settings=replace(self.company.learner.settings, batch_size=plan.batch_size),
            random=ChosenBatches(len(self.company.units), batches),
        )
        sums: Float64 = -plan.batch_size * learner.update(self.company.start, 1).astype(np.float64)
        return sums


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
    return Check(name=name, measured=measured, low=max(0.0, 1 - below), high=1 + above, told=told.format(measured))


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
