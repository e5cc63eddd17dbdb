"""Files that somebody else wrote: opened so that none of them can hang, fool or fill the reader.

A folder that is to be verified may hold a FIFO, on which an open waits for ever; a link to a device without an end, or
to a file outside; a folder where a file belongs; a sparse file of terabytes. Every verifier opens through here.

    open_regular   no link, no wait (O_NOFOLLOW, O_NONBLOCK), then fstat: a regular file within its size, or refused
    require_plain  the same for all that a folder holds, since O_NOFOLLOW looks at the last name of a path alone

What is not there raises RunError: evidence is missing, nothing is proven bad. All else is a LogError.
"""

import errno
import json
import os
import stat
from collections.abc import Iterator
from io import BufferedReader
from pathlib import Path

from fedcollm_crypto.bounds import check_bounds
from fedcollm_crypto.errors import ProtocolError
from fedcollm_secure.errors import LogError, RunError, printable

KEY_BYTES = 1 << 14
NOTE_BYTES = 1 << 20
DOCUMENT_BYTES = 1 << 24
"""Longest configuration, roster, manifest, summary, index or bill of materials."""
LINES_BYTES = 1 << 28
"""Longest log, journal, ledger or metrics: a million lines."""
VECTOR_BYTES = 1 << 32
"""Longest adapter or archived reply; it is read in pieces."""

MAX_DEPTH = 8
MAX_FILES = 100_000
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY


def open_regular(path: Path, longest: int) -> BufferedReader:
    """Open a regular file of at most `longest` bytes for reading.

    Guarantee: returns at once, whatever lies at `path`, and what is read is a file of that name and not of another.
    Raises: RunError where nothing is there or it may not be read; LogError for a link, a folder, a FIFO, a device, a
    socket, or a file that is too long.
    """
    try:
        descriptor = os.open(path, _FLAGS)
    except (OSError, ValueError) as error:
        raise _not_opened(path, error) from error
    try:
        _check(path, os.fstat(descriptor), longest)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_regular(path: Path, longest: int = DOCUMENT_BYTES) -> bytes:
    """Return the bytes of such a file. Raises: as `open_regular`."""
    with open_regular(path, longest) as file:
        data = file.read(longest + 1)
    if len(data) > longest:  # it grew since fstat
        raise LogError(f"{shown(path)}: at most {longest} bytes were expected")
    return data


def read_text(path: Path, longest: int = DOCUMENT_BYTES) -> str:
    """Return the UTF-8 text of such a file. Raises: as `open_regular`; LogError for other bytes."""
    try:
        return read_regular(path, longest).decode()
    except UnicodeDecodeError as error:
        raise LogError(f"{shown(path)}: UTF-8 was expected ({error.reason} at byte {error.start})") from error


def read_object(path: Path, longest: int = DOCUMENT_BYTES) -> dict[str, object]:
    """Return the JSON object of such a file. Raises: as `open_regular`, and as `parse_object`."""
    return parse_object(read_regular(path, longest), shown(path), longest)


def parse_object(data: bytes, place: str, longest: int = DOCUMENT_BYTES) -> dict[str, object]:
    """Return the JSON object that these bytes are. Raises: LogError for NaN, depth, what is no text, or no object."""
    try:
        check_bounds(data, longest)
        value: object = json.loads(data.decode(), parse_constant=_no_number)
        json.dumps(value, ensure_ascii=False).encode()  # a lone surrogate, written as an escape, is no text
    except (ProtocolError, ValueError) as error:
        raise LogError(f"{place} is not JSON that can be read ({error})") from error
    if not isinstance(value, dict):
        raise LogError(f"{place} must hold one JSON object")
    return {str(key): member for key, member in value.items()}


def is_there(path: Path) -> bool:
    """Say whether anything has this name, even a link that leads nowhere."""
    return os.path.lexists(path)


def names_in(folder: Path) -> list[str]:
    """Return the sorted names in a folder, none where it is not there. Raises: LogError where it is no folder."""
    if not is_there(folder):
        return []
    if folder.is_symlink() or not folder.is_dir():
        raise LogError(f"{shown(folder)}: a folder was expected, and something else lies there")
    try:
        return sorted(os.listdir(folder))
    except OSError as error:
        raise RunError(f"{shown(folder)} cannot be read: {error.strerror}") from error


def files_in(folder: Path, suffix: str) -> list[Path]:
    """Return what has a name with this end in a folder, by name. Raises: as `names_in`."""
    return [folder / name for name in names_in(folder) if name.endswith(suffix)]


def require_plain(folder: Path) -> None:
    """Refuse a folder that is a link, or in which, at any depth, lies anything but regular files and folders.

    Raises: LogError, naming the first; also for more than `MAX_FILES` of them, or deeper ones than `MAX_DEPTH`.
    """
    if folder.is_symlink():
        raise LogError(f"{shown(folder)} is a link: evidence lies in regular files and folders alone")
    for count, (path, mode) in enumerate(_walk(folder, 0)):
        if count == MAX_FILES:
            raise LogError(f"{shown(folder)}: at most {MAX_FILES} files were expected")
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise LogError(f"{shown(path)} is {_kind(mode)}: evidence lies in regular files and folders alone")


def shown(path: Path) -> str:
    """Return the end of a path as it can be printed, whatever its bytes are."""
    parts = [part for part in path.parts[-2:] if part != path.anchor]
    return printable("/".join(parts))


def _walk(folder: Path, depth: int) -> Iterator[tuple[Path, int]]:
    if depth > MAX_DEPTH:
        raise LogError(f"{shown(folder)}: at most {MAX_DEPTH} folders inside one another were expected")
    try:
        with os.scandir(folder) as entries:
            found = [(Path(entry.path), entry.stat(follow_symlinks=False).st_mode) for entry in entries]
    except NotADirectoryError as error:
        raise LogError(f"{shown(folder)}: a folder was expected, and something else lies there") from error
    except FileNotFoundError as error:
        raise RunError(f"{shown(folder)} is missing") from error
    except OSError as error:
        raise RunError(f"{shown(folder)} cannot be read: {error.strerror}") from error
    for path, mode in sorted(found):
        yield path, mode
        if stat.S_ISDIR(mode):
            yield from _walk(path, depth + 1)


def _check(path: Path, status: os.stat_result, longest: int) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise LogError(f"{shown(path)} is {_kind(status.st_mode)}, a regular file was expected")
    if status.st_size > longest:
        raise LogError(f"{shown(path)} has {status.st_size} bytes, at most {longest} were expected")


def _not_opened(path: Path, error: OSError | ValueError) -> LogError | RunError:
    code = error.errno if isinstance(error, OSError) else errno.ENOENT
    if code == errno.ELOOP:
        return LogError(f"{shown(path)} is a link, a regular file was expected")
    if code == errno.ENOTDIR:
        return LogError(f"{shown(path)}: a file lies where a folder was expected")
    if code in (errno.ENXIO, errno.ENODEV, errno.EOPNOTSUPP):
        return LogError(f"{shown(path)} is a socket or a device, a regular file was expected")
    what = "is missing" if code == errno.ENOENT else f"cannot be read: {os.strerror(code or errno.EIO)}"
    return RunError(f"{shown(path)} {what}")


def _kind(mode: int) -> str:
    for holds, kind in (
        (stat.S_ISLNK, "a link"),
        (stat.S_ISDIR, "a folder"),
        (stat.S_ISFIFO, "a FIFO"),
        (stat.S_ISSOCK, "a socket"),
    ):
        if holds(mode):
            return kind
    return "a device"


def _no_number(text: str) -> object:
    raise ValueError(f"{text} is no JSON number")
