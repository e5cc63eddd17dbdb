"""The commands of a consortium's run: `consortium plan` and `serve` at the coordinator, `silo` at each hospital."""

import secrets
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from fedcollm_privacy.ledger import read_book
from fedcollm_secure.assemble.planning import plan_of, prepare_server, read_own
from fedcollm_secure.assemble.serving import open_job
from fedcollm_secure.assemble.silo_at_home import SiloSide, affordable, open_silo, prepare_silo
from fedcollm_secure.config import Config
from fedcollm_secure.config.plan import NONCE_BYTES
from fedcollm_secure.config.policy import POLICY_NAME, Policy, load_policy
from fedcollm_secure.config.site import Site, Waits, load_site
from fedcollm_secure.consortium.agreement import Clause, hold
from fedcollm_secure.consortium.cards import read_card, read_invitation
from fedcollm_secure.consortium.folder import MemberFolder, read_file
from fedcollm_secure.consortium.plans import SealedPlan, open_plan, seal_plan
from fedcollm_secure.consortium.rosters import certificates_of, read_closed
from fedcollm_secure.engines.engine import Patience
from fedcollm_secure.engines.mtls.credentials import Credentials
from fedcollm_secure.engines.mtls.dialler import Dialler, TurnedAway
from fedcollm_secure.engines.mtls.listener import MtlsEngine
from fedcollm_secure.errors import ConfigError, RefusedByPolicy, RunIncomplete
from fedcollm_secure.federation.agent import Agent
from fedcollm_secure.operations.consortium_command import CARD, HASH, INVITATION, ROSTER, SERVER
from fedcollm_secure.operations.live_progress import Show
from fedcollm_secure.operations.run_command import drive

Json = Mapping[str, object]
Say = Callable[[str], None]


def make_plan(config: Config, folder: Path, password: bytes | None) -> Json:
    """Make and sign the plan of a configuration, for the consortium of this folder. Raises: ConfigError."""
    place = MemberFolder(path=folder)
    identity = place.identity(SERVER, password)
    data = read_file(folder / ROSTER, "a closed roster; first call consortium roster close")
    roster = read_closed(data, read_card(folder / CARD).member.public_keys)
    own = read_own(config)
    plan = plan_of(own, roster, secrets.token_hex(NONCE_BYTES))
    prepare_server(own, plan, roster)  # for its errors alone
    path = place.write(f"plans/{plan.digest[:16]}.json", seal_plan(identity, plan, data))
    return {
        "plan": str(path),
        "digest": plan.digest,
        "session": plan.session,
        "next": f"give {path} to each silo, who calls: fedcollm-secure silo FOLDER {path.name} --dry-run; then "
        f"fedcollm-secure serve {folder} {path} CONFIG",
    }


def serve(
    folder: Path, plan_file: Path, config: Config, password: bytes | None, *, resuming: bool, show: Show, say: Say
) -> tuple[Json, Path]:
    """Run a plan's one session as its coordinator; return the summary and the run's folder.

    Raises:
        ConfigError, RunError: nothing was started. RefusedByPolicy, RunIncomplete: as `run`.
    """
    place, site = MemberFolder(path=folder), load_site(folder)
    if site.role != "server":
        raise ConfigError(str(folder), "is a silo's folder; serve is the coordinator's command, silo is its own")
    identity = place.identity(SERVER, password)
    show.phase(0, "reading the plan, public records and both models")
    sealed = open_plan(plan_file, read_card(folder / CARD).member.public_keys, None)
    side = prepare_server(read_own(config), sealed.plan, sealed.roster)
    out = folder / "runs" / sealed.plan.session
    carrier = MtlsEngine(
        host=site.host,
        port=site.port,
        credentials=_credentials(place, password, certificates_of(sealed.roster, "silo")),
        patience=_patience(site.waits),
        say=say,
    )
    over = False
    try:
        say(f"listening on {site.host}:{carrier.port} for {', '.join(side.common.silos)}")
        job = open_job(
            side,
            sealed.plan,
            (sealed.roster, sealed.roster_bytes),
            identity,
            carrier,
            out,
            say=say,
            watch=show.phase,
            progress=show.share,
            resuming=resuming,
        )
        summary = drive(job, side, out, show, simulated=False)
        over = True
    except RefusedByPolicy:
        over = True
        raise
    except RunIncomplete as error:
        again = f"fedcollm-secure serve {folder} {plan_file} CONFIG --resume"
        raise RunIncomplete(f"{error}\nGo on with: {again}") from error
    finally:
        carrier.close(over=over)
    return summary, out


def silo(folder: Path, plan_file: Path, password: bytes | None, *, say: Say) -> Json:
    """Take part in a plan, until the coordinator says that it is over.

    Raises:
        RefusedByPolicy: the silo's law says no, with each clause. ConfigError: nothing was started.
        LedgerError, RunError: another process is at work on this data set, or what it keeps was changed.
    """
    place, site = MemberFolder(path=folder), _silo_site(folder)
    identity = place.identity(site.name, password)
    sealed, policy, clauses = _read(folder, plan_file)
    if refused := [clause.words for clause in clauses if not clause.holds]:
        raise RefusedByPolicy("\n".join([f"{folder / POLICY_NAME} refuses the plan:", *refused]))
    plan = sealed.plan
    with ExitStack() as resources:
        side = prepare_silo(plan, site, policy)
        party = open_silo(side, folder / "sessions" / plan.session, site, policy, sealed.roster, identity, resources)
        agent = Agent(
            identity=identity,
            roster=sealed.roster,
            session=plan.session,
            plan=plan.digest,
            answer=party.handle,
            say=say,
        )
        dialler = Dialler(
            name=site.name,
            host=site.host,
            port=site.port,
            credentials=_credentials(place, password, certificates_of(sealed.roster, "server")),
            patience=_patience(site.waits),
            say=say,
        )
        say(f"ready for {plan.session}; dialling {site.address}")
        try:
            dialler.serve(agent.handle)
        except TurnedAway as error:
            raise ConfigError(str(folder), str(error)) from error
    spent = _spent(site) if side.common.plan is not None else None
    return {
        "session": plan.session,
        "over": True,
        "epsilon_spent": spent,
        "next": f"fedcollm-secure budget {site.ledger}" if spent is not None else "nothing more is to do here",
    }


def dry_run(folder: Path, plan_file: Path) -> tuple[bool, Json]:
    """Say what the silo would agree to, clause by clause, and what it would cost; opens no key and writes nothing.

    Raises:
        ConfigError, RefusedByPolicy: the plan is none, or does not fit this silo's records and model.
    """
    site = _silo_site(folder)
    sealed, policy, clauses = _read(folder, plan_file)
    holds = all(clause.holds for clause in clauses)
    budget: Json = {}
    if holds:
        budget = _budget(prepare_silo(sealed.plan, site, policy), site, policy)
        holds = bool(budget.get("fits", True))
    return holds, {
        "agrees": holds,
        "session": sealed.plan.session,
        "digest": sealed.plan.digest,
        "clauses": [vars(clause) for clause in clauses],
        "budget": budget,
        "plan": sealed.plan.text,
        "next": f"fedcollm-secure silo {folder} {plan_file}" if holds else "ask the coordinator for another plan",
    }


def dry_run_words(found: Json, clauses: tuple[Clause, ...] = ()) -> str:
    """Show a dry run to a person."""
    rows = found["clauses"]
    shown = [Clause(**row).words for row in rows] if isinstance(rows, list) else [each.words for each in clauses]
    budget = found["budget"]
    lines = ["the plan:", *(f"  {line}" for line in str(found["plan"]).splitlines()), "", "this silo's law:", *shown]
    if isinstance(budget, Mapping) and budget:
        lines.append(f"budget: {budget['words']}")
    verdict = "would take part" if found["agrees"] else "would NOT take part"
    return "\n".join([*lines, f"{verdict} in {found['session']}", f"next: {found['next']}"])


def _read(folder: Path, plan_file: Path) -> tuple[SealedPlan, Policy, tuple[Clause, ...]]:
    """Return a plan that fits the roster that this member signed, and what the silo's law says of it."""
    signed = folder / HASH
    if not signed.exists():
        raise ConfigError(str(signed), "this member signed no roster yet; first call consortium roster sign")
    root = read_invitation(folder / INVITATION).coordinator.member.public_keys
    sealed = open_plan(plan_file, root, signed.read_text(encoding="ascii").strip())
    policy, lines = load_policy(folder / POLICY_NAME)
    return sealed, policy, hold(sealed.plan, policy, lines)


def _budget(side: SiloSide, site: Site, policy: Policy) -> Json:
    """Return what the plan would take of what is left in the data set's ledger."""
    found = affordable(side, site, policy)
    return {} if found is None else {**vars(found), "fits": found.rounds == found.asked, "words": found.words}


def _spent(site: Site) -> float:
    return read_book(Path(site.ledger)).epsilon_spent()


def _silo_site(folder: Path) -> Site:
    site = load_site(folder)
    if site.role != "silo":
        raise ConfigError(str(folder), "is the coordinator's folder; silo is a silo's command, serve is its own")
    return site


def _credentials(place: MemberFolder, password: bytes | None, peers: Mapping[str, bytes]) -> Credentials:
    return Credentials(certificate=place.link_certificate, key=place.link_key, password=password, peers=peers)


def _patience(waits: Waits) -> Patience:
    return Patience(alive=waits.alive_s, answer=waits.answer_s, quorum=waits.quorum_s)
