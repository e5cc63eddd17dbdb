"""The `budget` command: what a silo's ledger says was spent and is left, round by round."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from fedcollm_privacy.ledger import LedgerRow, read_book
from fedcollm_secure.audit_log.ledger_heads import ledger_lines
from fedcollm_secure.audit_log.untrusted_files import is_there, shown
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.presentation.epsilon_text import left, spent

Json = Mapping[str, object]


def budget(file: Path) -> Json:
    """Return what a ledger says: ε spent and left, by round.

    Raises:
        LedgerError: its chain is broken. ConfigError: there is no such file. LogError: it is no regular file, or
            a line is beyond bounds.
    """
    if not is_there(file):
        raise ConfigError("budget", f"no ledger at {shown(file)}; look for silos/NAME/ledger.jsonl in a run directory")
    ledger_lines(file)
    book = read_book(file)
    return {
        "population": book.population,
        "simulated": book.simulated,
        "epsilon": book.epsilon,
        "delta": book.delta,
        "spent": book.epsilon_spent(),
        "rounds": [_row(row) for row in book.rows()],
    }


def budget_words(budget: Json) -> str:
    """Show a ledger by round."""
    used, whole = cast(float, budget["spent"]), cast(float, budget["epsilon"])
    kind = " (simulated)" if budget["simulated"] else ""
    lines = [
        f"{budget['population']}{kind}: ε {spent(used, 3)} of {whole:g} spent, {left(max(0.0, whole - used), 3)} left"
    ]
    lines += [f"δ = {budget['delta']:g}", "round  state     ε after it  left  session"]
    for row in cast(Sequence[Json], budget["rounds"]):
        number = "score" if row["score"] else row["round"]
        after, rest = spent(cast(float, row["epsilon"]), 3), left(cast(float, row["remaining"]), 3)
        lines.append(f"{number:>5}  {row['state']:<8}  {after:>10}  {rest}  {row['session']}")
    return "\n".join(lines)


def _row(row: LedgerRow) -> Json:
    return {
        "session": row.session,
        "round": row.round,
        "score": row.score,
        "state": row.state.value,
        "epsilon": row.epsilon,
        "remaining": row.remaining,
    }
