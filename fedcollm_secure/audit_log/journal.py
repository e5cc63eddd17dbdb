"""A silo's own record of what it took part in: hash-chained lines that stay with the silo.

    line = canonical JSON of {entry, index, previous, time, version}; `previous` = SHA-256 of the line before

It is how a witness remembers the last head that it cosigned, and its evidence against a coordinator that shows it
another log. An entry is on the disk before the silo acts on it.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import TypeAlias, get_args

from fedcollm_crypto.canonical import Json, decode, encode
from fedcollm_crypto.checkpoint import Checkpoint
from fedcollm_crypto.durable import make_folder
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.lines import InUse, Lines
from fedcollm_crypto.note import Note
from fedcollm_secure.audit_log import untrusted_files
from fedcollm_secure.audit_log.event_fields import Checked, Code, Count, Digest
from fedcollm_secure.audit_log.log_entry import TIME_FORMAT
from fedcollm_secure.errors import LogError, RunError

JOURNAL_NAME = "journal.jsonl"
GENESIS = "0" * 64
VERSION = 1
FIELDS = {"entry", "index", "previous", "time", "version"}


@dataclass(frozen=True, kw_only=True)
class HeadEntry:
    """A checkpoint that came, as it was signed."""

    note: str

    def __post_init__(self) -> None:
        """Refuse what is not a checkpoint."""
        check_note(self.note)


@dataclass(frozen=True, kw_only=True)
class HeadCosigned(HeadEntry):
    """The silo cosigned this checkpoint, after it had verified that the log only grew."""


@dataclass(frozen=True, kw_only=True)
class HeadSeen(HeadEntry):
    """A party that is no witness, the decryptor, kept this checkpoint after it had verified that the log only grew."""


@dataclass(frozen=True, kw_only=True)
class HeadRefused(HeadEntry):
    """The silo was shown a checkpoint that its keeper signed, and that it would not cosign: evidence."""

    reason: Code


@dataclass(frozen=True, kw_only=True)
class AttemptJoined(Checked):
    """The silo took part in an attempt at a round."""

    round: Count
    attempt: Count
    manifest_digest: Digest


@dataclass(frozen=True, kw_only=True)
class RoundEnded(Checked):
    """The coordinator closed the round; `ledger` is this silo's ledger head then, 64 zeros without a ledger."""

    round: Count
    adapter_digest: Digest
    ledger: Digest


JournalEntry: TypeAlias = HeadCosigned | HeadSeen | HeadRefused | AttemptJoined | RoundEnded
_KINDS: dict[str, Callable[..., JournalEntry]] = {kind.__name__: kind for kind in get_args(JournalEntry)}


class Journal:
    """The journal of one silo in one run, with one writer."""

    def __init__(self, path: Path) -> None:
        """Open or begin the journal; a last line that a crash tore is cut off.

        Raises: LogError for a bad line; RunError while another process writes it; NotWritten where the disk fails.
        """
        make_folder(path.parent)
        try:
            self._file = Lines(path)
        except InUse as error:
            raise RunError(str(error)) from error
        try:
            self._entries, self._previous = _read(self._file.lines)
        except LogError:
            self._file.close()
            raise
        self._cosigned = self._heard = 0
        self._ledger: str | None = None
        self._joined: set[int] = set()
        for entry in self._entries:
            self._note(entry)

    @property
    def entries(self) -> tuple[JournalEntry, ...]:
        """Return all entries, the oldest first."""
        return tuple(self._entries)

    @property
    def last_ledger(self) -> str | None:
        """Return where the silo's ledger stood when a round was closed last; None before that."""
        return self._ledger

    @property
    def heard_size(self) -> int:
        """Return up to where the silo heard every line of the log: the head of the attempt that it joined last.

        A head that it cosigned outside of an attempt does not count: what its lines said of others is not remembered.
        """
        return self._heard

    def joined(self, round_number: int) -> bool:
        """Return whether the silo joined an attempt of this round."""
        return round_number in self._joined

    def append(self, entry: JournalEntry) -> None:
        """Write one entry; it is on the disk when this returns. Raises: OSError when it could not be written whole."""
        line = encode(
            {
                "entry": {"type": type(entry).__name__, **_plain(entry)},
                "index": len(self._entries),
                "previous": self._previous,
                "time": datetime.now(UTC).strftime(TIME_FORMAT),
                "version": VERSION,
            }
        )
        self._file.append(line)
        self._entries.append(entry)
        self._previous = _link(line)
        self._note(entry)

    def close(self) -> None:
        """Give up the lock."""
        self._file.close()

    def _note(self, entry: JournalEntry) -> None:
        """Keep what is asked for often, so that nobody reads the entries again for it."""
        match entry:
            case HeadCosigned():
                self._cosigned = check_note(entry.note).size
            case AttemptJoined():
                self._heard = self._cosigned
                self._joined.add(entry.round)
            case RoundEnded():
                self._ledger = entry.ledger
            case _:
                pass


def read_journal(path: Path) -> list[JournalEntry]:
    """Read a journal and follow its chain; a torn last line is left out.

    Raises: LogError with the first bad index, or for no regular file; RunError where there is none.
    """
    data = untrusted_files.read_regular(path, untrusted_files.LINES_BYTES)
    return _read(data.split(b"\n")[:-1])[0]


def check_note(text: str) -> Checkpoint:
    """Return the checkpoint of a note. Raises: ValueError for what is none."""
    try:
        return Checkpoint.of(Note.decode(text).text)
    except ProtocolError as error:
        raise ValueError(str(error)) from error


def _read(lines: Sequence[bytes]) -> tuple[list[JournalEntry], str]:
    entries: list[JournalEntry] = []
    previous = GENESIS
    for index, line in enumerate(lines):
        try:
            entries.append(_entry(line, index, previous))
        except (ValueError, TypeError, ProtocolError) as error:
            raise LogError(f"{JOURNAL_NAME}: {error}", index) from error
        previous = _link(line)
    return entries, previous


def _entry(line: bytes, index: int, previous: str) -> JournalEntry:
    body = decode(line)
    if not isinstance(body, dict) or set(body) != FIELDS or body["version"] != VERSION:
        raise ValueError(f"a line must hold exactly {', '.join(sorted(FIELDS))}, of version {VERSION}")
    if body["index"] != index or body["previous"] != previous:
        raise ValueError("a line was changed, deleted, inserted or moved")
    entry = body["entry"] if isinstance(body["entry"], dict) else {}
    kind = _KINDS.get(str(entry.get("type")))
    if kind is None:
        raise ValueError(f"unknown entry; this version knows {', '.join(_KINDS)}")
    return kind(**{name: value for name, value in entry.items() if name != "type"})


def _plain(entry: JournalEntry) -> dict[str, Json]:
    return {field.name: getattr(entry, field.name) for field in fields(entry)}


def _link(line: bytes) -> str:
    return hashlib.sha256(b"fedcollm/v1/journal-line\0" + line).hexdigest()
