"""Audit DP-SGD with its own noise in every silo: a run with canaries, then rounds again, and what both showed."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.assemble import Prepared
from fedcollm_secure.assurance.privacy_audit.audited_data_set import copies
from fedcollm_secure.assurance.privacy_audit.collected_draws import Collected, Drawn, batch_checks, update_checks
from fedcollm_secure.assurance.privacy_audit.mechanism_check import Check
from fedcollm_secure.assurance.privacy_audit.noise_checks import noise_checks
from fedcollm_secure.assurance.privacy_audit.noise_draws import Draw, Float64, Table, float_tables
from fedcollm_secure.assurance.privacy_audit.one_run_audit import Canaries, Seen
from fedcollm_secure.assurance.privacy_audit.optimiser_watch import Update, Watch
from fedcollm_secure.assurance.privacy_audit.planted_run import ROUNDS, PlantedRun
from fedcollm_secure.assurance.privacy_audit.tensor_places import Places
from fedcollm_secure.learning.vectors import Float32

SCALING_DRAWS = 20
"""Draws at least by which a coordinate's own noise is measured for the canaries' scores."""


@dataclass(frozen=True, kw_only=True)
class WatchedRun:
    """`seen`: at each point, larger where a canary is in. `rounds`: those that were looked at."""

    plan: RecordPlan
    seen: dict[str, Seen] = field(repr=False)
    draws: Sequence[Draw] = field(repr=False)
    drawn: Sequence[Drawn] = field(repr=False)
    updates: Sequence[Update] = field(repr=False)
    copied: Check
    rounds: Sequence[int]

    @cached_property
    def tables(self) -> list[Table]:
        """Return all noise, from every silo."""
        return float_tables(self.draws, bits=24)

    def checks(self) -> list[Check]:
        """Return what the run says of noise, batches, updates and copies."""
        return [
            *noise_checks(self.tables),
            *update_checks(self.updates, self.plan),
            *batch_checks(self.drawn, self.plan),
            self.copied,
        ]


def watched_run(prepared: Prepared, silo: str, plan: RecordPlan, canaries: Canaries, places: Places) -> WatchedRun:
    """Run the job with canaries in `silo`; then train every silo again, without them, in rounds that a run has."""
    watch = Watch()
    run = PlantedRun.of(prepared, silo, canaries, watch)
    first = Collected(run=run, plan=plan, places=places)
    watch.took = first.take
    before = prepared.server_slm.read()
    with watch.opened():
        done = run.run()
        after = prepared.server_slm.read()
        quiet = PlantedRun.of(prepared, silo, None, watch)
        again = Collected(run=quiet, plan=plan, places=places, again=True)
        watch.took = again.take
        rounds = _train_again(quiet, plan, before)
    updates = [each.change for each in watch.updates[: done * len(prepared.silos)] if each.silo == silo]
    return WatchedRun(
        plan=plan,
        seen={
            "steps": Seen(shown=first.shown, noise=_own_noise(again, silo, prepared.parameters)),
            "update": Seen(shown=-_sum(updates)),
            "sum": Seen(shown=-_sum(run.changes())),
            "model": Seen(shown=-(after.astype(np.float64) - before)),
        },
        draws=[*first.draws, *again.draws],
        drawn=[*first.drawn, *again.drawn],
        updates=watch.updates,
        copied=copies_check([run, quiet]),
        rounds=sorted({*range(1, done + 1), *rounds}),
    )


def copies_check(runs: Sequence[PlantedRun]) -> Check:
    """Count how often a planted record stands among its silo's: once."""
    least, most = 1, 1
    for run in runs:
        for name, planted in run.planted.items():
            fewest, often = copies(run.learner(name).records, planted)
            least, most = min(least, fewest), max(most, often)
    measured = least if least < 1 else most
    told = f"a record that is in a silo's file once is in its training {measured} time{'s' * (measured != 1)}"
    return Check(name="copies", measured=measured, low=1, high=1, told=told)


def _train_again(quiet: PlantedRun, plan: RecordPlan, start: Float32) -> set[int]:
    """Train every silo in round 1, and in a middle round and the last where the run did not reach them."""
    later = {plan.rounds // 2 + 1, plan.rounds} if plan.rounds > ROUNDS else set[int]()
    for name in quiet.silos:
        learner = quiet.learner(name)
        times = -(-SCALING_DRAWS // plan.steps_per_round) if name == quiet.silo else 1
        for number in [*[1] * times, *sorted(later)]:
            learner.update(start, number)
    return later


def _own_noise(again: Collected, silo: str, parameters: int) -> Float64:
    """Return float64[d]: the standard deviation of each entry's noise in this silo; 0 where none was drawn."""
    squares, times = np.zeros(parameters), np.zeros(parameters)
    for draw in again.draws:
        for name, part in draw.noise.items() if draw.silo == silo else ():
            kept = again.places.kept[name]
            start = again.places.starts[name] + kept.start
            squares[start : start + len(part)] += part**2
            times[start : start + len(part)] += 1
    found: Float64 = np.sqrt(squares / np.maximum(times, 1))
    return found


def _sum(changes: Sequence[Float32]) -> Float64:
    return np.asarray(np.sum(np.stack(changes), axis=0, dtype=np.float64))
