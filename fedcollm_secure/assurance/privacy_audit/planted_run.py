"""The job with planted records: the product's own path, configured as ever, and all silos watched.

In one silo canaries are planted; every other silo holds fillers, so that it has batches of more than one microbatch.
All losses but the canaries' are hushed: whatever else a step's gradient holds is its noise. To hush them is to grant
the attacker all other records, as differential privacy does.

Of a round's steps (of a run's, where a round has fewer than three) the first draws everybody and the second nobody,
but that the canaries' silo draws by chance in the first; all others draw by chance everywhere.
"""

import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np

from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.assemble import Prepared, start
from fedcollm_secure.assurance.privacy_audit.audited_data_set import Planted, texts, tokens_of, with_planted
from fedcollm_secure.assurance.privacy_audit.one_run_audit import Canaries
from fedcollm_secure.assurance.privacy_audit.optimiser_watch import Watch
from fedcollm_secure.assurance.privacy_audit.watched_learners import HUSHED, WatchedLearner
from fedcollm_secure.learning.batches import Tokens
from fedcollm_secure.learning.training import Learner
from fedcollm_secure.learning.vectors import Float32

MOST_FILLERS = 256
ROUNDS = 4
"""Rounds of the whole protocol that are run; of a longer plan a middle one and the last are trained without it."""
SCRIPTED = 2


@dataclass(frozen=True, kw_only=True)
class PlantedRun(Prepared):
    """A prepared run whose silos hold planted records; it keeps what is seen. `empty`: a silo that draws nobody."""

    silo: str
    canaries: Canaries | None
    watch: Watch = field(repr=False)
    known: Mapping[Tokens, int] = field(repr=False)  # the coordinate of each canary's records
    planted: Mapping[str, Sequence[Tokens]] = field(repr=False)
    empty: str = ""
    server: dict[int, list[Float32]] = field(default_factory=dict[int, list[Float32]], repr=False)

    @classmethod
    def of(
        cls, prepared: Prepared, silo: str, canaries: Canaries | None, watch: Watch, *, empty: str = ""
    ) -> "PlantedRun":
        """Plant canaries in `silo` and fillers in all others; without canaries, fillers in every silo."""
        prompts = texts(prepared)
        planted = {name: _fillers(prepared, prompts) for name in prepared.silos}
        coordinates = list[int]()
        if canaries is not None:
            planted[silo] = _persons(prompts, len(canaries.present), canaries.records_each)
            coordinates = [each for each in canaries.present for _ in range(canaries.records_each)]
        tokens = {name: tokens_of(prepared, name, records) for name, records in planted.items()}
        parts = {each.name: getattr(prepared, each.name) for each in fields(Prepared)}
        parts["holdings"] = with_planted(prepared, planted)
        return cls(
            **parts,
            silo=silo,
            canaries=canaries,
            watch=watch,
            known=dict(zip(tokens[silo], coordinates, strict=False)),
            planted=tokens,
            empty=empty,
        )

    def learner(self, silo: str, *, optimizer_file: Path | None = None) -> Learner:
        """Return a silo's training, watched; where silos are the unit nothing is hushed."""
        honest = super().learner(silo, optimizer_file=optimizer_file)
        if self.plan is None or self.plan.unit == "silo":
            return honest
        return WatchedLearner.of(
            honest,
            self.watch,
            loudness=[HUSHED] * len(honest.records),
            coordinates=[self.known.get(each) for each in honest.records],
            batches=lambda number: self._batches(honest, number),
        )

    def watch_server(self, round_number: int, _phase: str) -> None:
        """Keep the server's small model at each phase of a round."""
        self.server.setdefault(round_number, []).append(self.server_slm.read())

    def changes(self) -> list[Float32]:
        """Return what each round's sum changed: the first phase whose model differs comes right after it."""
        found = list[Float32]()
        for _, (before, *phases) in sorted((number, kept) for number, kept in self.server.items() if number > 0):
            after = next((each for each in phases if not np.array_equal(each, before)), before)
            found.append(after - before)
        return found

    def run(self) -> int:
        """Run the job's first rounds in a folder that is thrown away, and return how many."""
        with tempfile.TemporaryDirectory() as folder:
            job = start(self, Path(folder) / "run", self.watch_server)
            try:
                return len(list(itertools.islice(job.rounds(), 1 + ROUNDS))) - 1
            finally:
                job.close()

    def _batches(self, learner: Learner, number: int) -> Iterator[Sequence[int] | None]:
        """Yield the batches of a round; None where chance draws them."""
        population = len(learner.records if learner.subjects is None else learner.subjects)
        if learner.name == self.empty:
            return itertools.repeat(())
        if not isinstance(self.plan, RecordPlan):
            return iter(())
        canaries = learner.name == self.silo and self.canaries is not None
        script: list[Sequence[int] | None] = [None if canaries else range(population), ()]
        steps = self.plan.steps_per_round
        return iter(script if steps > SCRIPTED else script[(number - 1) * steps : number * steps])


def is_chosen(canaries: bool, steps: int, number: int, step: int) -> bool:
    """Say whether the batch of this step (from 1) of round `number` was chosen."""
    place = step if steps > SCRIPTED else (number - 1) * steps + step
    return place == SCRIPTED or (place == 1 and not canaries)


def _fillers(prepared: Prepared, prompts: Iterator[str]) -> list[Planted]:
    return _persons(prompts, min(MOST_FILLERS, prepared.config.silo.microbatch), 1)


def _persons(prompts: Iterator[str], count: int, records_each: int) -> list[Planted]:
    """Return records of so many persons, whom a plan for records takes no note of."""
    first = [next(prompts) for _ in range(count)]
    return [
        Planted(text=next(prompts) if number else name, subject=f"planted {name}")
        for name in first
        for number in range(records_each)
    ]


def with_microbatch(prepared: Prepared, population: int) -> Prepared:
    """Return the job with microbatches small enough that a batch of this silo is of two or more of them."""
    plan, settings = prepared.plan, prepared.config.silo
    expected = population * (plan.sampling_rate if plan is not None else 1.0)
    if settings.microbatch <= 0.8 * expected:
        return prepared
    smaller = replace(settings, microbatch=max(1, int(expected / 2)))
    return replace(prepared, config=replace(prepared.config, silo=smaller))
