"""A silo cosigns no head of a log in which a sum that it helped to open is missing, or is another."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from fedcollm_crypto.homomorphic.worker import Worker
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_secure.assurance.attacks.malicious_server import Blocked
from fedcollm_secure.assurance.attacks.protection import CLASSICAL, POST_QUANTUM, bfv, ckks
from fedcollm_secure.assurance.attacks.toy_federation import Session
from fedcollm_secure.assurance.attacks.toy_region import Neighbourhood, version
from fedcollm_secure.audit_log.events import Event, GatePassed, SumAgreed
from fedcollm_secure.audit_log.log import AuditLog
from fedcollm_secure.audit_log.witness import View
from fedcollm_secure.federation import admission
from fedcollm_secure.federation.log_reader import LogReader
from fedcollm_secure.federation.messages import Show, encode
from fedcollm_secure.federation.replies import Cosigned, Refusal, read_reply

PASSED = GatePassed(round=1, gate="range")


@pytest.fixture(params=["masked_classical", "masked_post_quantum", "bfv"])
def session(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Session]:
    """Begin a session; under BFV the decryptor is in league with the server, and opens what the log does not name."""
    monkeypatch.setattr(LogReader, "require_logged", lambda *_: None)
    with Worker() as worker:
        protections = {one.name: one for one in (CLASSICAL, POST_QUANTUM, bfv(worker))}
        begun = Session(Neighbourhood(4, tmp_path, protection=protections[request.param]))
        yield begun
        begun.silos.close()


def shown(session: Session, party: str, view: View) -> Cosigned | Refusal:
    """Return what a silo says to a head that it is shown."""
    reply = read_reply(session.silos._parties[party].handle(encode(Show(view=view))))
    assert isinstance(reply, Cosigned | Refusal)
    return reply


def opened(session: Session, *, log_it: bool, attempt: int = 1) -> RoundManifest:
    manifest = session.manifest(adapter=version(0), attempt=attempt)
    session.attempt(manifest, version(0), log_it=log_it)
    return manifest


def named(session: Session, manifest: RoundManifest) -> SumAgreed:
    return SumAgreed(
        round=manifest.round,
        attempt=manifest.attempt,
        linear_pass=0,
        adapter_digest=manifest.adapter_hash,
        survivors=session.members,
    )


def copied(session: Session, folder: str) -> AuditLog:
    """Return a copy of the log, which the server goes on with in another way."""
    shutil.copytree(session.folder / "audit", session.folder / folder)
    return AuditLog.open(session.folder / folder, session.region.server, session.log.origin)


def test_the_last_head_of_a_log_that_names_the_sum_is_cosigned_by_all(session: Session) -> None:
    opened(session, log_it=True)
    session.log.append(PASSED)
    session.close_round(1, session.members, version(1))

    for party in session.members:
        assert isinstance(reply := shown(session, party, session.view(party)), Cosigned)
        assert reply.lines
        assert (reply.size, reply.heard) == (session.log.head.size, 1)


@pytest.mark.parametrize("closed", [False, True], ids=["open round", "closed round"])
def test_a_server_that_hides_a_sum_at_close_gets_no_cosignature_also_after_a_restart(
    session: Session, *, closed: bool
) -> None:
    opened(session, log_it=False)
    session.log.append(PASSED)
    if closed:
        session.close_round(1, session.members, version(1))

    for party in session.members:
        known = session.silos.known(party)
        for _ in ("running", "restarted"):
            assert isinstance(reply := shown(session, party, session.view(party)), Refusal)
            assert reply.reason_code == "unlogged_sum"
            session.silos.restart(party)
        assert session.silos.known(party) == known


def test_without_the_rule_a_hidden_sum_is_cosigned(session: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    opened(session, log_it=False)
    monkeypatch.setattr(admission, "require_logged", lambda *_: None)

    assert isinstance(shown(session, "silo-01", session.view("silo-01")), Cosigned)


def test_a_sum_that_the_log_changes_or_tells_in_two_ways_gets_no_cosignature(session: Session) -> None:
    true = named(session, opened(session, log_it=False))
    lies: list[list[Event]] = [
        [replace(true, survivors=true.survivors[:-1])],
        [replace(true, adapter_digest="cd" * 32)],
        [replace(true, attempt=2)],
        [true, replace(true, survivors=true.survivors[:-1])],
    ]
    for number, lie in enumerate(lies):
        log = copied(session, f"lie-{number}")
        for event in lie:
            log.append(event)
        assert isinstance(reply := shown(session, "silo-01", session.view("silo-01", log)), Refusal)
        assert reply.reason_code == "unlogged_sum"
        log.close()

    session.log.append(true)
    assert isinstance(shown(session, "silo-01", session.view("silo-01")), Cosigned)


def test_a_head_without_the_lines_or_with_too_few_is_not_cosigned(session: Session) -> None:
    opened(session, log_it=True)
    session.log.append(PASSED)
    known, view = session.silos.known("silo-01"), session.view("silo-01")
    assert view.recent is not None
    fewer = replace(view.recent, first=view.recent.first + 2, lines=view.recent.lines[2:])

    for recent, reason in ((None, "the log's recent lines"), (fewer, "all lines since")):
        assert isinstance(reply := shown(session, "silo-01", replace(view, recent=recent)), Refusal)
        assert (reply.reason_code, reason in reply.reason) == ("protocol_violation", True)
    assert session.silos.known("silo-01") == known


@pytest.fixture
def trusting(tmp_path: Path) -> Iterator[Session]:
    """Begin a session under CKKS, where silos remember no sums."""
    with Worker() as worker:
        begun = Session(Neighbourhood(4, tmp_path, protection=ckks(worker)))
        yield begun
        begun.silos.close()


def test_under_ckks_a_log_without_a_sum_that_an_honest_decryptor_opened_is_a_fork(trusting: Session) -> None:
    fork = copied(trusting, "fork")
    opened(trusting, log_it=True)
    for number in range(trusting.log.head.size):
        fork.append(GatePassed(round=number, gate="range"))

    for party in trusting.members:
        assert isinstance(reply := shown(trusting, party, trusting.view(party, fork)), Refusal)
        assert reply.reason_code == "forked_log"
    trusting.log.append(PASSED)
    assert isinstance(shown(trusting, "silo-01", trusting.view("silo-01")), Cosigned)


def test_under_ckks_a_decryptor_in_league_with_the_server_opens_a_sum_that_no_log_names(
    trusting: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(Blocked, match="unlogged_sum"):
        opened(trusting, log_it=False)
    monkeypatch.setattr(LogReader, "require_logged", lambda *_: None)
    session = Session(trusting.region)
    opened(session, log_it=False)

    assert isinstance(shown(session, "silo-01", session.view("silo-01")), Cosigned)
    session.silos.close()


def test_a_silo_whose_disk_is_full_refuses_and_cosigns_once_there_is_room(
    session: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened(session, log_it=True)
    session.log.append(PASSED)
    known, view = session.silos.known("silo-01"), session.view("silo-01")
    with monkeypatch.context() as full:
        full.setattr("os.write", lambda *_: 0)
        assert isinstance(reply := shown(session, "silo-01", view), Refusal)

    assert reply.reason_code == "disk_failed"
    assert str(session.folder) not in reply.reason
    assert session.silos.known("silo-01") == known
    session.silos.restart("silo-01")
    assert isinstance(shown(session, "silo-01", view), Cosigned)


def test_a_silo_that_opened_nothing_cosigns_what_others_opened(session: Session) -> None:
    manifest = session.manifest(adapter=version(0))
    session.attempt(manifest, version(0), deaf={"silo-04": "manifest"}, log_it=False)

    assert isinstance(shown(session, "silo-04", session.view("silo-04")), Cosigned)
    assert isinstance(shown(session, "silo-01", session.view("silo-01")), Refusal)
