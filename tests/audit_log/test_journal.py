"""What a journal is asked for at every head is kept as entries come, and is the same after a restart."""

from pathlib import Path

import pytest

from fedcollm_crypto.checkpoint import Checkpoint
from fedcollm_crypto.note import Note, SignatureLine
from fedcollm_secure.audit_log import journal as journals
from fedcollm_secure.audit_log.journal import AttemptJoined, HeadCosigned, HeadRefused, HeadSeen, Journal, RoundEnded

DIGEST, OTHER = "ab" * 32, "cd" * 32


def note(size: int) -> str:
    line = SignatureLine(name="server", key_id=bytes(4), signature=b"signature")
    return Note(text=Checkpoint(origin="test", size=size, root=bytes(32)).text, signatures=(line,)).encode()


STORY: list[tuple[journals.JournalEntry, int, str | None]] = [  # with what was heard, and where the ledger stood, then
    (HeadCosigned(note=note(3)), 0, None),
    (AttemptJoined(round=1, attempt=1, manifest_digest=DIGEST), 3, None),
    (HeadCosigned(note=note(8)), 3, None),  # a head that was cosigned outside of an attempt
    (RoundEnded(round=1, adapter_digest=DIGEST, ledger=DIGEST), 3, DIGEST),
    (HeadRefused(note=note(99), reason="forked_log"), 3, DIGEST),
    (HeadSeen(note=note(77)), 3, DIGEST),
    (HeadCosigned(note=note(9)), 3, DIGEST),
    (AttemptJoined(round=2, attempt=1, manifest_digest=DIGEST), 9, DIGEST),
    (RoundEnded(round=2, adapter_digest=DIGEST, ledger=OTHER), 9, OTHER),
]


def test_what_was_heard_and_where_the_ledger_stood_is_right_at_each_entry_and_after_each_restart(
    tmp_path: Path,
) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    for entry, heard, ledger in STORY:
        journal.append(entry)
        assert (journal.heard_size, journal.last_ledger) == (heard, ledger)
        journal.close()
        journal = Journal(tmp_path / "journal.jsonl")
        assert (journal.heard_size, journal.last_ledger) == (heard, ledger)
    journal.close()


def test_an_entry_that_could_not_be_written_was_not_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    journal.append(STORY[0][0])
    monkeypatch.setattr("os.write", lambda *_: 0)
    with pytest.raises(OSError, match="Nothing was acted on"):
        journal.append(STORY[1][0])
    monkeypatch.undo()

    assert journal.heard_size == 0
    journal.append(STORY[1][0])
    assert journal.heard_size == 3
    journal.close()


def test_no_note_is_read_again_for_what_was_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(tmp_path / "journal.jsonl")
    for entry, *_ in STORY:
        journal.append(entry)
    monkeypatch.setattr(journals, "check_note", None)

    assert journal.heard_size == 9
    journal.close()
