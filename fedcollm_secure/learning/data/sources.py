"""Rows from a package, a file or the hub: a row is a map of columns, whatever it came from."""

import csv
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from fedcollm_secure.config.data import FileSource, HubSource, PackageSource, Source
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning import icd10cm

Row = Mapping[str, object]


def read_rows(source: FileSource | HubSource, where: str) -> list[Row]:
    """Read all rows of a file or a hub data set.

    Raises:
        ConfigError: missing, of an unknown kind, malformed (with the line), or empty.
    """
    rows = _hub(source, where) if isinstance(source, HubSource) else _file(Path(source.path), where)
    if not rows:
        raise ConfigError(where, f"expected at least one row, got none ({_name(source)})")
    return rows


def package_rows(source: PackageSource) -> Mapping[str, Sequence[Row]]:
    """Return the parts of a packaged data set: `test`, `auxiliary`, `private`."""
    parts = icd10cm.split(icd10cm.terms())
    return {
        "test": icd10cm.rows(parts.test),
        "auxiliary": icd10cm.rows(parts.public),
        "private": icd10cm.rows(parts.private),
    }


def own_parts(source: Source, where: str) -> Mapping[str, Sequence[Row]]:
    """Return what the source itself sets apart; a file or hub split is all `private`."""
    if isinstance(source, PackageSource):
        return package_rows(source)
    return {"private": read_rows(source, where)}


def _file(path: Path, where: str) -> list[Row]:
    readers = {".jsonl": _jsonl, ".csv": _csv, ".parquet": _parquet}
    if path.suffix not in readers:
        raise ConfigError(where, f"expected a .jsonl, .csv or .parquet file, got {path.name!r}")
    if not path.is_file():
        raise ConfigError(where, f"no file at {path}")
    try:
        return readers[path.suffix](path, where)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(where, f"{path} cannot be read: {error}") from error


def _jsonl(path: Path, where: str) -> list[Row]:
    rows: list[Row] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except ValueError as error:
                raise ConfigError(where, f"{path} line {number}: not JSON ({error})") from error
            if not isinstance(row, dict):
                raise ConfigError(where, f"{path} line {number}: expected an object with columns")
            rows.append(cast(Row, row))
    return rows


def _csv(path: Path, where: str) -> list[Row]:
    with path.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, strict=True))
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise ConfigError(where, f"{path} row {number}: expected as many fields as the header has")
    return [cast(Row, row) for row in rows]


def _parquet(path: Path, where: str) -> list[Row]:
    import pyarrow as pa
    from pyarrow import parquet

    try:
        return cast(list[Row], parquet.read_table(path).to_pylist())
    except pa.ArrowException as error:
        raise ConfigError(where, f"{path}: not Parquet ({error})") from error


def _hub(source: HubSource, where: str) -> list[Row]:
    try:
        import datasets
        from datasets.exceptions import DatasetsError
    except ImportError as error:
        raise ConfigError(where, "hub data sets need the extra: pip install 'fedcollm-secure[hub]'") from error
    try:
        table = datasets.load_dataset(source.name, source.subset, split=source.split, revision=source.revision)
    except (OSError, ValueError, DatasetsError) as error:
        raise ConfigError(where, f"hub data set {source.name!r} cannot be loaded: {error}") from error
    return cast(list[Row], list(table))


def _name(source: FileSource | HubSource) -> str:
    return source.path if isinstance(source, FileSource) else source.name
