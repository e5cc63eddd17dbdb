"""Files that survive a crash: what was said to be written is on the disk, name and all; what was not is not half there.

    replace, replacing  a file whole, in the place of an older one: a full disk or a kill leaves the old one
    write_new           a file that must not exist yet
    Lines               lines that are only added to, by one writer; a torn last line is cut off: nobody acted on it
    ChainedLines        the same, each line behind the hash of the one before: one that is changed, dropped, moved or
                        put in is seen at the next opening. A tail that was cut off whole is not: no file can tell

Every call that changes the disk goes through `Disk`, so that a test can fail or die in any of them.
"""

import fcntl
import hashlib
import os
import stat
from collections.abc import Generator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from fedcollm_crypto.errors import ProtocolError

CHAIN_LABEL = b"fedcollm/v1/chained-line\0"
GENESIS = b"0" * 64
_LINK_BYTES = 64


class InUse(RuntimeError):
    """Another process has the file open for writing."""


class NotWritten(OSError):
    """A file could not be written whole: the disk is full, fails or is read-only. Nothing of it is half there."""

    def __init__(self, path: Path, why: object) -> None:
        """Name the file, what the system said, and what to do."""
        super().__init__(f"{path} could not be written ({why}). Nothing was acted on: free the disk, then go on")


class NotDurable(NotWritten):
    """An fsync failed: the kernel may have dropped what it could not write, and a second fsync would not say so."""

    def __init__(self, path: Path, why: object) -> None:
        """Say that the file must be opened again: only then does anybody know what is in it."""
        super().__init__(path, f"a line could not be made durable: {why}; open the file again")


class Disk:
    """The calls that change a disk."""

    def write(self, descriptor: int, data: bytes) -> int:
        """Write some or all of the data, and return how much."""
        return os.write(descriptor, data)

    def sync(self, descriptor: int) -> None:
        """Return when the file, or the folder's names, are on the device."""
        os.fsync(descriptor)

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut the file to `size` bytes."""
        os.ftruncate(descriptor, size)


DISK = Disk()


@contextmanager
def replacing(path: Path, *, private: bool = False, disk: Disk = DISK) -> Generator[BinaryIO, None, None]:
    """Give a file to write; it takes the place of `path` when the block ends well, and is gone when it does not.

    A `private` one its owner alone can read.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.unlink(missing_ok=True)  # of a crash; whatever lies there is not written through
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600 if private else 0o666)
        with os.fdopen(descriptor, "wb") as file:
            yield file
            file.flush()
            disk.sync(descriptor)
        partial.replace(path)
        sync_folder(path.parent, disk)
    except OSError as error:
        _remove(partial)
        raise NotWritten(path, error) from error
    except BaseException:
        _remove(partial)
        raise


def replace(path: Path, data: bytes, *, private: bool = False, disk: Disk = DISK) -> None:
    """Write a file whole, in the place of an older one if there is one (see `replacing`)."""
    with replacing(path, private=private, disk=disk) as file:
        file.write(data)


def write_new(path: Path, data: bytes) -> None:
    """Write a file that must not exist yet. Raises: FileExistsError; NotWritten, and then it does not exist."""
    with path.open("xb") as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            sync_folder(path.parent)
        except OSError as error:
            _remove(path)
            raise NotWritten(path, error) from error


def sync_folder(folder: Path, disk: Disk = DISK) -> None:
    """Make the names in a folder durable: fsync of a file does not."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        disk.sync(descriptor)
    finally:
        os.close(descriptor)


def sync_files(folder: Path, disk: Disk = DISK) -> None:
    """Make all files of a folder durable that were written without: what is below it, their names, and the folder."""
    for path in sorted(folder.rglob("*"), reverse=True):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            disk.sync(descriptor)
        finally:
            os.close(descriptor)
    sync_folder(folder, disk)


def append_whole(path: Path, descriptor: int, data: bytes, end: int, disk: Disk = DISK) -> None:
    """Add the data to `path`, which is open and has `end` bytes; it is on the disk when this returns.

    Raises: NotWritten; the file is then cut back to what it was. NotDurable where fsync failed, or the cut: nobody
    knows then what is in it, and the next opening cuts off what is torn.
    """
    try:
        written = disk.write(descriptor, data)
        if written != len(data):
            raise OSError(f"only {written} of {len(data)} bytes could be written: is the disk full?")
    except OSError as error:
        _cut_back(path, descriptor, end, disk)  # else the next line would be glued to the torn one
        raise NotWritten(path, error) from error
    try:
        disk.sync(descriptor)
    except OSError as error:
        _cut_back(path, descriptor, end, disk)
        raise NotDurable(path, error) from error


def _cut_back(path: Path, descriptor: int, end: int, disk: Disk) -> None:
    try:
        disk.truncate(descriptor, end)
    except OSError as error:
        raise NotDurable(path, error) from error


def _remove(path: Path) -> None:
    """Take away what is not whole; on a disk where even that fails, the next writer does."""
    with suppress(OSError):
        path.unlink(missing_ok=True)


class Lines:
    """The whole lines of a file that is only added to, locked against a second writer until `close`."""

    def __init__(self, path: Path, *, disk: Disk = DISK) -> None:
        """Open or create the file, and cut off a line that a crash tore.

        Raises: InUse; NotWritten; OSError for a link or anything but a regular file.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        self._path = path
        self._disk = disk
        self._failed = False
        self._descriptor = os.open(path, flags, 0o600)
        try:
            self._lock(path)
            self._whole = self._load(path)
        except BaseException:
            os.close(self._descriptor)
            raise

    @property
    def lines(self) -> Sequence[bytes]:
        """Return the lines, the oldest first, without their newlines."""
        return tuple(self._whole)

    def append(self, line: bytes) -> None:
        """Add a line; it is on the disk when this returns.

        Raises: NotWritten: the file is as it was. After NotDurable it must be opened again.
        """
        if b"\n" in line:
            raise ValueError("a line holds no newline")
        if self._failed:
            raise NotDurable(self._path, "an earlier line was not")
        try:
            append_whole(self._path, self._descriptor, line + b"\n", os.fstat(self._descriptor).st_size, self._disk)
        except NotDurable:
            self._failed = True
            raise
        self._whole.append(line)

    def close(self) -> None:
        """Give up the lock."""
        os.close(self._descriptor)

    def _lock(self, path: Path) -> None:
        if not stat.S_ISREG(os.fstat(self._descriptor).st_mode):
            raise OSError(f"{path} is no regular file")
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InUse(f"{path} is in use by another process: one writer at a time") from None

    def _load(self, path: Path) -> list[bytes]:
        data = path.read_bytes()
        complete = data.rfind(b"\n") + 1
        try:
            if complete < len(data):
                self._disk.truncate(self._descriptor, complete)
            self._disk.sync(self._descriptor)  # lines that a crash left in the cache alone, before anybody relies on it
            sync_folder(path.parent, self._disk)
        except OSError as error:
            raise NotWritten(path, error) from error
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
