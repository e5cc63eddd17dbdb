"""Rows from a package, a file or the hub: a row is a map of columns to text, whatever it came from."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from fedcollm_secure.config.source import FileSource, HubSource, PackageSource, Source
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning import icd10cm
from fedcollm_secure.learning.data.row import Row, cell_of
from fedcollm_secure.learning.data.text_files import PACKED, Table, read_text_file

_INSTEAD = {
    ".json": "one object on each line, as .jsonl",
    ".xlsx": "the sheet saved as CSV UTF-8",
    ".xls": "the sheet saved as CSV UTF-8",
}


def read_rows(source: FileSource | HubSource, where: str) -> Table:
    """Read all rows of a file or a hub data set.

    Raises:
        ConfigError: missing, of an unknown kind, malformed (with the line), or empty.
    """
    table = _hub(source, where) if isinstance(source, HubSource) else _file(source, where)
    if not table.rows:
        name = source.path if isinstance(source, FileSource) else source.name
        raise ConfigError(where, f"expected at least one row, got none ({name})")
    return table


def own_parts(source: Source, where: str) -> Mapping[str, Table]:
    """Return what the source sets apart itself: `test`, `auxiliary`, `private`; a file or hub split is all private."""
    if not isinstance(source, PackageSource):
        return {"private": read_rows(source, where)}
    parts = icd10cm.split(icd10cm.terms())
    named = {"test": parts.test, "auxiliary": parts.public, "private": parts.private}
    return {name: _table(icd10cm.rows(terms), f"{source.name} {name}") for name, terms in named.items()}


def _table(rows: list[Mapping[str, object]] | list[dict[str, str]], file: str) -> Table:
    made = [
        Row(cells={column: cell_of(value) for column, value in row.items()}, file=file, number=number)
        for number, row in enumerate(rows, start=1)
    ]
    return Table(rows=made, columns=tuple(dict.fromkeys(column for row in made for column in row.cells)), how="")


def _file(source: FileSource, where: str) -> Table:
    path, kind = Path(source.path), kind_of_file(Path(source.path))
    if kind not in (".jsonl", ".csv", ".tsv", ".parquet"):
        instead = f"; expected {_INSTEAD[kind]}" if kind in _INSTEAD else ""
        raise ConfigError(
            where,
            f"expected a .csv, .tsv, .jsonl or .parquet file (text may be packed, .csv.gz), got {path.name!r}{instead}",
        )
    if not path.is_file():
        raise ConfigError(where, f"no file at {path}")
    if kind != ".parquet":
        return read_text_file(source, kind, where)
    if source.delimiter or source.encoding:
        raise ConfigError(where, f"{path.name}: delimiter and encoding are for text files; remove them")
    from fedcollm_secure.learning.data.parquet_files import read_parquet

    return read_parquet(path, where)


def kind_of_file(path: Path) -> str:
    """Return the suffix that says how a file is written, in small letters and without that of its packing."""
    if path.suffix.lower() in PACKED:
        path = path.with_suffix("")
    return {".ndjson": ".jsonl", ".pq": ".parquet"}.get(path.suffix.lower(), path.suffix.lower())


def _hub(source: HubSource, where: str) -> Table:
    try:
        import datasets
        from datasets.exceptions import DatasetsError
    except ImportError as error:
        raise ConfigError(where, "hub data sets need the extra: pip install 'fedcollm-secure[hub]'") from error
    try:
        table = datasets.load_dataset(source.name, source.subset, split=source.split, revision=source.revision)
    except (OSError, ValueError, DatasetsError) as error:
        raise ConfigError(
            where,
            f"hub data set {source.name!r} cannot be loaded ({type(error).__name__}); check name, subset, split, "
            "revision and the network, or give a file",
        ) from None
    return _table(cast(list[Mapping[str, object]], list(table)), f"hub:{source.name}")
