"""A server's bad day does not become permanent: a log of hundreds of lost attempts can be shown, and followed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from fedcollm_crypto.checkpoint import Checkpoint, NoteKey, sign_checkpoint
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.merkle import Tree, leaf_hash
from fedcollm_secure.audit_log import unseen_lines
from fedcollm_secure.audit_log.events import Event, PartyDropped, RoundStarted, RunResumed, StageAnswered
from fedcollm_secure.audit_log.journal import Journal
from fedcollm_secure.audit_log.log_entry import GENESIS, write_line
from fedcollm_secure.audit_log.unseen_lines import Recent
from fedcollm_secure.audit_log.witness import View, Witness
from fedcollm_secure.federation.messages import Show, decode, encode

ORIGIN, DIGEST = "fedcollm-secure/test", "ab" * 32
ATTEMPTS, SILOS = 600, tuple(f"silo-{number:03}" for number in range(100))


def lost_attempts() -> Iterator[Event]:
    """Yield what the log says of a round in which everybody is lost, again and again."""
    yield RunResumed(rounds_done=0, config_digest=DIGEST, software={}, environment_digest=DIGEST)
    for attempt in range(1, ATTEMPTS + 1):
        yield RoundStarted(
            round=1,
            attempt=attempt,
            cohort=SILOS,
            adapter_digest=DIGEST,
            plan_digest=DIGEST,
            manifest_digest=DIGEST,
        )
        yield StageAnswered(round=1, attempt=attempt, stage=1, accepted=SILOS, replies=dict.fromkeys(SILOS, DIGEST))
        yield from (PartyDropped(round=1, party=silo, reason_code="left_the_round") for silo in SILOS)


@pytest.fixture(scope="module")
def lines() -> tuple[bytes, ...]:
    written, previous = list[bytes](), GENESIS
    for index, event in enumerate(lost_attempts()):
        written.append(write_line(event, index=index, previous=previous, time="2026-01-31T12:00:00Z"))
        previous = leaf_hash(written[-1])
    return tuple(written)


def test_six_hundred_lost_attempts_of_a_hundred_silos_are_shown_and_cosigned(
    lines: tuple[bytes, ...], tmp_path: Path
) -> None:
    tree, keeper = Tree(map(leaf_hash, lines)), Identity.generate("server")
    head = Checkpoint(origin=ORIGIN, size=tree.size, root=tree.root())
    recent = Recent(first=0, lines=lines, frontier=())
    note = sign_checkpoint(head, keeper, time_s=1_800_000_000).encode()
    message = encode(Show(view=View(note=note, old=0, proof=(), recent=recent)))
    journal = Journal(tmp_path / "journal.jsonl")
    key = NoteKey(name="server", ed25519=keeper.public_key, mldsa44=b"")
    witness = Witness(Identity.generate("north"), keeper=key, origin=ORIGIN, journal=journal)

    view = decode(message).view  # type: ignore[union-attr]  # a Show is what was written
    assert view is not None
    assert view.recent is not None
    told = view.recent.told(witness.check(view), known=0)
    witness.cosign(view)

    assert (len(told.begun), told.closed, witness.head.size) == (ATTEMPTS, None, 1 + ATTEMPTS * (2 + len(SILOS)))
    assert len(message) < sum(map(len, lines)) + len(lines) + 1000  # the lines, and nothing that grows with them
    journal.close()


def test_a_log_beyond_the_bounds_is_refused_with_the_bound(
    lines: tuple[bytes, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unseen_lines, "MAX_LINES", len(lines) - 1)
    message = encode(Show(view=View(note="", old=0, proof=(), recent=Recent(first=0, lines=lines, frontier=()))))

    with pytest.raises(ProtocolError, match=f"1 to {len(lines) - 1} whole lines were expected, got {len(lines)}"):
        decode(message)
