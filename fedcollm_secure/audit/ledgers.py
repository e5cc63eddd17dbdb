"""Hold each silo's privacy ledger against the heads that the log commits to, so that no budget is rolled back."""

import json
from pathlib import Path

from fedcollm_privacy.errors import LedgerError
from fedcollm_privacy.ledger import read_ledger
from fedcollm_secure.audit.events import RoundClosed
from fedcollm_secure.errors import LogError


def check_ledgers(folder: Path, closed: RoundClosed | None) -> list[str]:
    """Verify every ledger under `folder`/silos; return what is missing.

    A ledger may have gone on since the last closed round: it must contain the committed head, not end with it.
    Raises: LogError for a ledger that does not verify, or that was replaced by another or an older one.
    """
    committed = dict(closed.ledgers) if closed else {}
    found = {path.parent.name: path for path in sorted(folder.glob("silos/*/ledger.jsonl"))}
    missing = [f"silos/{name}/ledger.jsonl is missing" for name in sorted(committed.keys() - found.keys())]
    for name, path in found.items():
        missing += _check_ledger(name, path, committed.get(name))
    return missing


def _check_ledger(name: str, path: Path, head: str | None) -> list[str]:
    place = f"silos/{name}/ledger.jsonl"
    lines = path.read_bytes().split(b"\n")[:-1]
    if not lines and head is None:
        return [f"{place} was never begun"]  # a crash at the very start leaves an empty file
    try:
        read_ledger(path)
    except LedgerError as error:
        raise LogError(f"{place}: {error}") from error
    if head is not None and head not in {json.loads(line)["hash"] for line in lines}:
        raise LogError(f"{place} does not hold the head that the log commits to: it was replaced or rolled back")
    return []
