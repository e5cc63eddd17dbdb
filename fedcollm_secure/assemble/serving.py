"""A coordinator's run of a plan in its own folder: begun, or gone on with, over an engine that reaches the silos."""

from collections.abc import Callable
from pathlib import Path

from fedcollm_crypto import durable
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.roster import Roster
from fedcollm_secure.assemble.begun_again import clear_unbegun
from fedcollm_secure.assemble.narrator import Progress
from fedcollm_secure.assemble.server_job import Connect, Job, Keeper, Wiring, begin, go_on, make_narrator
from fedcollm_secure.assemble.server_side import ServerSide
from fedcollm_secure.config import resolved
from fedcollm_secure.config.plan import Plan
from fedcollm_secure.engines.engine import Carrier, Engine
from fedcollm_secure.errors import NotStarted
from fedcollm_secure.federation.run_directory import RunDirectory
from fedcollm_secure.federation.signed_engine import SignedEngine
from fedcollm_secure.federation.summing import Watch

PLAN_NAME = "plan.yaml"


def open_job(
    side: ServerSide,
    plan: Plan,
    roster: tuple[Roster, bytes],
    identity: Identity,
    carrier: Carrier,
    out: Path,
    *,
    say: Callable[[str], None],
    watch: Watch,
    progress: Progress,
    resuming: bool,
) -> Job:
    """Begin the plan's one session in `out`, or go on with it.

    Raises:
        NotStarted: it was begun already, or there is nothing to go on with.
    """
    keeper = Keeper(side=side, identity=identity, roster=roster[0], simulated=False)
    narrator = make_narrator(side, watch, progress)
    connect = _over(carrier, plan, roster[0], identity, say)
    config = out / "config.yaml"
    if resuming and not config.is_file():
        raise NotStarted(f"{out} holds no run to go on with; begin it without --resume")
    if resuming and config.read_text(encoding="utf-8") != resolved(side.common.config):
        raise NotStarted(
            f"{config} differs from the coordinator's configuration; go on with the one that began the run"
        )
    run = RunDirectory(out)
    if resuming and not clear_unbegun(run):
        return go_on(keeper, run, connect, narrator)
    run = RunDirectory.create(out, resolved(side.common.config))
    durable.make_folder(run.audit)
    durable.replace(run.audit / "roster.json", roster[1])
    run.write_text(PLAN_NAME, plan.text)
    return begin(keeper, run, plan.session, connect, narrator)


def _over(carrier: Carrier, plan: Plan, roster: Roster, identity: Identity, say: Callable[[str], None]) -> Connect:
    def connect(_wiring: Wiring) -> Engine:
        return SignedEngine(carrier, identity=identity, roster=roster, session=plan.session, plan=plan.digest, say=say)

    return connect
