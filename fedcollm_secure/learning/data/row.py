"""One record of a file as columns of text, whatever kind of file it came from.

| cell                      | becomes                                                                            |
|---------------------------|------------------------------------------------------------------------------------|
| text                      | itself                                                                             |
| null, NaN, empty, blank   | missing; so does a text that is nothing but NaN, NULL, null, NaT, <NA> or #N/A       |
| true, 7, 7.5, a decimal   | True, 7, 7.5, its digits                                                           |
| a date, a time            | 2024-01-31, 2024-01-31 08:30:00 (ISO 8601 with a blank)                            |
| a list, a map             | the same of cells                                                                  |
| bytes and all else        | refused where the column is read                                                   |

Where cells are compared (labels, groups, persons, indices), `name` makes 10.0 and 10 one: a column of whole numbers
with a gap in it comes out of many programs as 10.0.
"""

import datetime as dt
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import TypeAlias, cast

from fedcollm_secure.errors import ConfigError

_MISSING_WORDS = frozenset({"NaN", "nan", "-nan", "NULL", "null", "NaT", "<NA>", "#N/A"})
_WHOLE = re.compile(r"([-+]?\d+)\.0+")


@dataclass(frozen=True, kw_only=True)
class Unreadable:
    """A cell of a kind that is no text."""

    kind: str


Cell: TypeAlias = "str | tuple[Cell, ...] | Mapping[str, Cell] | Unreadable | None"


@dataclass(frozen=True, kw_only=True)
class Row:
    """One record: its cells by column, and where it stands. `number` counts records from 1; a header is none."""

    cells: Mapping[str, Cell] = field(repr=False)
    file: str
    number: int
    line: int | None = None  # of a text file, where the record begins

    @property
    def place(self) -> str:
        """Return where the record stands, for a message."""
        return f"{self.file} row {self.numbered}"

    @property
    def numbered(self) -> str:
        """Return the record's number, and the line in its file where that is another."""
        return f"{self.number}" if self.line in (None, self.number) else f"{self.number} (line {self.line})"

    def text(self, column: str) -> str:
        """Return a column as text.

        Raises:
            ConfigError: it is missing, or no text; the value is not shown.
        """
        cell = self.cells.get(column)
        if isinstance(cell, str) and not is_missing(cell):
            return cell
        raise ConfigError(self.place, f"column {column!r}: expected a text, got {kind_of(cell)}")

    def name(self, column: str) -> str:
        """Return a column as text that is compared: whole numbers are written in one way. Raises: ConfigError."""
        return name(self.text(column))


def name(text: str) -> str:
    """Write a whole number without its zeros after the point; leave any other text as it is."""
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


def is_missing(cell: Cell) -> bool:
    """Say whether a cell holds nothing; a list or a map does if any of its own cells does."""
    match cell:
        case None:
            return True
        case str():
            return not cell.strip() or cell.strip() in _MISSING_WORDS
        case tuple():
            return not cell or any(map(is_missing, cell))
        case Unreadable():
            return False
        case _:
            return not cell or any(map(is_missing, cell.values()))


def cell_of(value: object) -> Cell:
    """Turn what a reader gives into a cell (see the module)."""
    match value:
        case None:
            return None
        case str():
            return value if value.isascii() or _is_whole(value) else Unreadable(kind="text with half a character")
        case bool() | int():
            return str(value)
        case float():
            return None if math.isnan(value) else repr(value)
        case Decimal():
            return None if value.is_nan() else format(value, "f")
        case dt.datetime() | dt.date() | dt.time():
            return str(value)
        case list() | tuple():
            return tuple(cell_of(item) for item in cast(Sequence[object], value))
        case Mapping():
            return {str(key): cell_of(item) for key, item in cast(Mapping[object, object], value).items()}
        case _:
            return Unreadable(kind=type(value).__name__)


def _is_whole(text: str) -> bool:
    """Say whether a text can be written as bytes; half a surrogate pair of JSON's \\u cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def kind_of(cell: Cell) -> str:
    """Say of what kind a cell is, without saying what is in it."""
    match cell:
        case Unreadable():
            return f"a value of kind {cell.kind}"
        case tuple():
            return f"a list of {len(cell)}"
        case None:
            return "an empty cell"
        case str():
            return "an empty cell" if is_missing(cell) else f"a text of {len(cell)} characters"
        case _:
            return "a map"
