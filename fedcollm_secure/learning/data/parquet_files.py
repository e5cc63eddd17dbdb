"""Parquet → rows. Dictionaries are decoded, dates and decimals written out as in a CSV of the same table."""

from pathlib import Path

import numpy as np
import pyarrow as pa
from pyarrow import parquet

from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.data.row import Cell, Row, cell_of
from fedcollm_secure.learning.data.text_files import Table


def read_parquet(path: Path, where: str) -> Table:
    """Read a .parquet file.

    Raises:
        ConfigError: it is none, or two of its columns have one name.
    """
    try:
        file = parquet.ParquetFile(path)
        names = file.schema_arrow.names
        table = file.read() if len(set(names)) == len(names) else None
    except (OSError, ValueError, pa.ArrowException):
        raise ConfigError(where, f"{path}: not Parquet, or not whole; write it again") from None
    if table is None:
        raise ConfigError(where, f"{path}: two of its columns have one name; rename one, or take it out")
    columns = {name: _cells(table.column(name)) for name in table.column_names}
    rows = [
        Row(cells=dict(zip(columns, cells, strict=True)), file=str(path), number=number)
        for number, cells in enumerate(zip(*columns.values(), strict=True), start=1)
    ]
    return Table(rows=rows, columns=tuple(columns), how="")


def _cells(column: pa.ChunkedArray) -> list[Cell]:  # pyright: ignore[reportUnknownParameterType] # pyarrow has no types
    kind = column.type
    if pa.types.is_float32(kind) or pa.types.is_float16(kind):  # the shortest digits that give the same float32
        return [
            None if value is None or value != value else repr(float(str(np.float32(value))))
            for value in column.to_pylist()
        ]
    if pa.types.is_timestamp(kind):
        return _times(column)
    return [cell_of(value) for value in column.to_pylist()]


def _times(column: pa.ChunkedArray) -> list[Cell]:  # pyright: ignore[reportUnknownParameterType] # as above
    """Write times; as dates where all of them are midnights without a zone, which is how dates are often kept."""
    zone = column.type.tz
    try:
        values = column.cast(pa.timestamp("us", tz=zone)).to_pylist()
    except pa.ArrowException:  # nanoseconds that are not 0
        return [cell_of(value) for value in column.cast(pa.string()).to_pylist()]
    dates = zone is None and all(value is None or value.time().isoformat() == "00:00:00" for value in values)
    return [cell_of(value.date() if dates and value is not None else value) for value in values]
