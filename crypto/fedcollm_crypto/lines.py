"""Files of lines that are only added to, by one writer; each line is on the disk when `append` returns.

Lines               a torn last line is cut off: nobody acted on it
ChainedLines        the same, each line behind the hash of the one before: one that is changed, dropped, moved or
                    put in is seen at the next opening. A tail that was cut off whole is not: no file can tell
"""

import fcntl
import hashlib
import os
import stat
import weakref
from collections.abc import Sequence
from pathlib import Path

from fedcollm_crypto.durable import DISK, Disk, NotDurable, NotWritten, append_whole, sync_folder, told
from fedcollm_crypto.errors import ProtocolError

CHAIN_LABEL = b"fedcollm/v1/chained-line\0"
GENESIS = b"0" * 64
_LINK_BYTES = 64


class InUse(RuntimeError):
    """Another process has the file open for writing."""


class ForeignBytes(NotWritten):
    """Somebody wrote to a file of lines that this process has locked: a lock binds only those who ask for it."""

    def __init__(self, path: Path, *, found: int, expected: int) -> None:
        """Say how many bytes there are and how many this process knows of."""
        OSError.__init__(
            self,
            f"{path} has {found} bytes, expected {expected}: another process wrote to it or cut it. "
            "Nothing was appended; verify the run, then resume",
        )


class Lines:
    """The whole lines of a file that is only added to, locked against a second writer until `close`, or forgotten."""

    def __init__(self, path: Path, *, disk: Disk = DISK) -> None:
        """Open or create the file, and cut off a line that a crash tore.

        Raises: InUse; NotWritten, also for a link or anything but a regular file.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._path = path
        self._disk = disk
        self._failed = False
        with told(path):
            self._descriptor = os.open(path, flags, 0o600)
        self._close = weakref.finalize(self, os.close, self._descriptor)
        try:
            self._lock(path)
            self._whole = self._load(path)
            self._size = os.fstat(self._descriptor).st_size
        except BaseException:
            self._close()
            raise

    @property
    def lines(self) -> Sequence[bytes]:
        """Return the lines, the oldest first, without their newlines."""
        return tuple(self._whole)

    def append(self, line: bytes) -> None:
        """Add a line; it is on the disk when this returns.

        Raises: NotWritten: the file is as it was. ForeignBytes, where somebody else changed it. After NotDurable it
            must be opened again.
        """
        if b"\n" in line:
            raise ValueError("a line holds no newline")
        if self._failed:
            raise NotDurable(self._path, "an earlier line was not")
        found = os.fstat(self._descriptor).st_size
        if found != self._size:
            raise ForeignBytes(self._path, found=found, expected=self._size)
        try:
            append_whole(self._path, self._descriptor, line + b"\n", self._size, self._disk)
        except NotDurable:
            self._failed = True
            raise
        self._whole.append(line)
        self._size += len(line) + 1

    def close(self) -> None:
        """Give up the lock; calling it twice is allowed."""
        self._close()

    def _lock(self, path: Path) -> None:
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            raise NotWritten(path, "it is no regular file")
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(f"{path} is in use by another process: one writer at a time") from None

    def _load(self, path: Path) -> list[bytes]:
        data = path.read_bytes()
        complete = data.rfind(b"\n") + 1
        with told(path):
            if complete < len(data):
                self._disk.truncate(self._descriptor, complete)
            self._disk.sync(self._descriptor)  # lines that a crash left in the cache alone, before anybody relies on it
        sync_folder(path.parent, self._disk)
        return data[:complete].split(b"\n")[:-1]


class ChainedLines:
    """Lines of which each is behind the hash of the one before: `64 hexadecimal digits, a blank, the text`."""

    def __init__(self, path: Path, *, disk: Disk = DISK) -> None:
        """Open or create the file. Raises: as `Lines`; ProtocolError for a line that does not follow the one before."""
        self._lines = Lines(path, disk=disk)
        try:
            self._texts, self._link = unchain(self._lines.lines)
        except ProtocolError as error:
            self._lines.close()
            raise ProtocolError(f"{path}: {error}") from None

    @property
    def texts(self) -> Sequence[bytes]:
        """Return what was appended, the oldest first."""
        return tuple(self._texts)

    def append(self, text: bytes) -> None:
        """Add a text; it is on the disk when this returns. Raises: as `Lines.append`."""
        line = self._link + b" " + text
        self._lines.append(line)
        self._link = _link(line)
        self._texts.append(text)

    def close(self) -> None:
        """Give up the lock."""
        self._lines.close()


def unchain(lines: Sequence[bytes]) -> tuple[list[bytes], bytes]:
    """Return the texts of chained lines, and the link that the next one will carry. Raises: ProtocolError."""
    texts, link = list[bytes](), GENESIS
    for index, line in enumerate(lines):
        if line[_LINK_BYTES : _LINK_BYTES + 1] != b" ":
            raise ProtocolError(f"line {index} is of no chain: it is damaged, or was written before lines were chained")
        if line[:_LINK_BYTES] != link:
            raise ProtocolError(f"line {index} does not follow the one before it: one was changed, dropped or moved")
        texts.append(line[_LINK_BYTES + 1 :])
        link = _link(line)
    return texts, link


def _link(line: bytes) -> bytes:
    return hashlib.sha256(CHAIN_LABEL + line).hexdigest().encode()
