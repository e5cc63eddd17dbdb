"""Hold the log against what its witnesses remember: each head that a silo cosigned is one of this log's."""

from pathlib import Path

from fedcollm_secure.audit_log.journal import (
    JOURNAL_NAME,
    HeadCosigned,
    HeadRefused,
    HeadSeen,
    check_note,
    read_journal,
)
from fedcollm_secure.audit_log.ledger_heads import of_silos
from fedcollm_secure.audit_log.log import LogContents
from fedcollm_secure.errors import LogError


def check_journals(folder: Path, contents: LogContents) -> list[str]:
    """Verify every journal under `folder`/silos; return nothing: a journal stays with its silo, and may be elsewhere.

    Raises: LogError for a journal whose chain is broken, or for a cosigned head that this log does not contain: the
    log was cut, or the silo was shown another one.
    """
    for path in of_silos(folder, JOURNAL_NAME):
        _check_journal(path, contents)
    return []


def _check_journal(path: Path, contents: LogContents) -> None:
    place = f"silos/{path.parent.name}/{JOURNAL_NAME}"
    try:
        entries = read_journal(path)
    except LogError as error:
        raise LogError(f"{place}: {error}") from error
    for entry in entries:
        if isinstance(entry, HeadRefused):
            raise LogError(
                f"{place}: the silo was shown another log ({entry.reason}); compare with verify equivocation"
            )
        if isinstance(entry, HeadCosigned | HeadSeen):
            head = check_note(entry.note)
            if head.size > len(contents.entries):
                raise LogError(f"the log was cut: {place} holds a head of {head.size} entries")
            if contents.tree.root(head.size) != head.root:
                raise LogError(f"{place} holds a head of {head.size} entries that is not this log's: it forked")
