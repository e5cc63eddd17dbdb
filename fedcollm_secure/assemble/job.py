"""A run's folder, ledgers and log, and all parties wired to one coordinator: started, or resumed after a crash."""

import secrets
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from fedcollm_crypto.homomorphic.worker import Worker
from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.assemble.begun_again import clear_unbegun
from fedcollm_secure.assemble.narrator import Narrator, Progress, tell_nobody
from fedcollm_secure.assemble.observed_work import observed
from fedcollm_secure.assemble.parties import Parties, first_manifest, load_parties, make_parties, server_end
from fedcollm_secure.assemble.prepare import Prepared
from fedcollm_secure.assemble.server_work import make_co_tuning, make_evaluations
from fedcollm_secure.assemble.simulated_silos import (
    Site,
    check_weights,
    keeping_optimizer,
    make_decryptor,
    make_silo,
    on_one_disk,
)
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
from fedcollm_secure.config import resolved
from fedcollm_secure.config.protection import NonPrivate, RecordDP
from fedcollm_secure.config.schema import tag_of
from fedcollm_secure.engines.local import LocalEngine
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


def start(prepared: Prepared, out: Path, watch: Watch, progress: Progress = tell_nobody) -> Job:
    """Make the run's folder and everything in it.

    Raises:
        NotStarted: `out` is not empty.
        ConfigError: a silo holds more records than a weight can count.
    """
    check_weights(prepared)
    run = RunDirectory.create(out, resolved(prepared.config))
    parties = make_parties(prepared, run)
    session = f"{prepared.config.name}-{datetime.now(UTC):%Y%m%d}-{secrets.token_hex(4)}"
    with ExitStack() as resources:
        log = resources.enter_context(closing(AuditLog.create(run.audit, parties.server, origin(session))))
        log.append(_started(prepared, parties, run, session))
        log.checkpoint()
        job = _wire(prepared, parties, run, log, session, _narrator(prepared, watch, progress), resources)
        job.resources = resources.pop_all()
    return job


def resume(prepared: Prepared, out: Path, watch: Watch, progress: Progress = tell_nobody) -> Job:
    """Go on with a run that stopped: its log is verified, what a crash interrupted is mended, no round is paid twice.

    A run that died before round 0 was scored is begun again in the same folder: no silo was asked for anything yet.
    Raises:
        NotStarted: there is no run, it has another configuration, or it is finished.
        RunError: another process goes on with it.
        LogError: its log was changed.
    """
    run = RunDirectory(out)
    config = out / "config.yaml"
    if not config.is_file():
        raise NotStarted(f"{out} holds no run to resume; start one without --resume")
    if config.read_text(encoding="utf-8") != resolved(prepared.config):
        raise NotStarted(
            f"{config} differs from the given configuration; resume with the one that began the run, and its --set"
        )
    if clear_unbegun(run):
        return start(prepared, out, watch, progress)
    parties = load_parties(prepared, run)
    session = _session(_events(run))
    with ExitStack() as resources:
        log = resources.enter_context(closing(AuditLog.open(run.audit, parties.server, origin(session))))
        events = _events(run)  # read again now that nobody else can append
        job = _resumed(prepared, parties, run, log, events, _narrator(prepared, watch, progress), resources)
        job.resources = resources.pop_all()
    return job


def _events(run: RunDirectory) -> list[Event]:
    return [entry.event for entry in read_log(run.audit / LOG_NAME).entries]


def _resumed(
    prepared: Prepared,
    parties: Parties,
    run: RunDirectory,
    log: AuditLog,
    events: list[Event],
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
    job = _wire(prepared, parties, run, log, _session(events), narrator, resources)
    convicted = frozenset(event.party for event in events if isinstance(event, PartyConvicted))
    job.coordinator.restore(done, last.ledgers if last else {}, convicted)
    job.done, job.finished = closed, finished
    job.attempts = Counter(event.round for event in events if isinstance(event, RoundStarted))
    return job


def _wire(
    prepared: Prepared,
    parties: Parties,
    run: RunDirectory,
    log: AuditLog,
    session: str,
    narrator: Narrator,
    resources: ExitStack,
) -> Job:
    config = prepared.config
    stopwatch = Stopwatch(enters=narrator.enters, leaves=narrator.leaves)
    models = (prepared.server_slm.model, prepared.server_llm.model)
    resources.enter_context(observed(models, narrator.stepped, narrator.passed))
    manifest = first_manifest(prepared, parties.roster, session)
    site = Site(
        prepared=prepared,
        parties=parties,
        run=run,
        manifest=manifest,
        resources=resources,
        stopwatch=stopwatch,
        worker=resources.enter_context(Worker(progress=narrator.encrypting)),
    )
    handlers = {
        name: on_one_disk(name, narrator.serves(name, keeping_optimizer(run, name, make_silo(site, name).answer)))
        for name in prepared.silos
    }
    if parties.decryptor is not None:
        name = parties.decryptor.party
        handlers[name] = on_one_disk(name, make_decryptor(site, name).answer)
    engine, traffic = LocalEngine(handlers), Traffic()
    coordinator = Coordinator(
        terms=Terms(
            rounds=config.rounds,
            evaluate_every=config.evaluate.every,
            delta=None if isinstance(config.privacy, NonPrivate) else config.privacy.delta,
            gates=config.gates,
        ),
        tools=Tools(
            manifest=manifest,
            decryptor=parties.decryptor.party if parties.decryptor is not None else "",
            rule=_server_rule(prepared, run),
            engine=engine,
            encoding=prepared.encoding,
            make_end=server_end(prepared, parties),
            log=log,
            run=run,
            attestation=Attestation(log=log, engine=engine, witnesses=Witnesses.of(parties.roster), traffic=traffic),
            traffic=traffic,
            stopwatch=stopwatch,
            watch=narrator,
            archive=config.audit.archive,
        ),
        pair=_pair(prepared, run),
    )
    return Job(session=session, run=run, log=log, coordinator=coordinator, done=None, attempts={}, resources=resources)


def _narrator(prepared: Prepared, watch: Watch, progress: Progress) -> Narrator:
    """Return who tells of the run, knowing how many steps each phase has, as far as that is known beforehand."""
    config, plan = prepared.config, prepared.plan
    narrator = Narrator(watch, progress, silos=len(prepared.silos))
    steps = plan.steps_per_round if isinstance(plan, RecordPlan) else config.silo.steps or 0
    prompts = len({record.prompt for record in prepared.holdings.test})
    narrator.expects({"train": steps, "distill": 2 * config.distill.steps, "evaluate": 2 * prompts})
    return narrator


def _server_rule(prepared: Prepared, run: RunDirectory) -> Rule:
    """Return the rule with the server's optimiser in it, where silos send gradients."""
    rule, config = prepared.rule, prepared.config
    if not isinstance(rule, Deltas) or not isinstance(config.privacy, RecordDP) or config.privacy.noise == "own":
        return rule
    step = ServerStep(
        settings=config.silo,
        rounds=config.rounds,
        silos=len(prepared.silos),
        optimizer_file=run.path / "server" / "joint.safetensors",
    )
    return replace(rule, step=step)


def _pair(prepared: Prepared, run: RunDirectory) -> Pair:
    config = prepared.config
    return Pair(
        llm=prepared.server_llm,
        slm=prepared.server_slm,
        co_tuning=make_co_tuning(prepared, optimizer_folder=run.path / "server"),
        evaluations=make_evaluations(prepared),
        origins={"llm": config.models.llm.source, "slm": config.models.slm.source},
    )


def _started(prepared: Prepared, parties: Parties, run: RunDirectory, session: str) -> RunStarted:
    return RunStarted(
        run_id=session,
        config_digest=file_digest(run.path / "config.yaml"),
        software=_software(),
        roster_digest=parties.roster.hash,
        aggregation=tag_of(prepared.config.aggregation),
        privacy=tag_of(prepared.config.privacy),
        models={"llm": prepared.llm.digest, "slm": prepared.slm.digest},
        environment_digest=run.save_environment(installed()),
        simulated=True,
    )


def _session(events: list[Event]) -> str:
    first = events[0] if events else None
    if not isinstance(first, RunStarted):
        raise RunError("the log does not begin with run_started; run verify")
    return first.run_id


def _software() -> Mapping[str, str]:
    return {name: metadata.version(name) for name in SOFTWARE}
