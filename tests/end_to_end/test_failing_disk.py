"""Every write, opening and new folder of a durable file fails once, as on a full or a read-only disk; then it works.

What is on the disk afterwards is what was there before, or what was to be there: never anything between. The error is
of the file's own room and says what to do, and the same call, after a new opening, succeeds.
"""

import argparse
import errno
import io
import itertools
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedcollm_crypto import durable
from fedcollm_crypto.durable import NotWritten
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.lines import Lines
from fedcollm_crypto.masking.stages import Declined, FileStages, Where
from fedcollm_privacy.errors import LedgerError
from fedcollm_privacy.ledger import Ledger
from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure import cli
from fedcollm_secure.audit_log.events import RunFinished
from fedcollm_secure.audit_log.journal import AttemptJoined, Journal
from fedcollm_secure.audit_log.log import LOG_NAME, AuditLog, read_log
from fedcollm_secure.errors import RunError
from fedcollm_secure.federation.open_round import Kept, Pending
from fedcollm_secure.federation.run_directory import RunDirectory

CODES = (errno.ENOSPC, errno.EIO, errno.EROFS)
PLAN = RecordPlan(
    epsilon=4.0,
    delta=1e-6,
    clip_norm=1.0,
    sampling_rate=0.05,
    noise_multiplier=1.0,
    steps_per_round=20,
    rounds=4,
    batch_size=8,
)
WHERE = Where(session_id="s", round=1, attempt=1, linear_pass=0)
KEEPER = Identity.generate("server")
VERSION = "ab" * 32
FRESH = itertools.count()  # a log is never begun twice in one folder


class Faults:
    """Count the calls that change the disk, and fail the one at `at`, from 1, once; 0 fails none."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int, code: int, *, torn: bool) -> None:
        self.calls, self.at, self.code, self.torn = 0, at, code, torn
        for name in ("fsync", "ftruncate", "replace", "rename"):
            patch.setattr(os, name, self._counted(getattr(os, name)))
        self._count_where(patch, "open", lambda _, flags, *__: changes(flags))
        self._count_where(patch, "mkdir", lambda path, *_: not Path(path).is_dir())
        honest, opened = os.write, os.fdopen
        patch.setattr(os, "write", lambda fd, data: self._write(honest, fd, data))
        faults = self

        class Raw(io.FileIO):
            def write(self, data: Any) -> int:
                return faults._write(super().write, data)

        patch.setattr(
            os, "fdopen", lambda fd, mode: io.BufferedWriter(Raw(fd, mode)) if "w" in mode else opened(fd, mode)
        )

    def _count_where(self, patch: pytest.MonkeyPatch, name: str, counts: Callable[..., object]) -> None:
        honest = getattr(os, name)
        counted = self._counted(honest)
        patch.setattr(os, name, lambda *given, **named: (counted if counts(*given) else honest)(*given, **named))

    def _counted(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            self.calls += 1
            if self.calls == self.at:
                raise OSError(self.code, os.strerror(self.code))
            return call(*arguments, **named)

        return counted

    def _write(self, call: Callable[..., int], *arguments: Any) -> int:
        self.calls += 1
        if self.calls != self.at:
            return call(*arguments)
        if self.torn:
            call(*arguments[:-1], bytes(arguments[-1])[:5])
        raise OSError(self.code, os.strerror(self.code))


def changes(flags: int) -> bool:
    """Say whether a file is opened to write to it, or to make it durable; what only reads is another matter."""
    return bool(flags & (os.O_WRONLY | os.O_RDWR | os.O_DIRECTORY)) or bool(
        flags & os.O_CLOEXEC and not flags & os.O_NONBLOCK
    )


@dataclass(frozen=True, kw_only=True)
class Case:
    """A file as it is first, one change to it, what a reader finds, and the errors that the change may end in."""

    prepare: Callable[[Path], object]
    change: Callable[[Path], object]
    found: Callable[[Path], object]
    family: type[Exception]


def stages(folder: Path, code: str) -> None:
    journal = FileStages(folder / "stages")
    try:
        if code not in [entry.reason_code for entry in journal.entries() if isinstance(entry, Declined)]:
            journal.append(Declined(where=WHERE, stage="manifest", request_hash="ab", reason_code=code))
    finally:
        journal.close()


def stages_found(folder: Path) -> object:
    journal = FileStages(folder / "stages")
    try:
        return journal.entries()
    finally:
        journal.close()


def joined(folder: Path, number: int) -> None:
    journal = Journal(folder / "journal")
    try:
        entry = AttemptJoined(round=number, attempt=1, manifest_digest="ab" * 32)
        if entry not in journal.entries:
            journal.append(entry)
    finally:
        journal.close()


def joined_found(folder: Path) -> object:
    journal = Journal(folder / "journal")
    try:
        return journal.entries
    finally:
        journal.close()


def reserved(folder: Path, number: int) -> None:
    with Ledger.open(folder / "ledger", population="ward 7", epsilon=4.0, delta=1e-5, simulated=False) as ledger:
        ledger.reserve(session="s", round=number, plan=PLAN)


def reserved_found(folder: Path) -> object:
    with Ledger.open(folder / "ledger", population="ward 7", epsilon=4.0, delta=1e-5, simulated=False) as ledger:
        return [row.round for row in ledger.rows()]


def log(folder: Path) -> AuditLog:
    return AuditLog.open(folder / "audit", KEEPER, "fedcollm-secure/test")


def finished(folder: Path, digest: str) -> None:
    one = log(folder)
    try:
        if digest not in (folder / "audit" / LOG_NAME).read_text():
            one.append(RunFinished(summary_digest=digest))
        one.checkpoint()
    finally:
        one.close()


def finished_found(folder: Path) -> object:
    return [entry.event for entry in read_log(folder / "audit" / LOG_NAME).entries]


def begun(folder: Path) -> None:
    AuditLog.create(folder / "audit", KEEPER, "fedcollm-secure/test").close()
    finished(folder, "aa" * 32)


def kept(folder: Path, version: str) -> None:
    Pending(folder / "pending.npz").write(version, Kept(change=np.ones(3, dtype=np.float32), vectors={}))


def kept_found(folder: Path) -> object:
    pending = Pending(folder / "pending.npz")
    return [version for version in (VERSION, "cd" * 32) if pending.read(version) is not None]


def adapters(folder: Path, number: int) -> None:
    run = RunDirectory(folder)
    (run.begin_adapters() / "weights").write_bytes(bytes([number]))
    run.seal_adapters({"round": number, "line": {"round": number}})
    run.swap_adapters()


def adapters_found(folder: Path) -> object:
    """Settle as a run does that is resumed, whichever of the two rounds the log closed last."""
    run = RunDirectory(folder)
    closed = 2 if (folder / ".adapters.next" / "state.json").exists() else 1
    return run.settle(closed)["round"], (run.adapters / "weights").read_bytes(), run.metrics()[-1]["round"]


CASES = {
    "a stage journal": Case(
        prepare=lambda at: stages(at, "one"), change=lambda at: stages(at, "two"), found=stages_found, family=NotWritten
    ),
    "a silo's journal": Case(
        prepare=lambda at: joined(at, 1), change=lambda at: joined(at, 2), found=joined_found, family=NotWritten
    ),
    "a privacy ledger": Case(
        prepare=lambda at: reserved(at, 1), change=lambda at: reserved(at, 2), found=reserved_found, family=LedgerError
    ),
    "an audit log": Case(
        prepare=begun, change=lambda at: finished(at, "bb" * 32), found=finished_found, family=RunError
    ),
    "a new audit log": Case(
        prepare=lambda at: None,
        change=lambda at: AuditLog.create(at / f"audit {next(FRESH)}", KEEPER, "fedcollm-secure/test").close(),
        found=lambda at: [path.parent.name[:5] for path in at.rglob(LOG_NAME)][:1],
        family=RunError,
    ),
    "a new journal": Case(
        prepare=lambda at: None,
        change=lambda at: joined(at / "silos" / "north", 1),
        found=lambda at: [path.name for path in at.rglob("journal") if path.stat().st_size],
        family=NotWritten,
    ),
    "a kept update": Case(
        prepare=lambda at: kept(at, VERSION), change=lambda at: kept(at, "cd" * 32), found=kept_found, family=NotWritten
    ),
    "a run's file": Case(
        prepare=lambda at: RunDirectory(at).write_text("x", "old"),
        change=lambda at: RunDirectory(at).write_text("x", "new"),
        found=lambda at: ((at / "x").read_text(), [path.name for path in at.iterdir()]),
        family=NotWritten,
    ),
    "a proof beside the log": Case(
        prepare=lambda at: None,
        change=lambda at: RunDirectory(at).save_proof("ab", b"proof"),
        found=lambda at: [path.read_bytes() for path in at.rglob("*.json")],
        family=NotWritten,
    ),
    "a run's adapters": Case(
        prepare=lambda at: adapters(at, 1), change=lambda at: adapters(at, 2), found=adapters_found, family=NotWritten
    ),
}


def points(case: Case, folder: Path) -> Iterator[int]:
    """Return the number of each call of the change that touches the disk."""
    folder.mkdir()
    case.prepare(folder)
    with pytest.MonkeyPatch.context() as patch:
        faults = Faults(patch, 0, 0, torn=False)
        case.change(folder)
    yield from range(1, faults.calls + 1)


@pytest.mark.parametrize("torn", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_a_write_that_fails_leaves_before_or_after_and_then_succeeds(name: str, torn: bool, tmp_path: Path) -> None:
    case = CASES[name]
    (tmp_path / "before").mkdir()
    case.prepare(tmp_path / "before")
    before = case.found(tmp_path / "before")
    numbers = list(points(case, tmp_path / "after"))
    after = case.found(tmp_path / "after")
    assert before != after
    assert len(numbers) >= 3

    for number in numbers:
        for code in CODES:
            folder = tmp_path / f"{number}-{code}"
            folder.mkdir()
            case.prepare(folder)
            with pytest.MonkeyPatch.context() as patch:
                Faults(patch, number, code, torn=torn)
                with pytest.raises(case.family, match=os.strerror(code)):
                    case.change(folder)
            assert case.found(folder) in (before, after)
            case.change(folder)
            assert case.found(folder) == after


def test_a_checkpoint_that_was_not_written_is_signed_again_by_the_log_that_is_open(tmp_path: Path) -> None:
    begun(tmp_path)
    one = log(tmp_path)
    one.append(RunFinished(summary_digest="bb" * 32))
    with pytest.MonkeyPatch.context() as patch:
        Faults(patch, 1, errno.ENOSPC, torn=False)
        with pytest.raises(RunError, match="free the disk"):
            one.checkpoint()
    assert not (tmp_path / "audit" / "checkpoints" / "2.txt").exists()

    one.checkpoint()

    assert (tmp_path / "audit" / "checkpoints" / "2.txt").exists()


def test_a_full_disk_ends_a_command_with_a_sentence_and_the_code_for_resumable(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def command(_: argparse.Namespace) -> int:
        raise NotWritten(Path("run/state.json"), OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))

    parser = argparse.ArgumentParser()
    parser.set_defaults(command=command)
    monkeypatch.setattr(cli, "make_parser", lambda: parser)

    assert cli.main([]) == 3
    assert "run/state.json could not be written" in capsys.readouterr().err


def test_a_line_that_cannot_even_be_cut_back_is_cut_off_at_the_next_opening(tmp_path: Path) -> None:
    class Dead(durable.Disk):
        def write(self, descriptor: int, data: bytes) -> int:
            os.write(descriptor, data[:5])
            raise OSError(errno.EIO, "Input/output error")

        def truncate(self, descriptor: int, size: int) -> None:
            raise OSError(errno.EROFS, "Read-only file system")

    path = tmp_path / "lines"
    file = Lines(path, disk=Dead())
    for _ in range(2):  # the second must not be glued to what is torn
        with pytest.raises(durable.NotDurable, match="open the file again"):
            file.append(b"longer than what is written")
    file.close()

    again = Lines(path)
    again.append(b"two")
    again.close()
    assert path.read_bytes() == b"two\n"


def test_a_file_that_was_never_there_is_not_there_after_a_failed_write(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        Faults(patch, 1, errno.ENOSPC, torn=False)
        with pytest.raises(NotWritten, match="free the disk"):
            durable.write_new(tmp_path / "key", b"bytes")

    assert list(tmp_path.iterdir()) == []
    durable.write_new(tmp_path / "key", b"bytes")
