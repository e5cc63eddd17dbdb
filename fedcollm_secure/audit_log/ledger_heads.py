"""Hold each silo's privacy ledger against the heads that the log commits to, so that no budget is rolled back."""

from pathlib import Path

from fedcollm_crypto.bounds import check_bounds
from fedcollm_crypto.errors import ProtocolError
from fedcollm_privacy.errors import LedgerError
from fedcollm_privacy.ledger import read_book
from fedcollm_secure.audit_log import untrusted_files
from fedcollm_secure.audit_log.events import RoundClosed
from fedcollm_secure.errors import LogError

LEDGER_NAME = "ledger.jsonl"
MAX_LINE_BYTES = 1 << 20


def ledger_lines(path: Path) -> list[bytes]:
    """Return the whole lines of a ledger that `read_book` may then parse: a regular file, no line beyond bounds.

    Raises: LogError, with the index of a line that is too deep or too long; RunError where there is no such file.
    """
    lines = untrusted_files.read_regular(path, untrusted_files.LINES_BYTES).split(b"\n")[:-1]
    for index, line in enumerate(lines):
        try:
            check_bounds(line, MAX_LINE_BYTES)
        except ProtocolError as error:
            raise LogError(f"{untrusted_files.shown(path)}: {error}", index) from error
    return lines


def of_silos(folder: Path, name: str) -> list[Path]:
    """Return what has this name in a silo's folder of a run, by silo. Raises: LogError where a folder is none."""
    silos = folder / "silos"
    paths = [silos / silo / name for silo in untrusted_files.names_in(silos) if (silos / silo).is_dir()]
    return [path for path in paths if untrusted_files.is_there(path)]


def check_ledgers(folder: Path, closed: RoundClosed | None) -> list[str]:
    """Verify every ledger under `folder`/silos; return what is missing.

    A ledger may have gone on since the last closed round: it must contain the committed head, not end with it.
    Raises: LogError for a ledger that does not verify, or that was replaced by another or an older one.
    """
    committed = dict(closed.ledgers) if closed else {}
    found = {path.parent.name: path for path in of_silos(folder, LEDGER_NAME)}
    missing = [f"silos/{name}/ledger.jsonl is missing" for name in sorted(committed.keys() - found.keys())]
    for name, path in found.items():
        missing += _check_ledger(name, path, committed.get(name))
    return missing


def _check_ledger(name: str, path: Path, head: str | None) -> list[str]:
    place = f"silos/{name}/ledger.jsonl"
    if not ledger_lines(path) and head is None:
        return [f"{place} was never begun"]  # a crash at the very start leaves an empty file
    try:
        book = read_book(path)
    except LedgerError as error:
        raise LogError(f"{place}: {error}") from error
    if head is not None and head not in book.heads:
        raise LogError(f"{place} does not hold the head that the log commits to: it was replaced or rolled back")
    return []
