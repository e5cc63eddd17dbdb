"""What is asked of a row: a prompt, the possible answers, and the right one. One record is one sequence.

Answers carry their leading blank (` cardiology`), as lm-evaluation-harness joins prompt and answer; training and
scoring therefore see the same text.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

from fedcollm_secure.config import templates
from fedcollm_secure.config.data import Classification, FreeText, MultipleChoice, Task
from fedcollm_secure.errors import ConfigError, DataError
from fedcollm_secure.learning.data.labels import Known
from fedcollm_secure.learning.data.row import Cell, Row, is_missing, kind_of, name

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One question. `answers[gold]` is right; free text has one answer. Never printed: it may be a patient's.

    `subject` names the person it is about, where the configuration says which column does. `place` is the file and row
    it comes from, for a message.
    """

    prompt: str = field(repr=False)
    answers: tuple[str, ...] = field(repr=False)
    gold: int = field(repr=False)
    subject: str | None = field(default=None, repr=False)
    place: str = field(default="", compare=False)

    @property
    def answer(self) -> str:
        """Return the right answer."""
        return self.answers[self.gold]


def to_record(task: Task, row: Row, known: Known | None, subject: str | None = None) -> Record | None:
    """Apply the task's template to a row whose columns are all there; `known` are a classification's labels.

    None where its label is not among them. `subject` is the column that names its person.

    Raises:
        ConfigError: a cell is of the wrong kind or an answer is none of the choices, with file and row.
    """
    prompt = fill(task.prompt, row)
    match task:
        case Classification():
            label = known.find(row, task.label) if known is not None else None
            if known is None or label is None:
                return None
            answers, gold = known.names, known.names.index(label)
        case MultipleChoice():
            answers, gold = _choices(task, row)
        case FreeText():
            answers, gold = (fill(task.answer, row),), 0
    return Record(
        prompt=prompt,
        answers=tuple(f" {answer}" for answer in answers),
        gold=gold,
        subject=None if subject is None else row.name(subject),
        place=row.place,
    )


def fill(template: str, row: Row) -> str:
    """Fill `{column}` placeholders; values are inserted as they are, never as templates themselves."""
    return "".join(
        literal + ("" if column is None else row.text(column)) for literal, column in templates.parts(template)
    )


def _choices(task: MultipleChoice, row: Row) -> tuple[tuple[str, ...], int]:
    """Return the texts to choose from and the place of the right one."""
    if isinstance(task.choices, tuple):
        texts, keys = tuple(row.text(column) for column in task.choices), tuple[str, ...]()
    else:
        texts, keys = _listed(row, task.choices)
    if len(texts) < 2:
        raise ConfigError(row.place, f"expected two choices or more, got {len(texts)}")
    return texts, _place(row, task.answer, texts, keys)


def _listed(row: Row, column: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return texts and labels of a column with a list, or with {text: [...], label: [...]} as ARC has it."""
    cell = row.cells.get(column)
    if isinstance(cell, tuple):
        return _texts(cell, row, column), ()
    if isinstance(cell, Mapping):
        parts = {key: cell.get(key) for key in ("text", "label")}
        if isinstance(parts["text"], tuple) and isinstance(parts["label"], tuple):
            texts, keys = (_texts(part, row, column) for part in (parts["text"], parts["label"]))
            if len(texts) == len(keys) == len(set(map(name, keys))):
                return texts, tuple(map(name, keys))
        raise ConfigError(
            row.place,
            f"column {column!r}: expected a list of texts, or a map with text and label, lists of one length with each "
            "label once",
        )
    raise ConfigError(
        row.place,
        f"expected a list of texts in column {column!r}, got {kind_of(cell)}; CSV has no lists: name several columns "
        "there, choices: [a, b, c], or use .jsonl",
    )


def _texts(cells: Sequence[Cell], row: Row, column: str) -> tuple[str, ...]:
    for cell in cells:
        if not isinstance(cell, str) or is_missing(cell):
            raise ConfigError(
                row.place, f"column {column!r}: expected texts in its list, one of them is {kind_of(cell)}"
            )
    return tuple(cast(Sequence[str], cells))


def _place(row: Row, column: str, texts: Sequence[str], keys: Sequence[str]) -> int:
    """Return the place of the right choice: by its own label, by a letter, or by an index from 0."""
    value = row.name(column).strip()
    if keys:
        if value in keys:
            return keys.index(value)
        raise DataError(row.place, f"column {column!r}: expected one of its choices' own {len(keys)} labels", value)
    if len(value) == 1 and value.upper() in LETTERS[: len(texts)]:
        return LETTERS.index(value.upper())
    if not (value.isascii() and value.isdecimal()) or int(value) >= len(texts):
        raise DataError(
            row.place,
            f"column {column!r}: expected the right choice as an index from 0 to {len(texts) - 1}, or a letter from A "
            f"to {LETTERS[len(texts) - 1] if len(texts) <= len(LETTERS) else 'Z'}",
            value,
        )
    return int(value)
