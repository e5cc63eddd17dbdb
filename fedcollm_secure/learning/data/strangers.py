"""Silos' rows as records; those whose label nobody else could know are refused, or left out and counted."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from fedcollm_secure.config.data import Classification, Data
from fedcollm_secure.errors import DataError
from fedcollm_secure.learning.data.complete import shown_rows
from fedcollm_secure.learning.data.labels import Known
from fedcollm_secure.learning.data.row import Row
from fedcollm_secure.learning.data.tasks import Record, to_record

MOST = 0.5  # of a silo's records: where more labels are unknown, it is the column or its spelling that is at fault


@dataclass(frozen=True, kw_only=True)
class Strangers:
    """Records of a silo that were left out since their label is not known."""

    count: int = field(repr=False)
    rows: str = field(repr=False)


def rendered(
    data: Data, silos: Mapping[str, Sequence[Row]], known: Known | None, subject: str | None
) -> tuple[dict[str, list[Record]], dict[str, Strangers]]:
    """Return each silo's records, and whom of them it left out.

    Raises:
        ConfigError: a cell does not fit the task. DataError: a label is not known, and `data.labels.unknown` refuses;
            or it differs from a known one only in what can be mended; or most of a silo's are not known.
    """
    records: dict[str, list[Record]] = {}
    strangers: dict[str, Strangers] = {}
    for name, rows in silos.items():
        found = [(row, to_record(data.task, row, known, subject)) for row in rows]
        unknown = [row for row, record in found if record is None]
        records[name] = [record for _, record in found if record is not None]
        if unknown and known is not None and isinstance(data.task, Classification):
            _require_few(data, name, unknown, len(rows), known, data.task.label)
            strangers[name] = Strangers(count=len(unknown), rows=shown_rows(unknown))
    return records, strangers


def _require_few(data: Data, silo: str, unknown: Sequence[Row], rows: int, known: Known, column: str) -> None:
    alike = [row for row in unknown if known.is_alike(row, column)]
    refused = alike or (unknown if data.labels.unknown == "refuse" or len(unknown) > MOST * rows else [])
    if not refused:
        return
    first = refused[0]
    if alike:
        remedy = "say data.labels: {normalise: [blanks, case, unicode]}, or mend the file"
    else:
        remedy = "add it to the public data, give it one of theirs by data.labels: {map: {…: …}}, or mend the file"
    raise DataError(
        f"data.silos.{silo}",
        f"{first.place}: column {column!r}: not a label of the public data: {known.describe(first, column)}. So in "
        f"{shown_rows(refused)}, of {rows}: {remedy}",
        first.text(column),
    )
