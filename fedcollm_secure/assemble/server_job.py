"""The coordinator's side of a run: its folder and log, and one coordinator over any engine; begun, or gone on with."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from importlib import metadata

from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.roster import Roster
from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.assemble.narrator import Narrator, Progress
from fedcollm_secure.assemble.observed_work import observed
from fedcollm_secure.assemble.parties import first_manifest, server_end
from fedcollm_secure.assemble.server_side import ServerSide
from fedcollm_secure.assemble.server_work import make_co_tuning, make_evaluations
from fedcollm_secure.audit_log.checkpoint_folder import Witnesses
from fedcollm_secure.audit_log.environment import installed
from fedcollm_secure.audit_log.events import (
    Event,
    PartyConvicted,
    RoundClosed,
    RoundStarted,
    RunFinished,
    RunResumed,
    RunStarted,
)
from fedcollm_secure.audit_log.file_digests import file_digest
from fedcollm_secure.audit_log.log import LOG_NAME, AuditLog, origin, read_log
from fedcollm_secure.audit_log.unnamed_files import clear_unnamed
from fedcollm_secure.config.protection import NonPrivate, RecordDP
from fedcollm_secure.config.schema import tag_of
from fedcollm_secure.engines.engine import Engine
from fedcollm_secure.errors import NotStarted, RunError
from fedcollm_secure.federation.attestation import Attestation
from fedcollm_secure.federation.coordinator import Coordinator, Terms
from fedcollm_secure.federation.exchange import Traffic
from fedcollm_secure.federation.run_directory import Json, RunDirectory
from fedcollm_secure.federation.stopwatch import Stopwatch
from fedcollm_secure.federation.summing import Tools, Watch
from fedcollm_secure.learning.factors import Deltas, Rule
from fedcollm_secure.learning.joint import ServerStep
from fedcollm_secure.learning.pair import Pair

SOFTWARE = ("fedcollm-secure", "torch", "transformers", "peft", "cryptography", "dp-accounting", "numpy")


@dataclass(kw_only=True)
class Job:
    """A run that is ready to go."""

    session: str
    run: RunDirectory
    log: AuditLog
    coordinator: Coordinator
    done: int | None  # complete rounds of an earlier start; None where not even round 0 was scored
    attempts: Mapping[int, int]  # at each round, by what the log holds
    resources: ExitStack = field(repr=False)
    finished: bool = False  # the log is closed, and the last cosignatures and the summary's seal are missing

    def rounds(self) -> Iterator[Json]:
        """Run what is left and yield each round's line of metrics (see `Coordinator.rounds`)."""
        if self.finished:
            return iter(())
        return self.coordinator.rounds(self.done, self.attempts)

    def close(self) -> None:
        """Release the locks of the log, the journals and the ledgers."""
        self.resources.close()


@dataclass(frozen=True, kw_only=True)
class Keeper:
    """Who coordinates: what the server has, its identity, and the roster that lists it.

    `simulated`: this process holds every party's keys and records.
    """

    side: ServerSide
    identity: Identity = field(repr=False)
    roster: Roster
    simulated: bool


@dataclass(frozen=True, kw_only=True)
class Wiring:
    """What an engine may need to know of the run that it carries."""

    run: RunDirectory
    manifest: RoundManifest  # of no round yet
    resources: ExitStack = field(repr=False)
    stopwatch: Stopwatch
    narrator: Narrator


Connect = Callable[[Wiring], Engine]
"""Return the engine that reaches the other parties."""


def begin(keeper: Keeper, run: RunDirectory, session: str, connect: Connect, narrator: Narrator) -> Job:
    """Begin the log of a run whose folder holds its configuration, and wire the coordinator."""
    with ExitStack() as resources:
        log = resources.enter_context(closing(AuditLog.create(run.audit, keeper.identity, origin(session))))
        log.append(_started(keeper, run, session))
        log.checkpoint()
        job = _wire(keeper, run, log, session, connect, narrator, resources)
        job.resources = resources.pop_all()
    return job


def go_on(keeper: Keeper, run: RunDirectory, connect: Connect, narrator: Narrator) -> Job:
    """Go on with a run that stopped: its log is verified, what a crash interrupted is mended, no round is paid twice.

    Raises:
        NotStarted: it is finished. RunError: another process goes on with it. LogError: its log was changed.
    """
    session = session_of(run)
    with ExitStack() as resources:
        log = resources.enter_context(closing(AuditLog.open(run.audit, keeper.identity, origin(session))))
        events = _events(run)  # read again now that nobody else can append
        job = _resumed(keeper, run, log, events, connect, narrator, resources)
        job.resources = resources.pop_all()
    return job


def session_of(run: RunDirectory) -> str:
    """Return the session that a run's log was begun in. Raises: RunError."""
    return _session(_events(run))


def _events(run: RunDirectory) -> list[Event]:
    return [entry.event for entry in read_log(run.audit / LOG_NAME).entries]


def _resumed(
    keeper: Keeper,
    run: RunDirectory,
    log: AuditLog,
    events: list[Event],
    connect: Connect,
    narrator: Narrator,
    resources: ExitStack,
) -> Job:
    finished, summary = isinstance(events[-1], RunFinished), run.summary()
    if finished and (not summary or "log" in summary):
        raise NotStarted(f"{run.path} is finished; there is nothing to resume")
    clear_unnamed(run.audit, events)  # what a crash kept from being named
    last = next((event for event in reversed(events) if isinstance(event, RoundClosed)), None)
    closed = last.round if last else 0
    done = run.settle(closed)
    if not finished:
        environment = run.save_environment(installed())
        log.append(
            RunResumed(
                rounds_done=closed,
                config_digest=file_digest(run.path / "config.yaml"),
                software=_software(),
                environment_digest=environment,
            )
        )
    job = _wire(keeper, run, log, _session(events), connect, narrator, resources)
    convicted = frozenset(event.party for event in events if isinstance(event, PartyConvicted))
    job.coordinator.restore(done, last.ledgers if last else {}, convicted)
    job.done, job.finished = closed, finished
    job.attempts = Counter(event.round for event in events if isinstance(event, RoundStarted))
    return job


def _wire(
    keeper: Keeper,
    run: RunDirectory,
    log: AuditLog,
    session: str,
    connect: Connect,
    narrator: Narrator,
    resources: ExitStack,
) -> Job:
    side = keeper.side
    config = side.common.config
    stopwatch = Stopwatch(enters=narrator.enters, leaves=narrator.leaves)
    models = (side.server_slm.model, side.server_llm.model)
    resources.enter_context(observed(models, narrator.stepped, narrator.passed))
    manifest = first_manifest(side.common, keeper.roster, session)
    engine, traffic = (
        connect(Wiring(run=run, manifest=manifest, resources=resources, stopwatch=stopwatch, narrator=narrator)),
        Traffic(),
    )
    coordinator = Coordinator(
        terms=Terms(
            rounds=config.rounds,
            evaluate_every=config.evaluate.every,
            delta=None if isinstance(config.privacy, NonPrivate) else config.privacy.delta,
            gates=config.gates,
        ),
        tools=Tools(
            manifest=manifest,
            decryptor=side.common.decryptor,
            rule=_server_rule(side, run),
            engine=engine,
            encoding=side.common.encoding,
            make_end=server_end(side.common, keeper.roster, keeper.identity),
            log=log,
            run=run,
            attestation=Attestation(log=log, engine=engine, witnesses=Witnesses.of(keeper.roster), traffic=traffic),
            traffic=traffic,
            stopwatch=stopwatch,
            watch=narrator,
            archive=config.audit.archive,
        ),
        pair=_pair(side, run),
    )
    return Job(session=session, run=run, log=log, coordinator=coordinator, done=None, attempts={}, resources=resources)


def make_narrator(side: ServerSide, watch: Watch, progress: Progress) -> Narrator:
    """Return who tells of the run, knowing how many steps each phase has, as far as that is known beforehand."""
    config, plan = side.common.config, side.common.plan
    narrator = Narrator(watch, progress, silos=len(side.common.silos))
    steps = plan.steps_per_round if isinstance(plan, RecordPlan) else config.silo.steps or 0
    prompts = len({record.prompt for record in side.test})
    narrator.expects({"train": steps, "distill": 2 * config.distill.steps, "evaluate": 2 * prompts})
    return narrator


def _server_rule(side: ServerSide, run: RunDirectory) -> Rule:
    """Return the rule with the server's optimiser in it, where silos send gradients."""
    rule, config = side.common.rule, side.common.config
    if not isinstance(rule, Deltas) or not isinstance(config.privacy, RecordDP) or config.privacy.noise == "own":
        return rule
    step = ServerStep(
        settings=config.silo,
        rounds=config.rounds,
        silos=len(side.common.silos),
        optimizer_file=run.path / "server" / "joint.safetensors",
    )
    return replace(rule, step=step)


def _pair(side: ServerSide, run: RunDirectory) -> Pair:
    config = side.common.config
    return Pair(
        llm=side.server_llm,
        slm=side.server_slm,
        co_tuning=make_co_tuning(side, optimizer_folder=run.path / "server"),
        evaluations=make_evaluations(side),
        origins={"llm": config.models.llm.source, "slm": config.models.slm.source},
    )


def _started(keeper: Keeper, run: RunDirectory, session: str) -> RunStarted:
    side = keeper.side
    return RunStarted(
        run_id=session,
        config_digest=file_digest(run.path / "config.yaml"),
        software=_software(),
        roster_digest=keeper.roster.hash,
        aggregation=tag_of(side.common.config.aggregation),
        privacy=tag_of(side.common.config.privacy),
        models={"llm": side.llm.digest, "slm": side.slm.digest},
        environment_digest=run.save_environment(installed()),
        simulated=keeper.simulated,
    )


def _session(events: list[Event]) -> str:
    first = events[0] if events else None
    if not isinstance(first, RunStarted):
        raise RunError("the log does not begin with run_started; run verify")
    return first.run_id


def _software() -> Mapping[str, str]:
    return {name: metadata.version(name) for name in SOFTWARE}
