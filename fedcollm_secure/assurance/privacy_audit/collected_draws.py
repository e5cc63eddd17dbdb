"""From steps that were watched to draws of noise, and to counts of who was drawn.

noise of a step = (gradient · batch_size − C · canaries that the batch held) / σC      standard normal, entry by entry
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.assurance.privacy_audit.false_alarms import ALARM, counts
from fedcollm_secure.assurance.privacy_audit.mechanism_check import Check
from fedcollm_secure.assurance.privacy_audit.noise_draws import Draw, Float64
from fedcollm_secure.assurance.privacy_audit.optimiser_watch import Step, Update
from fedcollm_secure.assurance.privacy_audit.planted_run import PlantedRun, is_chosen
from fedcollm_secure.assurance.privacy_audit.tensor_places import Places
from fedcollm_secure.assurance.privacy_audit.watched_learners import WatchedLearner
from fedcollm_secure.learning.training import Learner

GUARD = 1.0 - 2.0**-20
"""A contribution is clipped to this part of C (`fedcollm_privacy.clipping`)."""
STRAY = 1e-3
"""How far, as a part of its length, an update may be from what its gradients lead to in float32."""


@dataclass(frozen=True, kw_only=True)
class Drawn:
    """Who was in one batch: units, and in how many microbatches. `chosen`: by the audit, not by chance."""

    silo: str
    round: int
    step: int
    units: frozenset[int] = field(repr=False)
    population: int
    microbatches: int
    chosen: bool
    again: bool


@dataclass(kw_only=True)
class Collected:
    """What a run showed. `shown`: the canaries' silo's gradients, summed, float64[d] in units of C."""

    run: PlantedRun
    plan: RecordPlan
    places: Places
    again: bool = False
    draws: list[Draw] = field(default_factory=list[Draw], repr=False)
    drawn: list[Drawn] = field(default_factory=list[Drawn], repr=False)
    shown: Float64 = field(default_factory=lambda: np.zeros(0), repr=False)
    bits: int = 24
    _learners: dict[str, "_Known"] = field(default_factory=dict[str, "_Known"], repr=False)

    def take(self, step: Step) -> None:
        """Take the noise out of a step."""
        plan, known = self.plan, self._known(step.silo)
        units = {known.unit_of[record] for record in step.looked_at}
        total = np.zeros(self.run.parameters)
        tensors = {name: each.astype(np.float64) for name, each in step.gradients.items()}
        for name, gradient in tensors.items():
            start = self.places.starts[name]
            total[start : start + len(gradient)] = gradient * plan.batch_size / plan.clip_norm
        if step.silo == self.run.silo:
            self.shown = total.copy() if not len(self.shown) else self.shown + total
        for coordinate in (known.coordinate_of.get(unit) for unit in units):
            if coordinate is not None:
                total[coordinate] -= GUARD
        kept = self.places.cut(total / plan.noise_multiplier)
        noise = {name: part for name, part in kept.items() if name in tensors}
        self.draws.append(Draw(silo=step.silo, round=step.round, step=step.number, noise=noise, again=self.again))
        self.drawn.append(
            Drawn(
                silo=step.silo,
                round=step.round,
                step=step.number,
                units=frozenset(units),
                population=known.population,
                microbatches=-(-len(step.looked_at) // max(1, step.most_at_once)),
                chosen=is_chosen(known.canaries, plan.steps_per_round, step.round, step.number),
                again=self.again,
            )
        )

    def _known(self, silo: str) -> "_Known":
        if silo not in self._learners:
            self._learners[silo] = _Known.of(self.run, self.run.learner(silo))
        return self._learners[silo]


@dataclass(frozen=True, kw_only=True)
class _Known:
    """Which records make up which unit of a silo, and which units are canaries."""

    unit_of: Mapping[int, int] = field(repr=False)
    coordinate_of: Mapping[int, int] = field(repr=False)
    population: int
    canaries: bool

    @classmethod
    def of(cls, run: PlantedRun, learner: Learner) -> "_Known":
        units = learner.subjects or [(record,) for record in range(len(learner.records))]
        unit_of = {record: unit for unit, records in enumerate(units) for record in records}
        coordinates = learner.coordinates if isinstance(learner, WatchedLearner) else []
        found = {unit_of[record]: each for record, each in enumerate(coordinates) if each is not None}
        return cls(
            unit_of=unit_of,
            coordinate_of=found,
            population=len(units),
            canaries=run.canaries is not None and learner.name == run.silo,
        )


def update_checks(updates: Sequence[Update], plan: RecordPlan) -> list[Check]:
    """Hold each silo's update against its own gradients, and its steps against what is priced."""
    worst = max(updates, key=lambda each: each.strayed)
    taken = max((each.steps for each in updates), key=lambda steps: abs(steps - plan.steps_per_round))
    return [
        Check(
            name="post-processing",
            measured=worst.strayed,
            low=0,
            high=STRAY,
            told=f"an update is {worst.strayed:.2g} of its length from what its noisy gradients alone lead to "
            f"({worst.silo}, round {worst.round})",
        ),
        Check(
            name="steps of a round",
            measured=taken,
            low=plan.steps_per_round,
            high=plan.steps_per_round,
            told=f"a silo's optimiser takes {taken} steps a round, of {plan.steps_per_round} that are priced",
        ),
    ]


def batch_checks(drawn: Sequence[Drawn], plan: RecordPlan) -> list[Check]:
    """Hold the batches of each silo against the planned rate, and those of a repeated round against its first ones."""
    silos = sorted({each.silo for each in drawn})
    fewest = min(max(each.microbatches for each in drawn if each.silo == silo) for silo in silos)
    told = f"in each silo a batch of {fewest} or more microbatches was looked at"
    found = [Check(name="microbatches", measured=fewest, low=2, high=float("inf"), told=told)]
    by_chance = [each for each in drawn if not each.chosen]
    rates = [_rate(silo, [each for each in by_chance if each.silo == silo], plan, len(silos)) for silo in silos]
    found += [max(rates, key=lambda check: max(check.measured - check.high, check.low - check.measured))]
    return [*found, *_pairs(by_chance, plan)]


def _rate(silo: str, drawn: Sequence[Drawn], plan: RecordPlan, tests: int) -> Check:
    number, times = sum(each.population for each in drawn), sum(len(each.units) for each in drawn)
    low, high = counts(number, plan.sampling_rate, ALARM, tests) if number else (0, 0)
    told = f"{silo} drew {times} units, where {number * plan.sampling_rate:.0f} are expected"
    return Check(name="sampling of a silo", measured=times, low=low, high=high, told=told, alarm=ALARM)


def _pairs(drawn: Sequence[Drawn], plan: RecordPlan) -> list[Check]:
    """Count who is drawn in both or in neither of two batches: as many as chance has it."""
    first = {(each.silo, each.round, each.step): each for each in drawn if not each.again}
    again = [(first.get((each.silo, each.round, each.step)), each) for each in drawn if each.again]
    in_a_row = [(each, first.get((each.silo, each.round, each.step + 1))) for each in first.values() if each.step % 2]
    by_round = [(each, first.get((each.silo, each.round + 1, each.step))) for each in first.values() if each.round % 2]
    return [
        *_alike("sampling again", again, plan.sampling_rate, "in the same steps of another run"),
        *_alike("sampling in a row", in_a_row, plan.sampling_rate, "a step before"),
        *_alike("sampling by round", by_round, plan.sampling_rate, "in the same steps of the round before"),
    ]


def _alike(name: str, pairs: Sequence[tuple[Drawn | None, Drawn | None]], rate: float, when: str) -> list[Check]:
    both = [(one, other) for one, other in pairs if one and other and one.population == other.population]
    number = sum(one.population for one, _ in both)
    if not number or rate == 1:
        return []
    alike = number - sum(len(one.units ^ other.units) for one, other in both)
    low, high = counts(number, rate**2 + (1 - rate) ** 2, ALARM)
    told = f"{alike} of {number} units are in or out as they were {when}"
    return [Check(name=name, measured=alike, low=low, high=high, told=told, alarm=ALARM)]
