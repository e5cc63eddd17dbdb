"""The `verify` and `budget` commands: offline checks that need no private key."""

from collections.abc import Mapping
from pathlib import Path

from fedcollm_crypto.checkpoint import NoteKey
from fedcollm_privacy.errors import LedgerError
from fedcollm_privacy.ledger import LedgerRow, read_book
from fedcollm_secure.audit import verify
from fedcollm_secure.audit.log import Head, parse_public_key
from fedcollm_secure.errors import ConfigError, LogError, RunError

Json = Mapping[str, object]
VERIFIED, BAD, INCOMPLETE = 0, 1, 3


def verify_directory(folder: Path, held: Head | None, key: NoteKey | None) -> tuple[int, Json]:
    """Return (exit code, document) for a run directory; `key` is the log keeper's, from another source."""
    if not (folder / "audit").is_dir():
        raise ConfigError("verify", f"{folder} is not a run directory: it has no audit/")
    try:
        found = verify.verify_run(folder, held=held, public_key=key)
    except LogError as error:
        return BAD, _document(False, first_bad=error.first_bad, reason=error.reason)
    except LedgerError as error:
        return BAD, _document(False, reason=str(error))
    except RunError as error:
        return INCOMPLETE, _document(False, reason=str(error))
    document = _document(found.incomplete is None, found.entries, found.root, reason=found.incomplete or "")
    return (INCOMPLETE if found.incomplete else VERIFIED), document


def verify_log(file: Path, held: Head | None, key: NoteKey | None) -> tuple[int, Json]:
    """Return (exit code, document) for one log file; without `key` the `log.pub` beside it is believed."""
    if not file.is_file():
        raise ConfigError("verify log", f"no file at {file}")
    try:
        found = verify.verify_log(file, public_key=key, held=held)
    except LogError as error:
        return BAD, _document(False, first_bad=error.first_bad, reason=error.reason)
    except RunError as error:
        return INCOMPLETE, _document(False, reason=str(error))
    head = found.contents.head
    if found.contents.torn_bytes or found.missing:
        reason = "; ".join((*["the last line is torn"] * bool(found.contents.torn_bytes), *found.missing))
        return INCOMPLETE, _document(False, head.size, head.root, reason=reason)
    reason = (
        "" if held else "a tail cut off together with its checkpoint shows only against a head held elsewhere (--head)"
    )
    return VERIFIED, _document(True, head.size, head.root, reason=reason)


def verify_budget(file: Path) -> tuple[int, Json]:
    """Return (exit code, document) for one ledger: its chain, and ε recomputed from its plans."""
    if not file.is_file():
        raise ConfigError("verify budget", f"no file at {file}")
    try:
        book = read_book(file)
    except LedgerError as error:
        return BAD, _document(False, reason=str(error))
    return VERIFIED, _document(True, len(book.rows()), book.head, reason="")


def budget(file: Path) -> Json:
    """Return what a ledger says: ε spent and left, by round.

    Raises:
        LedgerError: its chain is broken. ConfigError: there is no such file.
    """
    if not file.is_file():
        raise ConfigError("budget", f"no ledger at {file}; look for silos/NAME/ledger.jsonl in a run directory")
    book = read_book(file)
    return {
        "population": book.population,
        "simulated": book.simulated,
        "epsilon": book.epsilon,
        "delta": book.delta,
        "spent": book.epsilon_spent(),
        "rounds": [_row(row) for row in book.rows()],
    }


def parse_head(text: str | None) -> Head | None:
    """Read `SIZE:ROOT` as a verified run prints it.

    Raises:
        ConfigError: another form.
    """
    if text is None:
        return None
    size, _, root = text.partition(":")
    if not size.isdecimal() or len(root) != 64:
        raise ConfigError("--head", f"expected SIZE:ROOT with 64 hexadecimal digits, got {text!r}")
    return Head(size=int(size), root=root)


def parse_key(text: str | None) -> NoteKey | None:
    """Read the keeper's public key: 64 hexadecimal digits, or a file that holds them.

    Raises:
        ConfigError: neither.
    """
    if text is None:
        return None
    try:
        digits = Path(text).read_text(encoding="ascii") if Path(text).is_file() else text
        return parse_public_key(digits)
    except ValueError as error:
        raise ConfigError("--key", f"expected 64 hexadecimal digits or a file with them, got {text!r}") from error


def _row(row: LedgerRow) -> Json:
    return {
        "session": row.session,
        "round": row.round,
        "state": row.state.value,
        "epsilon": row.epsilon,
        "remaining": row.remaining,
    }


def _document(verified: bool, entries: int = 0, root: str = "", *, first_bad: int | None = None, reason: str) -> Json:
    return {"verified": verified, "entries": entries, "root": root, "first_bad": first_bad, "reason": reason}


def as_text(document: Json) -> str:
    """Return a document for people."""
    word = "verified" if document["verified"] else "NOT verified"
    lines = [f"{word}: {document['entries']} entries, head {document['entries']}:{document['root']}"]
    if document["first_bad"] is not None:
        lines.append(f"first bad entry: {document['first_bad']}")
    if document["reason"]:
        lines.append(str(document["reason"]))
    return "\n".join(lines)
