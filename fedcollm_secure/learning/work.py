"""How much a run reads, counted before it begins: the passes of each part, made of the very batches that it will make.

Where nobody is drawn by chance the counts are exact. Under DP-SGD a batch is secret and differs each time: the count is
a mean over draws made here, which nobody uses.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from fedcollm_privacy.blocks import blocks
from fedcollm_privacy.plans import TrainingPlan
from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure.learning.batches import SMALLEST, Shape, Tokens
from fedcollm_secure.learning.distill import CoTuning
from fedcollm_secure.learning.likelihoods import Pass
from fedcollm_secure.learning.training import Learner

DRAWS = 64


@dataclass(frozen=True, kw_only=True)
class Work:
    """Tokens that a part of a run reads, `real` ones and with padding, in `passes`; `some` of these stand for all.

    Figures are means where batches are drawn by chance.
    """

    real: float = 0.0
    padded: float = 0.0
    passes: float = 0.0
    some: tuple[Pass, ...] = ()

    @classmethod
    def of(cls, passes: Iterable[Pass], *, times: float = 1.0) -> "Work":
        """Return the work of these passes, made so many times."""
        found = tuple(passes)
        return cls(
            real=times * sum(each.real for each in found),
            padded=times * sum(each.padded for each in found),
            passes=times * len(found),
            some=_kinds(found),
        )

    def __add__(self, other: "Work") -> "Work":
        """Return the work of both."""
        return Work(
            real=self.real + other.real,
            padded=self.padded + other.padded,
            passes=self.passes + other.passes,
            some=_kinds((*self.some, *other.some)),
        )


def _kinds(passes: Sequence[Pass]) -> tuple[Pass, ...]:
    """Return the pass with the most tokens, and the one that half of all tokens are in or below."""
    ordered = sorted(passes, key=lambda each: (each.padded, each.keep))
    if not ordered:
        return ()
    behind = np.cumsum([each.padded for each in ordered])
    return (ordered[-1], ordered[int(np.searchsorted(behind, behind[-1] / 2))])


def evaluations(rounds: int, every: int) -> int:
    """Return how often the pair is scored: untrained, after every so many rounds, and after the last."""
    return 1 + sum(1 for number in range(1, rounds + 1) if number % every == 0 or number == rounds)


def silo_work(learner: Learner) -> Work:
    """Return what a silo reads in all rounds."""
    if learner.plan is not None and learner.plan.unit != "silo":
        return _private_work(learner, learner.plan)
    passes = (
        _pass_over([learner.records[index] for index in part])
        for number in range(1, learner.rounds + 1)
        for batch in islice(learner.plain_batches(number), learner.steps_per_round)
        for part in learner.parts(sorted(batch))
    )
    return Work.of(passes)


def co_tuning_work(co_tuning: CoTuning, records: Sequence[Tokens]) -> Work:
    """Return what a model to which the auxiliary records are `records` reads in the server's steps of all rounds."""
    passes = (
        _pass_over([records[index] for index in part])
        for number in range(1, co_tuning.rounds + 1)
        for batch in islice(co_tuning.batches(number), co_tuning.settings.steps)
        for part in co_tuning.parts(batch)
    )
    return Work.of(passes)


def auxiliary_work(co_tuning: CoTuning, times: int) -> Work:
    """Return what a gate on the auxiliary loss makes the small model read, so many times."""
    everything = range(len(co_tuning.records))
    parts = ([co_tuning.records[index] for index in part] for part in co_tuning.parts(everything))
    return Work.of(map(_pass_over, parts), times=times)


def steps_of(plan: TrainingPlan) -> int:
    """Return the steps of a plan in a round: one where silos share the noise of each."""
    return 1 if isinstance(plan, SharedPlan) else plan.steps_per_round


def _private_work(learner: Learner, plan: TrainingPlan) -> Work:
    """Return the mean over draws of one step, times the steps of all rounds."""
    alone = [(record,) for record in range(len(learner.records))]
    units: Sequence[Sequence[int]] = alone if learner.subjects is None else learner.subjects
    generator = np.random.default_rng(0)
    rows = 1 if learner.gradients == "one_by_one" else learner.rows
    rate = 1.0 if plan.unit == "silo" else plan.sampling_rate
    found: list[Pass] = []
    for _ in range(DRAWS):
        drawn = np.flatnonzero(generator.random(len(units)) < rate).tolist()
        found += _blocks([units[unit] for unit in drawn], rows, learner)
    return Work.of(found, times=steps_of(plan) * learner.rounds / DRAWS)


def _blocks(units: Sequence[Sequence[int]], rows: int, learner: Learner) -> Iterator[Pass]:
    shape_of: Callable[[int], Shape] = lambda index: learner.encoder.shape(learner.records[index])  # noqa: E731
    for block in blocks(units, rows, shape_of):
        records = [learner.records[index] for index in block.records]
        least = Shape.covering([learner.encoder.shape(record) for record in records])
        yield _pass_over(records, least)


def _pass_over(records: Sequence[Tokens], least: Shape = SMALLEST) -> Pass:
    shape = Shape.covering([least, *(Shape(width=each.width, keep=len(each.answer)) for each in records)])
    return Pass.over([record.width for record in records], width=shape.width, keep=shape.keep)
