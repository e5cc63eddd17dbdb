"""The consortium log of a run: append, and verify without anybody's word.

`RUN/audit/log.jsonl` holds a signed line per event (`entry.py`), `RUN/audit/log.pub` the keeper's Ed25519 public key
in hexadecimal. A line is on the disk before `append` returns, so what the log says has happened can be relied on
after a crash; the one line that a crash can tear was never acknowledged, and `open` cuts it off.
"""

import fcntl
import os
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedcollm_secure.audit.entry import GENESIS, TIME_FORMAT, Entry, read_line, write_line
from fedcollm_secure.audit.events import Event
from fedcollm_secure.errors import LogError, RunError

LOG_NAME = "log.jsonl"
KEY_NAME = "log.pub"


@dataclass(frozen=True, kw_only=True)
class Head:
    """How many entries a log has, and the hash that stands for all of them."""

    size: int
    root: str


@dataclass(frozen=True, kw_only=True)
class LogContents:
    """A verified log: its entries, and how many bytes of a torn last line follow them (0 after a clean end)."""

    entries: tuple[Entry, ...]
    torn_bytes: int

    @property
    def head(self) -> Head:
        """Size and root over the whole lines."""
        return self.head_at(len(self.entries))

    def head_at(self, size: int) -> Head:
        """Return the head that the log had when it held `size` entries."""
        return Head(size=size, root=self.entries[size - 1].link if size else GENESIS)


class AuditLog:
    """An append-only log with one writer.

    Guarantee: whoever holds the public key finds the first line that was changed, deleted, inserted, moved or
    re-signed. A tail cut off at a line's end is found only by someone who holds a later head.
    """

    def __init__(self, path: Path, signer: Ed25519PrivateKey, head: Head, size_bytes: int) -> None:
        """Use `create` or `open`; they make sure that the file is what the other arguments say."""
        self._path = path
        self._signer = signer
        self._head = head
        self._size_bytes = size_bytes

    @property
    def head(self) -> Head:
        """Size and root after the last append."""
        return self._head

    @classmethod
    def create(cls, folder: Path, signer: Ed25519PrivateKey) -> Self:
        """Begin an empty log in `folder` and put the public key beside it.

        Raises: RunError where a log already lies.
        """
        path = folder / LOG_NAME
        if path.exists() or (folder / KEY_NAME).exists():
            raise RunError(f"{path} already exists; a log is never begun twice. Choose another folder, or resume")
        folder.mkdir(parents=True, exist_ok=True)
        _write_durably(folder / KEY_NAME, f"{signer.public_key().public_bytes_raw().hex()}\n".encode())
        _write_durably(path, b"")
        return cls(path, signer, Head(size=0, root=GENESIS), 0)

    @classmethod
    def open(cls, folder: Path, signer: Ed25519PrivateKey) -> Self:
        """Verify the whole log, cut off a torn last line, and go on.

        Raises: RunError where no log lies or `signer` is not its keeper; LogError for a bad line.
        """
        path = folder / LOG_NAME
        keeper = read_public_key(folder / KEY_NAME)
        if keeper.public_bytes_raw() != signer.public_key().public_bytes_raw():
            raise RunError(f"{path} is kept under another key; resume with the key that began the run")
        contents = read_log(path, keeper)
        size_bytes = path.stat().st_size - contents.torn_bytes
        if contents.torn_bytes:
            with _exclusive(path) as descriptor:
                os.ftruncate(descriptor, size_bytes)
                os.fsync(descriptor)
        return cls(path, signer, contents.head, size_bytes)

    def append(self, event: Event) -> None:
        """Write one event; it is on the disk when this returns.

        Raises: RunError when the disk is full or somebody else wrote to the log; the log is then as it was before.
        """
        time = datetime.now(UTC).strftime(TIME_FORMAT)
        index, previous = self._head.size, self._head.root
        line = write_line(event, index=index, previous=previous, time=time, signer=self._signer)
        entry = read_line(line, index=index, previous=previous, public_key=self._signer.public_key())
        with _exclusive(self._path) as descriptor:
            self._refuse_foreign_bytes(descriptor)
            self._write_or_restore(descriptor, line + b"\n")
        self._head = Head(size=index + 1, root=entry.link)
        self._size_bytes += len(line) + 1

    @classmethod
    def verify(cls, path: Path, public_key: Ed25519PublicKey) -> Head:
        """Check every line, and that the last one is whole.

        Raises: LogError with the first bad index and the reason; RunError where there is no such file.
        """
        contents = read_log(path, public_key)
        if contents.torn_bytes:
            raise LogError("the last line has no end: it was cut, or torn by a crash", len(contents.entries))
        return contents.head

    def _refuse_foreign_bytes(self, descriptor: int) -> None:
        found = os.fstat(descriptor).st_size
        if found != self._size_bytes:
            raise RunError(
                f"{self._path} has {found} bytes, expected {self._size_bytes}: another process wrote to it or cut it. "
                "Nothing was appended; verify the run, then resume"
            )

    def _write_or_restore(self, descriptor: int, data: bytes) -> None:
        try:
            written = os.write(descriptor, data)
            if written != len(data):
                raise OSError(f"only {written} of {len(data)} bytes were written")
            os.fsync(descriptor)
        except OSError as error:
            os.ftruncate(descriptor, self._size_bytes)
            raise RunError(f"{self._path} could not be written ({error}); free the disk, then resume") from error


def read_log(path: Path, public_key: Ed25519PublicKey) -> LogContents:
    """Verify every whole line of the log; bytes after the last newline are counted, not judged.

    Raises: LogError with the first bad index and the reason; RunError where there is no such file.
    """
    try:
        *lines, tail = path.read_bytes().split(b"\n")
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
    entries: list[Entry] = []
    previous = GENESIS
    for index, line in enumerate(lines):
        try:
            entry = read_line(line, index=index, previous=previous, public_key=public_key)
        except ValueError as error:
            raise LogError(str(error), index) from error
        entries.append(entry)
        previous = entry.link
    return LogContents(entries=tuple(entries), torn_bytes=len(tail))


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Read `log.pub`: 64 hexadecimal digits and a newline.

    Raises: RunError where there is no such file; LogError when it holds no key.
    """
    try:
        return Ed25519PublicKey.from_public_bytes(bytes.fromhex(path.read_text(encoding="ascii")))
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        raise LogError(f"{path} is not an Ed25519 public key; expected 64 hexadecimal digits") from error


@contextmanager
def _exclusive(path: Path) -> Generator[int, None, None]:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)  # and with it the lock


def _write_durably(path: Path, data: bytes) -> None:
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)  # the name itself must survive a crash, not only the bytes
    finally:
        os.close(folder)
