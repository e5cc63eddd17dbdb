"""Recompute what a silo's ledger says was spent, and hold it against what the log commits to, round by round."""

import math
from collections.abc import Sequence
from pathlib import Path

from fedcollm_privacy.errors import LedgerError
from fedcollm_privacy.ledger import epsilon_at
from fedcollm_secure.audit_log.events import RoundClosed
from fedcollm_secure.audit_log.ledger_heads import ledger_lines
from fedcollm_secure.audit_log.log_entry import Entry
from fedcollm_secure.errors import LogError

TOLERANCE = 1e-3  # another version of dp-accounting may compute a slightly different ε than the one that was logged


def check_budget(ledger: Path, silo: str, entries: Sequence[Entry]) -> int:
    """Return in how many rounds the log commits to this ledger; ε was recomputed for each, and is what the log says.

    Raises: LogError, with the entry, for a line beyond bounds, a head that the ledger does not hold (replaced or rolled
    back), or another ε.
    """
    ledger_lines(ledger)
    closed = [(entry.index, entry.event) for entry in entries if isinstance(entry.event, RoundClosed)]
    committed = [(index, event) for index, event in closed if silo in event.ledgers]
    try:
        spent = epsilon_at(ledger, {event.ledgers[silo] for _, event in committed})
    except LedgerError as error:
        raise LogError(f"{ledger.name}: {error}") from error
    for index, event in committed:
        head, said = event.ledgers[silo], event.epsilon.get(silo)
        if head not in spent:
            raise LogError(f"round {event.round}: the ledger lacks the head that the log commits to", index)
        if said is not None and not _same(spent[head], float(said)):
            raise LogError(f"round {event.round}: ε is {spent[head]:.6f} when recomputed, the log says {said}", index)
    return len(committed)


def _same(one: float, other: float) -> bool:
    return math.isclose(one, other, rel_tol=TOLERANCE, abs_tol=1e-6) or one == other
