"""Test the mechanism on the path that trains silos: `Learner` and `dpsgd.train`, asked through their randomness.

Randomness is an argument of both, so the audit can say who is drawn. With
plain descent at rate 1 a round's update is minus the sum of its noisy gradients over `batch_size`.

| check | what is compared | broken by |
|---|---|---|
| sensitivity | one step with and without a record, next to no noise | no clipping, a loss that couples records |
| noise | two updates from one batch, under fresh noises | no noise, too little, or one that repeats |
| empty batches | the same, over steps of which all but one draw nobody | skipped empty batches, steps left out |
| sampling rate, batch sizes | who is drawn over many steps | another rate, or batches of a fixed size |
| steps | how many are taken | one more than is charged |
"""

import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedcollm_privacy import dpsgd
from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.assemble import Prepared
from fedcollm_secure.learning.batches import Tokens, max_length
from fedcollm_secure.learning.training import Learner
from fedcollm_secure.studies.audit.check import Check

NEIGHBOURS, COPIES, PRIVATE_RECORDS = 16, 8, 8
SLACK = 1e-3
"""An update is read in float32; what a record changes is known to about this part of C."""
DRAWS, POPULATION = 200, 500
FIVE_SIGMA = 5.0
START_STD = 0.02
QUIET, UNBOUNDED, LOOSE = 1e-7, 1e30, 1e3
"""Noise, ε and clip norm of plans that are trained under to look at the sums alone; they release nothing."""
Float64 = NDArray[np.float64]


def mechanism_checks(prepared: Prepared, silo: str) -> list[Check]:
    """Run every test on one silo's training. Raises: RuntimeError, ConfigError from training itself."""
    plan = prepared.plan
    if not isinstance(plan, RecordPlan):
        raise ValueError("mechanism_checks: expected a prepared configuration with a plan of DP-SGD in each silo")
    bench = Bench.of(prepared, silo, plan)
    return [bench.sensitivity(), bench.noise(), bench.empty_batches(), *sampling_checks(plan)]


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
    """A silo's learner with the audit's records: some of its own, some made up, whose answers are long or short.

    Beside copies of a short record, one with a long answer is the worst neighbour for a loss that couples records; and
    a clip norm at half the short record's gradient shows both what clipping does and what a weaker gradient would.
    """

    learner: Learner
    plan: RecordPlan
    start: NDArray[np.float32]
    short: int  # index of a record with a one-token answer, of which the next COPIES − 1 are copies
    made_up: range

    @classmethod
    def of(cls, prepared: Prepared, silo: str, plan: RecordPlan) -> "Bench":
        """Choose records and a starting point, and clip at half the gradient of the short record."""
        generator = np.random.default_rng(prepared.config.seed)
        honest = prepared.learner(silo)
        own = list(honest.records[:: max(1, len(honest.records) // PRIVATE_RECORDS)][:PRIVATE_RECORDS])
        made_up = _made_up(prepared, generator)
        records = [*own, *made_up]
        noise = generator.normal(0.0, START_STD, prepared.parameters).astype(np.float32)
        bench = cls(
            learner=replace(honest, records=records, settings=replace(honest.settings, batch_size=plan.batch_size)),
            plan=plan,
            start=prepared.server_slm.read() + noise,
            short=len(own),
            made_up=range(len(own), len(records)),
        )
        loose = replace(bench, plan=replace(plan, clip_norm=LOOSE))
        norm = float(np.linalg.norm(loose._quietly([bench.short])))
        return replace(bench, plan=replace(plan, clip_norm=norm / 2))

    def sensitivity(self) -> Check:
        """Measure the most that one record changes one step's sum, in units of C, over neighbours of several sizes."""
        generator = np.random.default_rng(len(self.made_up))
        copies = list(range(self.short, self.short + COPIES))
        worst = self.change_by(copies[0], copies[1:])
        for added in self.made_up[COPIES:]:
            worst = max(worst, self.change_by(added, copies))
        for _ in range(NEIGHBOURS):
            *others, added = generator.permutation(len(self.learner.records))[: generator.integers(2, 10)].tolist()
            worst = max(worst, self.change_by(added, others))
        measured = worst / self.plan.clip_norm
        return Check(
            name="sensitivity",
            measured=measured,
            low=0.99,  # the short record's gradient is 2 C: less would mean that the test sees nothing
            high=1.0 + SLACK,
            told=f"one record changes a step's sum by at most {measured:.3f} C",
        )

    def noise(self) -> Check:
        """Measure the noise's standard deviation in units of σC on a batch of everybody."""
        everybody = range(len(self.learner.records))
        return self._spread("noise", [everybody], "two updates from one batch differ by noise of {:.3f} σC")

    def empty_batches(self) -> Check:
        """Measure the noise of a whole round in which one step draws everybody and all others nobody."""
        steps = max(2, self.plan.steps_per_round)
        batches = [range(len(self.learner.records)), *[range(0)] * (steps - 1)]
        return self._spread("empty batches", batches, f"{steps - 1} steps without a record: noise of {{:.3f}} σC√steps")

    def change_by(self, added: int, others: Sequence[int]) -> float:
        """Return the norm of one step's sum with a record minus that without it; `others` is not empty."""
        return float(np.linalg.norm(self._quietly([*others, added]) - self._quietly(others)))

    def _quietly(self, batch: Sequence[int]) -> Float64:
        return self._sums([batch], replace(self.plan, noise_multiplier=QUIET, epsilon=UNBOUNDED))

    def _spread(self, name: str, batches: Sequence[Sequence[int]], told: str) -> Check:
        """Compare two updates from the same batches under fresh noises with √2 · σC · √steps."""
        difference = self._sums(batches, self.plan) - self._sums(batches, self.plan)
        std = float(difference.std()) / math.sqrt(2 * len(batches)) / self.plan.clip_norm
        measured = std / self.plan.noise_multiplier
        tolerance = FIVE_SIGMA / math.sqrt(2 * len(difference)) + SLACK
        return Check(name=name, measured=measured, low=1 - tolerance, high=1 + tolerance, told=told.format(measured))

    def _sums(self, batches: Sequence[Sequence[int]], plan: RecordPlan) -> Float64:
        """Return float64[d]: the noisy gradient sums of a round that draws these batches, added up."""
        shape = replace(plan, steps_per_round=len(batches), rounds=1, sampling_rate=0.5, epsilon=UNBOUNDED)
        learner = replace(
            self.learner,
            plan=shape,
            rounds=1,
            random=ChosenBatches(len(self.learner.records), batches),
        )
        sums: Float64 = -plan.batch_size * learner.update(self.start, 1).astype(np.float64)
        return sums


def sampling_checks(plan: RecordPlan) -> list[Check]:
    """Count who is drawn in many steps of `dpsgd.train`, and the steps of a round."""
    many = replace(plan, steps_per_round=DRAWS, rounds=1, epsilon=UNBOUNDED)
    sizes, taken = _drawn(many)
    rate, expected = sum(sizes) / (DRAWS * POPULATION), plan.sampling_rate
    off = FIVE_SIGMA * (expected * (1 - expected) / (DRAWS * POPULATION)) ** 0.5
    variance = POPULATION * expected * (1 - expected)
    spread = float(np.var(sizes)) / variance if variance else 1.0
    # The variance of a sample variance, with the binomial's own excess kurtosis.
    wide = FIVE_SIGMA * ((2 + 1 / max(variance, 1e-9)) / DRAWS) ** 0.5 if variance else 0.0
    return [
        Check(
            name="sampling rate",
            measured=rate,
            low=expected - off,
            high=expected + off,
            told=f"{sum(sizes)} draws of {DRAWS * POPULATION}, a rate of {rate:.4f} where {expected:g} is priced",
        ),
        Check(
            name="batch sizes",
            measured=spread,
            low=max(0.0, 1 - wide),
            high=1 + wide,
            told=f"batch sizes vary {spread:.2f} times as Poisson sampling's do",
        ),
        Check(
            name="steps", measured=taken, low=DRAWS, high=DRAWS, told=f"{taken} steps taken of {DRAWS} that are priced"
        ),
    ]


def _drawn(plan: RecordPlan) -> tuple[list[int], int]:
    """Return the batch size of every step, and the number of steps, of a round on a linear model."""
    model, sizes, steps = nn.Linear(1, 1, bias=False), [0] * (plan.steps_per_round + 1), [0]

    def losses(indices: Sequence[int]) -> Tensor:
        sizes[min(steps[0], plan.steps_per_round)] = len(indices)  # the probe's two come first, and are written over
        answers: Tensor = model(torch.ones(len(indices), 1))
        return answers[:, 0]

    dpsgd.train(
        model=model,
        parameters=list(model.parameters()),
        optimizer=torch.optim.SGD(model.parameters(), lr=1e-3),
        plan=plan,
        population=POPULATION,
        losses=losses,
        progress=lambda step: steps.__setitem__(0, step),
    )
    return sizes[:-1], steps[0]


def _made_up(prepared: Prepared, generator: np.random.Generator) -> list[Tokens]:
    """Return copies of one record with a short answer, then records of random tokens with ever longer answers."""
    longest = max(2, min(64, max_length(prepared.silo_slm.model) // 2 - 1))
    lengths = sorted({2, longest // 4 or 1, longest // 2 or 1, longest})

    def random_ids(count: int) -> tuple[int, ...]:
        return tuple(generator.integers(2, len(prepared.slm.tokenizer), count).tolist())

    short = Tokens(prompt=random_ids(6), answer=random_ids(1))
    return [short] * COPIES + [Tokens(prompt=random_ids(6), answer=random_ids(length)) for length in lengths]
