"""The signed heads of a log: `audit/checkpoints/SIZE.txt`, each a note that any C2SP tool can read.

    origin \\n size \\n base64(root) \\n \\n — keeper's signature \\n — a silo's cosignature \\n …

`check` holds a log against all of them: the keeper signed each, each one's root is that of the log's first SIZE
entries, and every cosignature verifies. A pair of checkpoints of one log is thereby consistent.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from fedcollm_crypto import durable
from fedcollm_crypto.checkpoint import Checkpoint, NoteKey, cosigners, open_checkpoint, quorum, require_own_lines
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.merkle import Tree
from fedcollm_crypto.note import Note
from fedcollm_crypto.roster import Roster
from fedcollm_secure.audit_log import untrusted_files
from fedcollm_secure.audit_log.events import HeadAttested
from fedcollm_secure.audit_log.log_entry import Entry
from fedcollm_secure.errors import LogError, RunError

FOLDER = "checkpoints"


@dataclass(frozen=True, kw_only=True)
class Witnesses:
    """Who cosigns: the silos of the roster, n_c of whom may lie, and how many of them make a quorum."""

    keys: tuple[NoteKey, ...]
    colluding: int

    @classmethod
    def of(cls, roster: Roster) -> "Witnesses":
        """Return the silos of the roster as witnesses; n_c stands in its policy."""
        silos = (member for member in roster.members if member.role == "silo")
        keys = tuple(NoteKey(name=key_name(m.id), ed25519=m.ed25519, mldsa44=m.mldsa44) for m in silos)
        colluding = roster.policy.get("colluding", 0)
        if not isinstance(colluding, int) or not 0 <= colluding < max(1, len(keys)):
            raise LogError(f"the roster's policy: of {len(keys)} silos fewer can be the liars")
        return cls(keys=keys, colluding=colluding)

    @property
    def quorum(self) -> int:
        """Return q > (n + n_c)/2."""
        return quorum(len(self.keys), self.colluding)


@dataclass(frozen=True, kw_only=True)
class Attested:
    """What the checkpoints of a log come to: the largest, and the largest that a quorum of silos cosigned (or 0)."""

    checkpoints: int
    signed_size: int
    cosigned_size: int
    cosigners: frozenset[str]  # of the largest
    by_size: Mapping[int, frozenset[str]]  # of each


class CheckpointFolder:
    """The notes of one log, by size."""

    def __init__(self, folder: Path) -> None:
        """Take the log's folder; nothing is written before the first `save`."""
        self._folder = folder / FOLDER

    def save(self, note: Note) -> None:
        """Write a note durably, in the place of one of the same size with fewer signatures.

        Raises: RunError when the disk is full or fails; the one before, if any, is still there.
        """
        try:
            durable.make_folder(self._folder)
            durable.replace(self._folder / f"{Checkpoint.of(note.text).size}.txt", note.encode().encode())
        except OSError as error:
            raise RunError(str(error)) from error

    def notes(self) -> list[Note]:
        """Return all notes, the smallest first. Raises: LogError for a file that is none."""
        paths = sorted(untrusted_files.files_in(self._folder, ".txt"), key=lambda path: (len(path.name), path.name))
        return [read_note(path) for path in paths]

    def last(self) -> Note | None:
        """Return the note of the largest size."""
        return next(reversed(self.notes()), None)


def read_note(path: Path) -> Note:
    """Read a note from a file. Raises: LogError for another form, or a name that is not its size."""
    try:
        note = Note.decode(untrusted_files.read_text(path, untrusted_files.NOTE_BYTES))
        size = Checkpoint.of(note.text).size
    except ProtocolError as error:
        raise LogError(f"{untrusted_files.shown(path)}: {error}") from error
    if path.parent.name == FOLDER and path.name != f"{size}.txt":
        raise LogError(
            f"{untrusted_files.shown(path)}: it is the checkpoint of {size} entries: it was moved or replaced"
        )
    return note


def check(
    tree: Tree, notes: Sequence[Note], keeper: NoteKey, witnesses: Witnesses | None, origin: str | None
) -> Attested:
    """Hold a log's tree against its checkpoints.

    `origin` is the log's name, None where no entry says it.
    Without `witnesses` (no roster at hand) cosignatures are not looked at. The first bad entry can be told up to the
    last checkpoint that still holds.
    Guarantee: entries up to `signed_size` are those that the keeper signed; those up to `cosigned_size` are the same
    for everybody, as long as at most n_c silos lie.
    Raises: LogError for a checkpoint that is forged, of another log, or not of these entries.
    """
    good, cosigned, names = 0, 0, frozenset[str]()
    by_size: dict[int, frozenset[str]] = {}
    if origin is None:
        origin = Checkpoint.of(notes[0].text).origin if notes else ""
    for note in notes:
        try:
            head = open_checkpoint(note, keeper, origin)
            names = _cosigners(note, replace(keeper, name=origin), witnesses) if witnesses else frozenset()
        except ProtocolError as error:
            raise LogError(f"{FOLDER}/{Checkpoint.of(note.text).size}.txt: {error}") from error
        _check_head(tree, head, good)
        good = head.size
        by_size[head.size] = names
        if witnesses and len(names) >= witnesses.quorum:
            cosigned = head.size
    return Attested(checkpoints=len(notes), signed_size=good, cosigned_size=cosigned, cosigners=names, by_size=by_size)


def check_attested(entries: Sequence[Entry], attested: Attested) -> None:
    """Hold what the log says of cosignatures against those that are there.

    The head that was cosigned after the log's last entry has no entry that speaks of it: of its cosignatures the
    quorum alone is asked for.
    Raises: LogError for a checkpoint, or a silo's line in one, that the log says was given and that is gone.
    """
    for entry in entries:
        event = entry.event
        if not isinstance(event, HeadAttested):
            continue
        gone = sorted(silo for silo in event.silos if key_name(silo) not in attested.by_size.get(event.size, ()))
        if gone:
            whose = ", ".join(gone)
            raise LogError(f"{FOLDER}/{event.size}.txt lacks cosignatures that were given: {whose}", entry.index)


def _cosigners(note: Note, keeper: NoteKey, witnesses: Witnesses) -> frozenset[str]:
    require_own_lines(note, keeper, witnesses.keys)
    return cosigners(note, witnesses.keys)


def _check_head(tree: Tree, head: Checkpoint, good: int) -> None:
    if head.size > tree.size:
        raise LogError(f"the log was cut: it has {tree.size} entries, a signed checkpoint has {head.size}", tree.size)
    if tree.root(head.size) != head.root:
        which = f"entry {good} is" if head.size == good + 1 else f"one of the entries {good} to {head.size - 1} is"
        raise LogError(f"{which} not the one that the signed checkpoint of {head.size} entries stands for", good)


def key_name(party: str) -> str:
    """Return a party's name as a note can carry it: blanks, plus and per cent signs become %XX."""
    return "".join(
        "".join(f"%{byte:02X}" for byte in letter.encode())
        if letter in "+%" or letter.isspace() or not letter.isprintable()
        else letter
        for letter in party
    )
