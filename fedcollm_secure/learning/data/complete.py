"""Rows whose columns are all there: a column that a file lacks is refused, and empty cells are refused or counted."""

import difflib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from fedcollm_secure.errors import ConfigError, DataError
from fedcollm_secure.learning.data.row import Row, is_missing
from fedcollm_secure.learning.data.text_files import Table

MOST_ROWS = 5


@dataclass(frozen=True, kw_only=True)
class Complete:
    """The rows of a table that have all that is read, and how many were left out for want of it."""

    rows: list[Row] = field(repr=False)
    left_out: int


def complete(table: Table, columns: Sequence[str], missing: Literal["refuse", "skip"], where: str) -> Complete:
    """Return the rows in which none of the columns is empty.

    Raises:
        ConfigError: the file has no such column; or, unless they are skipped, the rows where a column is empty.
    """
    for column in columns:
        if column not in table.columns:
            raise _no_column(table, column, where)
    rows = [row for row in table.rows if not any(is_missing(row.cells.get(column)) for column in columns)]
    left_out = len(table.rows) - len(rows)
    if left_out and missing == "refuse":
        raise ConfigError(
            where, "; ".join(_empty(table, column) for column in columns if _rows(table, column)) + _REMEDY
        )
    if not rows:
        raise ConfigError(where, f"{table.rows[0].file}: no record has all of {', '.join(columns)}")
    return Complete(rows=rows, left_out=left_out)


_REMEDY = ". Fill them, or say data: {missing: skip}, which leaves such records out and counts them"


def _empty(table: Table, column: str) -> str:
    rows = _rows(table, column)
    return f"{table.rows[0].file}: column {column!r} is empty in {shown_rows(rows)}"


def _rows(table: Table, column: str) -> list[Row]:
    return [row for row in table.rows if is_missing(row.cells.get(column))]


def shown_rows(rows: Sequence[Row]) -> str:
    """Name rows by their numbers, the first of many."""
    numbers = ", ".join(str(row.number) for row in rows[:MOST_ROWS])
    if len(rows) == 1:
        return f"row {rows[0].numbered}"
    return f"{len(rows)} rows: {numbers}{', …' if len(rows) > MOST_ROWS else ''}"


def _no_column(table: Table, column: str, where: str) -> ConfigError:
    """Name columns near to the one that is asked for; others could be the first record of a file without header."""
    near = [each for each in table.columns if _is_near(each, column)]
    hint = f"; near: {', '.join(map(repr, near))}" if near else "; has the file a header, and this delimiter?"
    read = f" ({table.how})" if table.how else ""
    return DataError(
        where,
        f"{table.rows[0].file}: no column {column!r} among its {len(table.columns)}{read}{hint}",
        *table.columns,
    )


def _is_near(one: str, other: str) -> bool:
    one, other = one.strip().casefold(), other.strip().casefold()
    return difflib.SequenceMatcher(None, one, other).ratio() >= 0.8
