"""A simulated run: every party in this process, its keys and journals in the run's folder, wired to one coordinator."""

import secrets
from datetime import UTC, datetime
from pathlib import Path

from fedcollm_crypto.homomorphic.worker import Worker
from fedcollm_secure.assemble.begun_again import clear_unbegun
from fedcollm_secure.assemble.narrator import Progress, tell_nobody
from fedcollm_secure.assemble.prepare import Prepared
from fedcollm_secure.assemble.server_job import Connect, Job, Keeper, Wiring, begin, go_on, make_narrator
from fedcollm_secure.assemble.simulated_parties import Parties, load_parties, make_parties
from fedcollm_secure.assemble.simulated_silos import (
    Site,
    check_weights,
    keeping_optimizer,
    make_decryptor,
    make_silo,
    on_one_disk,
)
from fedcollm_secure.config import resolved
from fedcollm_secure.engines.engine import Engine
from fedcollm_secure.engines.local import LocalEngine
from fedcollm_secure.errors import NotStarted
from fedcollm_secure.federation.run_directory import RunDirectory
from fedcollm_secure.federation.summing import Watch

__all__ = ["Job", "resume", "start"]


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
    narrator = make_narrator(prepared.server_side, watch, progress)
    return begin(_keeper(prepared, parties), run, session, _in_this_process(prepared, parties), narrator)


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
    narrator = make_narrator(prepared.server_side, watch, progress)
    return go_on(_keeper(prepared, parties), run, _in_this_process(prepared, parties), narrator)


def _keeper(prepared: Prepared, parties: Parties) -> Keeper:
    return Keeper(side=prepared.server_side, identity=parties.server, roster=parties.roster, simulated=True)


def _in_this_process(prepared: Prepared, parties: Parties) -> Connect:
    """Return what makes every party here, behind a local engine."""

    def connect(wiring: Wiring) -> Engine:
        run, narrator = wiring.run, wiring.narrator
        site = Site(
            prepared=prepared,
            parties=parties,
            run=run,
            manifest=wiring.manifest,
            resources=wiring.resources,
            stopwatch=wiring.stopwatch,
            worker=wiring.resources.enter_context(Worker(progress=narrator.encrypting)),
        )
        handlers = {
            name: on_one_disk(name, narrator.serves(name, keeping_optimizer(run, name, make_silo(site, name).answer)))
            for name in prepared.silos
        }
        if parties.decryptor is not None:
            name = parties.decryptor.party
            handlers[name] = on_one_disk(name, make_decryptor(site, name).answer)
        return LocalEngine(handlers)

    return connect
