"""What is said to be written is there after any crash, what failed is not half there, and a changed line is seen."""

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedcollm_crypto import durable
from fedcollm_crypto import lines as lines_module
from fedcollm_crypto.durable import Disk, NotDurable, NotWritten
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.lines import GENESIS, ChainedLines, ForeignBytes, InUse, Lines
from fedcollm_crypto.masking.stages import Declined, FileStages, Where

TEXTS = [b"one", b'{"two":2}', b"", b"four"]
WHERE = Where(session_id="s", round=1, attempt=1, linear_pass=0)


class Full(Disk):
    """A disk on which `room` bytes are left, and then none; or whose fsync fails."""

    def __init__(self, room: int = 1 << 30, *, syncs: int = 1 << 30) -> None:
        self.room, self.syncs = room, syncs

    def write(self, descriptor: int, data: bytes) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = min(self.room, len(data))
        self.room -= taken
        return os.write(descriptor, data[:taken])

    def sync(self, descriptor: int) -> None:
        if self.syncs == 0:
            raise OSError(errno.EIO, "Input/output error")
        self.syncs -= 1
        os.fsync(descriptor)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a file of four chained lines."""
    file = ChainedLines(tmp_path / "lines")
    for text in TEXTS:
        file.append(text)
    file.close()
    return tmp_path / "lines"


def texts_of(path: Path) -> list[bytes]:
    file = ChainedLines(path)
    found = list(file.texts)
    file.close()
    return found


def test_lines_come_back_in_order_and_the_chain_goes_on_after_a_restart(path: Path) -> None:
    file = ChainedLines(path)
    file.append(b"five")
    file.close()

    assert texts_of(path) == [*TEXTS, b"five"]


def test_a_file_torn_at_any_byte_holds_the_whole_lines_before_and_goes_on(path: Path) -> None:
    whole = path.read_bytes()
    for length in range(len(whole) + 1):
        path.write_bytes(whole[:length])
        assert texts_of(path) == TEXTS[: whole[:length].count(b"\n")]
        file = ChainedLines(path)
        file.append(b"next")
        file.close()
        assert texts_of(path)[-1] == b"next"


def test_a_process_killed_at_any_write_leaves_lines_that_were_acknowledged(tmp_path: Path) -> None:
    script = (
        "import os, sys\nfrom pathlib import Path\nfrom fedcollm_crypto.durable import Disk\n"
        "from fedcollm_crypto.lines import ChainedLines\n"
        "class Dying(Disk):\n    left = int(sys.argv[2])\n"
        "    def step(self):\n        self.left -= 1\n        if self.left < 0: os._exit(9)\n"
        "    def write(self, d, data):\n        os.write(d, data[:7]); self.step(); return 7 + os.write(d, data[7:])\n"
        "    def sync(self, d):\n        self.step(); os.fsync(d)\n"
        "file = ChainedLines(Path(sys.argv[1]), disk=Dying())\n"
        "for text in (b'a', b'b', b'c'):\n    file.append(text); print(text.decode(), flush=True)\n"
    )
    for deadline in range(12):
        path = tmp_path / str(deadline)
        command = [sys.executable, "-c", script, str(path), str(deadline)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        told = [word.encode() for word in done.stdout.split()]
        kept = texts_of(path)
        assert kept[: len(told)] == told, done.stderr
        assert kept == [b"a", b"b", b"c"][: len(kept)]
    assert told == [b"a", b"b", b"c"]


@pytest.mark.parametrize("place", range(4))
def test_a_line_that_was_changed_anywhere_is_found(path: Path, place: int) -> None:
    lines = path.read_bytes().splitlines(keepends=True)
    for offset in range(len(lines[place]) - 1):
        changed = bytearray(lines[place])
        changed[offset] ^= 1
        path.write_bytes(b"".join([*lines[:place], bytes(changed), *lines[place + 1 :]]))
        last_text = place == 3 and offset > 64  # what nothing follows yet is held by nothing
        if last_text:
            assert texts_of(path)[:3] == TEXTS[:3]
        else:
            with pytest.raises(ProtocolError, match=r"does not follow|is of no chain"):
                ChainedLines(path)


REARRANGED: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "first dropped": lambda lines: lines[1:],
    "dropped": lambda lines: [lines[0], *lines[2:]],
    "swapped": lambda lines: [lines[1], lines[0], *lines[2:]],
    "repeated": lambda lines: [*lines, lines[-1]],
    "put in": lambda lines: [lines[0], lines[0], *lines[1:]],
    "of another file": lambda lines: [*lines[:3], GENESIS + b" four\n"],
    "unchained": lambda lines: [b'{"entry":"Declined"}\n'],
}


@pytest.mark.parametrize("name", REARRANGED)
def test_lines_that_were_dropped_moved_or_put_in_are_found(path: Path, name: str) -> None:
    path.write_bytes(b"".join(REARRANGED[name](path.read_bytes().splitlines(keepends=True))))

    with pytest.raises(ProtocolError, match=r"does not follow|is of no chain"):
        ChainedLines(path)
    Lines(path).close()  # the lock was given up


def test_a_cut_tail_of_whole_lines_is_not_seen_and_the_page_says_so(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:2]))

    assert texts_of(path) == TEXTS[:2]
    assert "no file can tell" in str(lines_module.__doc__)


def test_a_full_disk_leaves_the_lines_as_they_were_wherever_it_fills(path: Path) -> None:
    before = path.read_bytes()
    for room in range(len(b"next") + 66):
        disk = Full(room)
        file = ChainedLines(path, disk=disk)
        with pytest.raises(OSError, match=r"disk full|No space left"):
            file.append(b"next")
        assert path.read_bytes() == before
        disk.room = 1 << 30
        file.append(b"next")
        assert list(file.texts) == [*TEXTS, b"next"]
        file.close()
        path.write_bytes(before)


def test_after_a_failed_fsync_nothing_is_written_until_the_file_is_opened_again(path: Path) -> None:
    disk = Full(syncs=2)  # of opening
    file = ChainedLines(path, disk=disk)
    with pytest.raises(NotDurable, match="could not be made durable"):
        file.append(b"next")
    disk.syncs = 1 << 30
    with pytest.raises(NotDurable, match="open the file again"):
        file.append(b"next")
    file.close()

    assert texts_of(path) == TEXTS


def test_a_second_writer_waits_for_the_first(path: Path) -> None:
    first = Lines(path)
    with pytest.raises(InUse, match="in use by another process"):
        Lines(path)
    script = f"from pathlib import Path\nfrom fedcollm_crypto.lines import Lines\nLines(Path({str(path)!r}))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "InUse" in done.stderr
    first.close()
    Lines(path).close()


def test_bytes_of_a_writer_without_a_lock_are_noticed_before_a_line_is_added(path: Path) -> None:
    file = ChainedLines(path)
    with path.open("ab") as other:
        other.write(b"x")
    there = path.read_bytes()
    with pytest.raises(ForeignBytes, match=rf"has {len(there)} bytes, expected {len(there) - 1}"):
        file.append(b"next")
    file.close()
    file.close()  # twice is allowed

    assert path.read_bytes() == there


def test_a_file_that_is_forgotten_gives_up_its_lock(tmp_path: Path) -> None:
    Lines(tmp_path / "lines").append(b"one")

    assert list(Lines(tmp_path / "lines").lines) == [b"one"]


def test_what_the_system_does_not_open_is_not_written(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for call in (
        lambda: durable.make_folder(tmp_path / "file" / "folder"),
        lambda: durable.make_folder(tmp_path, new=True),
        lambda: durable.move(tmp_path / "gone", tmp_path / "new"),
        lambda: durable.sync_folder(tmp_path / "gone"),
        lambda: durable.write_new(tmp_path / "gone" / "new", b""),
        lambda: durable.replace(tmp_path / "gone" / "new", b""),
        lambda: Lines(tmp_path / "gone" / "lines"),
    ):
        with pytest.raises(NotWritten, match="go on"):
            call()
    with pytest.raises(FileExistsError):
        durable.write_new(tmp_path / "file", b"")


def test_lines_are_kept_in_a_regular_file_and_by_their_owner_alone(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    os.mkfifo(tmp_path / "fifo")
    for name in ("link", "fifo"):
        with pytest.raises(NotWritten, match=r"levels of symbolic links|no regular file"):
            Lines(tmp_path / name)
    assert not (tmp_path / "elsewhere").exists()
    Lines(tmp_path / "lines").close()
    assert (tmp_path / "lines").stat().st_mode & 0o777 == 0o600


def test_a_text_with_a_newline_is_a_mistake_of_the_caller(path: Path) -> None:
    file = ChainedLines(path)
    with pytest.raises(ValueError, match="no newline"):
        file.append(b"two\nlines")
    file.close()


def test_a_file_is_replaced_whole_or_stays(tmp_path: Path) -> None:
    path = tmp_path / "file"
    durable.replace(path, b"old")
    with pytest.raises(OSError, match="Input/output error"):
        durable.replace(path, b"new", disk=Full(syncs=0))
    with pytest.raises(TypeError), durable.replacing(path) as file:
        file.write("half, and no bytes")  # type: ignore[arg-type]
    assert path.read_bytes() == b"old"
    assert [one.name for one in tmp_path.iterdir()] == ["file"]

    durable.replace(path, b"new", private=True)
    assert (path.read_bytes(), path.stat().st_mode & 0o777) == (b"new", 0o600)


def test_what_lies_in_the_place_of_the_partial_file_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / ".file.partial").symlink_to(tmp_path / "elsewhere")

    durable.replace(tmp_path / "file", b"new")

    assert not (tmp_path / "elsewhere").exists()
    assert (tmp_path / "file").read_bytes() == b"new"


def test_stages_of_before_the_chain_are_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "stages.jsonl").write_bytes(b'{"entry":"Declined"}\n')

    with pytest.raises(ProtocolError, match="was written before lines were chained"):
        FileStages(tmp_path / "stages.jsonl")


def test_a_stage_that_was_dropped_from_the_journal_is_found(tmp_path: Path) -> None:
    path = tmp_path / "stages.jsonl"
    journal = FileStages(path)
    for code in ("one", "two", "three"):
        journal.append(Declined(where=WHERE, stage="manifest", request_hash="ab", reason_code=code))
    journal.close()
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(lines[0] + lines[2])

    with pytest.raises(ProtocolError, match=r"stages.jsonl: line 1 does not follow"):
        FileStages(path)
