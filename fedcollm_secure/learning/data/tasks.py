"""What is asked of a row: a prompt, the possible answers, and the right one. One record is one sequence.

Answers carry their leading blank (` cardiology`), as lm-evaluation-harness joins prompt and answer; training and
scoring therefore see the same text.
"""

import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from fedcollm_secure.config.data import Classification, FreeText, MultipleChoice, Task
from fedcollm_secure.errors import ConfigError

Row = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Record:
    """One question. `answers[gold]` is right; free text has one answer. Never printed: it may be a patient's.

    `subject` names the person it is about, where the configuration says which column does.
    """

    prompt: str = field(repr=False)
    answers: tuple[str, ...] = field(repr=False)
    gold: int = field(repr=False)
    subject: str | None = field(default=None, repr=False)

    @property
    def answer(self) -> str:
        """Return the right answer."""
        return self.answers[self.gold]


def to_records(task: Task, rows: Sequence[Row], labels: Sequence[str], where: str) -> list[Record]:
    """Apply the task's template to each row; `labels` are the possible answers of a classification, in order.

    Raises:
        ConfigError: a column is missing, a label unknown or an index out of range, with the row's number.
    """
    return [_record(task, row, labels, f"{where} row {number}") for number, row in enumerate(rows, start=1)]


def with_subjects(records: Sequence[Record], rows: Sequence[Row], column: str, where: str) -> list[Record]:
    """Return the records with the text in `column` as their person.

    Raises:
        ConfigError: a row has no such column, or nothing in it: a record of nobody could not be counted.
    """
    named: list[Record] = []
    for number, (record, row) in enumerate(zip(records, rows, strict=True), start=1):
        subject = text(row, column, f"{where} row {number}")
        if not subject.strip() or row[column] is None:
            raise ConfigError(f"{where} row {number}", f"column {column!r} names no subject; give each record one")
        named.append(replace(record, subject=subject))
    return named


def labels_of(task: Task, rows: Sequence[Row], where: str) -> tuple[str, ...]:
    """Return the sorted labels of a classification; other tasks have none."""
    if not isinstance(task, Classification):
        return ()
    found = {text(row, task.label, f"{where} row {number}") for number, row in enumerate(rows, start=1)}
    if len(found) < 2:
        raise ConfigError(where, f"expected two labels or more in column {task.label!r}, got {len(found)}")
    return tuple(sorted(found))


def text(row: Row, column: str, where: str) -> str:
    """Return one column as text.

    Raises:
        ConfigError: there is no such column.
    """
    if column not in row:
        raise ConfigError(where, f"no column {column!r}; it has {', '.join(row)}")
    return str(row[column])


def _record(task: Task, row: Row, labels: Sequence[str], where: str) -> Record:
    prompt = _fill(task.prompt, row, where)
    match task:
        case Classification():
            label = text(row, task.label, where)
            if label not in labels:
                raise ConfigError(where, f"label {label!r} does not occur in the public data; known: {len(labels)}")
            return Record(prompt=prompt, answers=tuple(f" {name}" for name in labels), gold=labels.index(label))
        case MultipleChoice():
            choices = _choices(task, row, where)
            return Record(prompt=prompt, answers=choices, gold=_index(text(row, task.answer, where), choices, where))
        case FreeText():
            return Record(prompt=prompt, answers=(" " + _fill(task.answer, row, where),), gold=0)


def _choices(task: MultipleChoice, row: Row, where: str) -> tuple[str, ...]:
    if isinstance(task.choices, tuple):
        found: Sequence[object] = [text(row, column, where) for column in task.choices]
    else:
        text(row, task.choices, where)
        column = row[task.choices]
        if not isinstance(column, list):
            raise ConfigError(
                where,
                f"expected a list of texts in column {task.choices!r}, got {type(column).__name__}; CSV has no lists: "
                "name several columns there, choices: [a, b, c], or use .jsonl",
            )
        found = cast(list[object], column)
    if len(found) < 2:
        raise ConfigError(where, f"expected two choices or more, got {len(found)}")
    return tuple(f" {choice}" for choice in found)


def _index(value: str, choices: Sequence[str], where: str) -> int:
    if not value.isdecimal() or int(value) >= len(choices):
        raise ConfigError(where, f"expected an answer's index from 0 to {len(choices) - 1}, got {value!r}")
    return int(value)


def _fill(template: str, row: Row, where: str) -> str:
    """Fill `{column}` placeholders; values are inserted as they are, never as templates themselves."""
    parts: list[str] = []
    try:
        for literal, column, spec, conversion in string.Formatter().parse(template):
            parts.append(literal)
            if column is not None:
                if not column or spec or conversion:
                    raise ConfigError(where, f"template {template!r}: expected plain {{column}} placeholders")
                parts.append(text(row, column, where))
    except ValueError as error:
        raise ConfigError(where, f"template {template!r}: {error}") from error
    return "".join(parts)
