import os
from pathlib import Path

import pytest

from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.masking.stages import Answered, Convicted, Declined, FileStages, Heard, Released, Replied, Where

WHERE = Where(session_id="s", round=1, attempt=2, linear_pass=0)
ENTRIES = [
    Answered(where=WHERE, stage="manifest", request_hash="ab", members=("a", "b")),
    Replied(where=WHERE, stage="manifest", reply_hash="cd"),
    Declined(where=WHERE, stage="ask-shares", request_hash="ef", reason_code="too_few"),
    Released(where=WHERE, model_version="01", survivors=("a",), dp_plan_hash=""),
    Heard(where=WHERE, model_version="02", survivors=("a", "b"), dp_plan_hash="99"),
    Convicted(where=WHERE, party="c", fault="seed", proof_hash="0a"),
]


def written(path: Path) -> None:
    journal = FileStages(path)
    for entry in ENTRIES:
        journal.append(entry)
    journal.close()


def reopened(path: Path) -> list[object]:
    journal = FileStages(path)
    try:
        return list(journal.entries())
    finally:
        journal.close()


def test_entries_survive_a_restart(tmp_path: Path):
    written(tmp_path / "stages")

    assert reopened(tmp_path / "stages") == ENTRIES


def test_a_crash_at_any_byte_loses_the_unfinished_entry_alone(tmp_path: Path):
    path = tmp_path / "stages"
    written(path)
    whole = path.read_bytes()

    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        complete = whole[:length].count(b"\n")
        assert reopened(path) == ENTRIES[:complete]
        assert path.read_bytes().count(b"\n") == complete  # the torn tail is gone: the next entry starts a line


def test_a_changed_entry_is_refused(tmp_path: Path):
    path = tmp_path / "stages"
    written(path)
    path.write_bytes(path.read_bytes().replace(b"Replied", b"Repliec"))

    with pytest.raises(ProtocolError, match="line 2 does not follow"):
        FileStages(path)


def test_a_second_agent_of_one_silo_is_refused(tmp_path: Path):
    first = FileStages(tmp_path / "stages")

    with pytest.raises(RuntimeError, match="is in use"):
        FileStages(tmp_path / "stages")
    first.close()
    FileStages(tmp_path / "stages").close()


def test_an_entry_is_on_the_disk_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    journal = FileStages(tmp_path / "stages")
    synced: list[bytes] = []
    honest = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append((tmp_path / "stages").read_bytes()), honest(fd))[1])

    journal.append(ENTRIES[0])

    assert synced == [(tmp_path / "stages").read_bytes()]
    journal.close()


def test_an_entry_that_does_not_fit_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    journal = FileStages(tmp_path / "stages")
    honest = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: honest(fd, data[:5]))

    with pytest.raises(OSError, match="bytes could be written"):
        journal.append(ENTRIES[0])
    monkeypatch.setattr(os, "write", honest)
    journal.append(ENTRIES[1])
    journal.close()

    assert reopened(tmp_path / "stages") == [ENTRIES[1]]


def test_nothing_is_answered_when_the_disk_is_full(tools, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    consortium = tools.Consortium(3)
    journal = FileStages(tmp_path / "stages")
    silo = consortium.silo("silo-001", stages=journal)
    request = consortium.server().start(consortium.names).requests["silo-001"]
    honest = os.write
    monkeypatch.setattr(os, "write", lambda fd, data: honest(fd, data[:5]))

    with pytest.raises(OSError, match="Nothing was acted on"):
        silo.handle(request)
    monkeypatch.setattr(os, "write", honest)

    assert journal.entries() == ()
    assert tools.reply_of(b"".join(silo.handle(request))).kind == "hello"
    journal.close()
