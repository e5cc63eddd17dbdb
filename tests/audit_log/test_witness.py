"""A silo cosigns only a log that grew out of what it cosigned before, and never forgets what that was."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedcollm_crypto.canonical import decode, encode
from fedcollm_crypto.checkpoint import Checkpoint, cosigners
from fedcollm_crypto.errors import ProtocolError, Refused
from fedcollm_crypto.note import Note
from fedcollm_secure.audit_log.checkpoint_folder import Witnesses, key_name
from fedcollm_secure.audit_log.journal import HeadCosigned, HeadRefused, Journal, read_journal
from fedcollm_secure.audit_log.run_verification import verify_log
from fedcollm_secure.audit_log.witness import MAX_SHOWN_BYTES, Shown, View, Witness
from fedcollm_secure.errors import LogError, RunError

Begin = Callable[..., Any]


def test_a_silo_cosigns_a_log_that_only_grew(witnessed: Begin, tmp_path: Path):
    log = witnessed(tmp_path).extend(1).extend(2, 3)

    note = log.log.checkpoint_shown()
    assert cosigners(note, Witnesses.of(log.roster).keys) == {"north", "south", "west"}
    assert verify_log(log.path).attested.cosigned_size == 4
    assert [type(entry) for entry in log.journals["north"].entries] == [HeadCosigned, HeadCosigned]


def test_a_log_that_took_another_turn_is_refused_and_kept_as_evidence(witnessed: Begin, tmp_path: Path):
    mine, other = witnessed(tmp_path / "mine").extend(1), witnessed(tmp_path / "other").extend(7, 8)
    proof = tuple(other.log.consistency_proof(2))

    with pytest.raises(Refused, match="not the log that this silo cosigned") as caught:
        mine.witnesses["north"].cosign(View(note=other.log.checkpoint_shown().encode(), old=2, proof=proof))

    assert caught.value.reason_code == "forked_log"
    evidence = mine.journals["north"].entries[-1]
    assert isinstance(evidence, HeadRefused)
    assert evidence.note == other.log.checkpoint_shown().encode().partition("— north")[0]  # the keeper's lines
    assert mine.witnesses["north"].head.size == 2  # and goes on from what it had


def test_a_log_that_shrank_is_refused(witnessed: Begin, tmp_path: Path):
    mine, shorter = witnessed(tmp_path / "mine").extend(1, 2), witnessed(tmp_path / "shorter").extend(1)

    with pytest.raises(Refused, match="shrank"):
        mine.witnesses["north"].cosign(replace(shorter.view("north"), old=3, proof=()))


def test_a_proof_from_another_size_than_the_remembered_one_is_no_accusation(witnessed: Begin, tmp_path: Path):
    log = witnessed(tmp_path).extend(1)

    with pytest.raises(Refused, match="begins at 1 entries, this silo cosigned 2") as caught:
        log.witnesses["north"].cosign(replace(log.view("north"), old=1))

    assert caught.value.reason_code == "stale_head"
    assert all(isinstance(entry, HeadCosigned) for entry in log.journals["north"].entries)


def test_what_the_keeper_did_not_sign_is_not_even_evidence(witnessed: Begin, tmp_path: Path):
    mine, stranger = witnessed(tmp_path / "mine"), witnessed(tmp_path / "strange", keeper="server/stranger").extend(1)

    with pytest.raises(ProtocolError, match="the keeper did not sign it"):
        mine.witnesses["north"].cosign(replace(stranger.view("north"), old=0))

    assert mine.journals["north"].entries == ()


def test_a_witness_that_restarts_remembers_its_head(witnessed: Begin, tmp_path: Path):
    log = witnessed(tmp_path).extend(1)
    log.journals.pop("north").close()

    journal = Journal(tmp_path / "silos/north/journal.jsonl")
    again = Witness(log.silos["north"], keeper=log.key, origin="fedcollm-secure/test", journal=journal)

    assert again.head == log.witnesses["south"].head
    assert Witness(log.silos["north"], keeper=log.key, origin="another log", journal=journal).head.size == 0
    journal.close()


def test_the_new_head_is_on_the_disk_before_the_cosignature_leaves(
    witnessed: Begin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    log = witnessed(tmp_path)
    view = log.view("north")

    def full_disk(_: int, __: bytes) -> int:
        return 0

    monkeypatch.setattr("os.write", full_disk)
    with pytest.raises(OSError, match="Nothing was acted on"):
        log.witnesses["north"].cosign(view)
    monkeypatch.undo()

    assert log.witnesses["north"].head.size == 0
    log.witnesses["north"].cosign(view)
    assert len(read_journal(tmp_path / "silos/north/journal.jsonl")) == 1


def test_post_quantum_silos_cosign_with_both_keys(witnessed: Begin, tmp_path: Path):
    log = witnessed(tmp_path, post_quantum=True).extend(1)
    path = tmp_path / "audit/checkpoints/2.txt"
    assert verify_log(log.path).attested.cosigned_size == 2

    *kept, last = path.read_text(encoding="utf-8").splitlines(keepends=True)
    assert len(last) > 3000
    path.write_text("".join(kept), encoding="utf-8")

    assert verify_log(log.path).attested.cosigners == {"north", "south"}


def test_a_view_survives_the_journey_and_nothing_else_does(witnessed: Begin, tmp_path: Path):
    log = witnessed(tmp_path).extend(1, 2).extend(3)
    view = log.view("north")
    full = replace(view, recent=log.log.recent(0))
    assert (View.decode(view.encode()), View.decode(full.encode())) == (view, full)
    body: Any = Shown(note=view.note, old=view.old, proof=view.proof).to_body()
    assert Shown.from_body(decode(encode(body))).to_body() == body

    with pytest.raises(ProtocolError, match=r"view.proof: a list of at most 64 was"):
        Shown.from_body({**body, "proof": ["00" * 32] * 65})
    with pytest.raises(ProtocolError, match=r"view.proof: 32 bytes"):
        Shown.from_body({**body, "proof": ["00"]})
    with pytest.raises(ProtocolError, match=r"view.old"):
        Shown.from_body({**body, "old": -1})
    for cut in (b"", full.encode()[:3], view.encode()[:-1]):
        with pytest.raises(ProtocolError, match="view: "):
            View.decode(cut)
    with pytest.raises(ProtocolError, match="expected no lines, got 5 bytes"):
        View.decode(view.encode() + b"line\n")
    with pytest.raises(ProtocolError, match=f"at most {MAX_SHOWN_BYTES} bytes"):
        View.decode((MAX_SHOWN_BYTES + 1).to_bytes(4, "little") + b"[" * (MAX_SHOWN_BYTES + 1))


@pytest.mark.parametrize("damage", ["changed", "deleted", "swapped", "unknown"])
def test_a_journal_that_was_changed_does_not_open(damage: str, witnessed: Begin, tmp_path: Path):
    log = witnessed(tmp_path).extend(1).extend(2).extend(3)
    log.journals.pop("north").close()
    path = tmp_path / "silos/north/journal.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(
        b"".join(
            {
                "changed": [lines[0].replace(b"time 1", b"time 2").replace(b"\\n2\\n", b"\\n3\\n"), *lines[1:]],
                "deleted": [lines[0], lines[2]],
                "swapped": [lines[1], lines[0], lines[2]],
                "unknown": [lines[0].replace(b"HeadCosigned", b"HeadInvented"), *lines[1:]],
            }[damage]
        )
    )

    with pytest.raises(LogError, match=r"changed, deleted, inserted or moved|unknown entry"):
        Journal(path)


def test_a_journal_torn_by_a_crash_goes_on_behind_the_last_whole_line(witnessed: Begin, tmp_path: Path):
    log = witnessed(tmp_path).extend(1).extend(2)
    log.journals.pop("north").close()
    path = tmp_path / "silos/north/journal.jsonl"
    path.write_bytes(path.read_bytes()[:-10])

    journal = Journal(path)
    assert len(journal.entries) == 1
    with pytest.raises(RunError, match="in use by another process"):
        Journal(path)
    journal.close()


@pytest.mark.parametrize(
    ("party", "name"), [("north", "north"), ("St. Mary's +1", "St.%20Mary's%20%2B1"), ("50%", "50%25"), ("Süd", "Süd")]
)
def test_any_silos_name_can_stand_under_a_note(party: str, name: str):
    assert key_name(party) == name


def test_a_checkpoint_text_is_read_back(witnessed: Begin, tmp_path: Path):
    log = witnessed(tmp_path).extend(1)
    text = (tmp_path / "audit/checkpoints/2.txt").read_text(encoding="utf-8")

    assert Checkpoint.of(Note.decode(text).text).root.hex() == log.log.head.root
