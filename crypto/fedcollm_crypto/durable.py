"""Files that survive a crash: what was said to be written is on the disk, name and all; what was not is not half there.

    replace, replacing  a file whole, in the place of an older one: a full disk or a kill leaves the old one
    write_new           a file that must not exist yet
    make_folder, move   a folder for files to lie in; another name for a file or folder
    append_whole        more bytes at the end of a file: all of them, or none (`lines` keeps files of them)

Whatever the system refuses, an opening and a new folder too, is NotWritten, which says what to do. Every call that
changes a file goes through `Disk`, so that a test can fail or die in any of them.
"""

import os
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC


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
    except OSError as error:
        _remove(partial)
        raise NotWritten(path, error) from error
    except BaseException:
        _remove(partial)
        raise
    sync_folder(path.parent, disk)


def replace(path: Path, data: bytes, *, private: bool = False, disk: Disk = DISK) -> None:
    """Write a file whole, in the place of an older one if there is one (see `replacing`)."""
    with replacing(path, private=private, disk=disk) as file:
        file.write(data)


def write_new(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file that must not exist yet; a `private` one its owner alone can read.

    Raises: FileExistsError; NotWritten, and then it does not exist.
    """
    with told(path, but=FileExistsError):
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o600 if private else 0o666)
    with os.fdopen(descriptor, "wb") as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
            _sync(path.parent, _FOLDER, DISK)
        except OSError as error:
            _remove(path)
            raise NotWritten(path, error) from error


def make_folder(folder: Path, *, new: bool = False) -> None:
    """Make a folder and those above it, where they are not there yet; a `new` one must not be. Raises: NotWritten."""
    with told(folder):
        folder.mkdir(parents=True, exist_ok=not new)


def move(path: Path, to: Path) -> None:
    """Give a file or folder another name; `sync_folder` makes it last. Raises: NotWritten."""
    with told(to):
        path.rename(to)


def sync_folder(folder: Path, disk: Disk = DISK) -> None:
    """Make the names in a folder durable: fsync of a file does not. Raises: NotWritten."""
    with told(folder):
        _sync(folder, _FOLDER, disk)


def sync_files(folder: Path, disk: Disk = DISK) -> None:
    """Make all files of a folder durable that were written without: what is below it, their names, and the folder.

    Raises: NotWritten.
    """
    with told(folder):
        for path in sorted(folder.rglob("*"), reverse=True):
            _sync(path, _FILE, disk)
        _sync(folder, _FOLDER, disk)


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


@contextmanager
def told(path: Path, but: type[OSError] | tuple[type[OSError], ...] = ()) -> Generator[None, None, None]:
    """Say of what the system refuses that `path` was not written, `but` for errors that mean something else."""
    try:
        yield
    except but:
        raise
    except OSError as error:
        raise NotWritten(path, error) from error


def _sync(path: Path, flags: int, disk: Disk) -> None:
    descriptor = os.open(path, flags)
    try:
        disk.sync(descriptor)
    finally:
        os.close(descriptor)


def _remove(path: Path) -> None:
    """Take away what is not whole; on a disk where even that fails, the next writer does."""
    with suppress(OSError):
        path.unlink(missing_ok=True)
