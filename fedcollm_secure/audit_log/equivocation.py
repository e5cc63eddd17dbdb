"""Two views of one log: is one contained in the other, or did the keeper show two logs?

Either view may be a log file, a checkpoint, or a silo's journal. Two logs are compared entry by entry; a head is held
against a log's root of that size; two bare heads of one size must have one root.
"""

from dataclasses import dataclass
from pathlib import Path

from fedcollm_crypto.checkpoint import Checkpoint
from fedcollm_crypto.note import Note
from fedcollm_secure.audit_log.checkpoint_folder import CheckpointFolder, read_note
from fedcollm_secure.audit_log.journal import JOURNAL_NAME, HeadCosigned, HeadRefused, check_note, read_journal
from fedcollm_secure.audit_log.log import LogContents, read_log
from fedcollm_secure.audit_log.untrusted_files import require_plain
from fedcollm_secure.errors import LogError, RunError


@dataclass(frozen=True, kw_only=True)
class Sight:
    """What somebody holds of a log: its heads with their notes, and its entries where they are at hand."""

    name: str
    heads: tuple[Checkpoint, ...]
    contents: LogContents | None


def sight(path: Path) -> Sight:
    """Read a run directory, a log file, a checkpoint or a journal. Raises: LogError; RunError for no such file."""
    if path.is_dir():
        require_plain(path)
        path = path / "audit" / "log.jsonl"
    if path.suffix != ".jsonl":
        return Sight(name=str(path), heads=(Checkpoint.of(read_note(path).text),), contents=None)
    if path.name == JOURNAL_NAME:
        shown = [entry for entry in read_journal(path) if isinstance(entry, HeadCosigned | HeadRefused)]
        return Sight(name=str(path), heads=tuple(check_note(entry.note) for entry in shown), contents=None)
    notes: list[Note] = CheckpointFolder(path.parent).notes()
    return Sight(name=str(path), heads=tuple(Checkpoint.of(note.text) for note in notes), contents=read_log(path))


def compare(one: Sight, other: Sight) -> str:
    """Return in words how two sights of one log agree.

    Raises: LogError where they do not, with the first entry in which two logs differ; RunError where nothing can be
    said: they are of different logs, or have no size in common.
    """
    origins = {head.origin for side in (one, other) for head in side.heads}
    if len(origins) > 1:
        raise RunError(f"these are heads of different logs: {', '.join(sorted(origins))}")
    for log, heads in ((one.contents, other.heads), (other.contents, one.heads)):
        for head in heads:
            _hold(log, head)
    if one.contents and other.contents:
        return _compare_logs(one.contents, other.contents)
    roots = {head.size: head.root for head in one.heads}
    common = [head for head in other.heads if head.size in roots]
    for head in common:
        if head.root != roots[head.size]:
            raise LogError(f"two heads of {head.size} entries have two roots: the keeper signed two logs")
    if not common and not one.contents and not other.contents:
        raise RunError("the two have no size in common; compare either with the log itself")
    return "every head of either is one of the other's log"


def _hold(log: LogContents | None, head: Checkpoint) -> None:
    if log is not None and head.size <= len(log.entries) and log.tree.root(head.size) != head.root:
        raise LogError(f"a head of {head.size} entries is not the other log's of that size: the keeper signed two logs")


def _compare_logs(one: LogContents, other: LogContents) -> str:
    for mine, theirs in zip(one.entries, other.entries, strict=False):
        if mine.leaf != theirs.leaf:
            raise LogError("the two logs differ from this entry on", mine.index)
    sizes = sorted((len(one.entries), len(other.entries)))
    return f"the log of {sizes[1]} entries begins with the one of {sizes[0]}"
