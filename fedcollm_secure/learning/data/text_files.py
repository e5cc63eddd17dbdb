"""CSV and JSON lines, as people have them: packed or not, with a byte order mark or not, in any delimiter.

    bytes ─▶ unpack (gz, bz2, xz, zst, zip) ─▶ decode (UTF-8, or by its mark, or as stated) ─▶ csv | json ─▶ rows

What was found out is said in words, for `check` to show. A fault is told by its line, never by what stands there: even
the decoder's own message would show a byte. Python's `csv` reads here, since pyarrow's takes a stray quote for granted
and shows the line that it cannot read.
"""

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import zipfile
import zlib
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from fedcollm_secure.config.source import FileSource
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.data.row import Cell, Row, cell_of

PACKED = (".gz", ".bz2", ".xz", ".zst", ".zip")
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
SNIFFED_ROWS = 20
_LONGEST_FIELD = 2**31 - 1
_MARKS = {  # the longer first: UTF-32's mark begins with UTF-16's
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_FOREIGN = {
    b"PAR1": "is Parquet, whatever its name says: name it .parquet",
    b"PK\x03\x04": "is a workbook or an archive: save the sheet as CSV UTF-8, or name an archive .zip",
    b"\xd0\xcf\x11\xe0": "is an Excel workbook: save the sheet as CSV UTF-8",
    b"\x1f\x8b": "is packed by gzip: name it .csv.gz or .jsonl.gz",
}


@dataclass(frozen=True, kw_only=True)
class Table:
    """All rows of a file, its columns, and in words how it was read."""

    rows: Sequence[Row]
    columns: tuple[str, ...]
    how: str


def read_text_file(source: FileSource, kind: str, where: str) -> Table:
    """Read a `.csv`, `.tsv` or `.jsonl` file, possibly packed.

    Raises:
        ConfigError: it cannot be unpacked, decoded or parsed, with the line.
    """
    path = Path(source.path)
    text, how = _decoded(_unpacked(path, where), source, where)
    if kind == ".jsonl":
        return _jsonl(text, source.path, how, where)
    return _csv(
        text, source.delimiter or ("\t" if kind == ".tsv" else _sniffed(text, source, where)), source.path, how, where
    )


def _unpacked(path: Path, where: str) -> bytes:
    packing = path.suffix.lower()
    try:
        content = path.read_bytes()
        if packing == ".zip":
            return _only_member(content, path, where)
        if packing == ".zst":
            return _zstandard(content)
        unpack = {".gz": gzip.decompress, ".bz2": bz2.decompress, ".xz": lzma.decompress}.get(packing)
        return unpack(content) if unpack else content
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError, zipfile.BadZipFile, RuntimeError) as error:
        raise ConfigError(
            where, f"{path} cannot be read ({type(error).__name__}); is it there, whole, and packed as its name says?"
        ) from error


def _only_member(content: bytes, path: Path, where: str) -> bytes:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [member for member in archive.namelist() if not member.endswith("/")]
        if len(members) != 1:
            raise ConfigError(where, f"{path}: expected one file in the archive, got {len(members)}; unpack it")
        return archive.read(members[0])


def _zstandard(content: bytes) -> bytes:
    import pyarrow as pa

    with pa.CompressedInputStream(pa.BufferReader(content), "zstd") as stream:
        return bytes(stream.read())


def _decoded(content: bytes, source: FileSource, where: str) -> tuple[str, str]:
    """Return the text without its mark, and how it was decoded if not as plain UTF-8."""
    for magic, what in _FOREIGN.items():
        if content.startswith(magic):
            raise ConfigError(where, f"{source.path} {what}")
    marked = next((encoding for mark, encoding in _MARKS.items() if content.startswith(mark)), None)
    encoding = source.encoding or marked or "utf-8"
    if marked == "utf-8-sig" and codecs.lookup(encoding).name == "utf-8":
        encoding = marked
    try:
        text = content.decode(encoding)
    except UnicodeError as error:
        raise ConfigError(where, _not_decoded(content, source, encoding, error)) from None
    if "\0" in text:
        raise ConfigError(
            where,
            f"{source.path}: it holds zero bytes, as UTF-16 read for {encoding} does; say which encoding it is in, "
            f"such as {{path: {Path(source.path).name}, encoding: utf-16-le}}",
        )
    said = "" if source.encoding or not marked else " by its byte order mark"
    return text, "" if encoding == "utf-8" else f"{encoding.removesuffix('-sig')}{said}"


def _not_decoded(content: bytes, source: FileSource, encoding: str, error: UnicodeError) -> str:
    line = content.count(b"\n", 0, error.start) + 1 if isinstance(error, UnicodeDecodeError) else 1
    hint = "" if source.encoding else "; files of Excel and older systems often are cp1252, latin-1 or utf-16"
    name = Path(source.path).name
    return f"{source.path} line {line}: not {encoding}{hint}; say which, such as {{path: {name}, encoding: cp1252}}"


def _jsonl(text: str, file: str, how: str, where: str) -> Table:
    rows: list[Row] = []
    for line, content in enumerate(text.split("\n"), start=1):
        if content.strip():
            rows.append(
                Row(cells=_object(content, f"{file} line {line}", where), file=file, number=len(rows) + 1, line=line)
            )
    columns = dict.fromkeys(column for row in rows for column in row.cells)
    return Table(rows=rows, columns=tuple(columns), how=how)


def _object(content: str, place: str, where: str) -> dict[str, Cell]:
    twice: list[str] = []

    def pairs(found: list[tuple[str, object]]) -> dict[str, object]:
        made = dict(found)
        if len(made) != len(found):
            twice.append(place)
        return made

    try:
        value = json.loads(content, object_pairs_hook=pairs)
    except (ValueError, RecursionError):
        raise ConfigError(where, f"{place}: not JSON; expected one whole object on each line") from None
    if not isinstance(value, dict):
        raise ConfigError(where, f"{place}: expected an object with columns; write one object on each line")
    if twice:
        raise ConfigError(where, f"{place}: a column stands twice in an object; keep one")
    return {str(column): cell_of(cell) for column, cell in value.items()}


def _csv(text: str, delimiter: str, file: str, how: str, where: str) -> Table:
    with _long_fields():
        records = _records(text, delimiter, file, where)
        _, header = next(records, (1, []))
        _check_header(header, file, where)
        rows = [_row(header, fields, file, number, line, where) for number, (line, fields) in enumerate(records, 1)]
    parted = f"fields parted by {DELIMITERS.get(delimiter, repr(delimiter))}" if len(header) > 1 else "one column"
    return Table(rows=rows, columns=tuple(header), how=", ".join(part for part in (how, parted) if part))


def _row(header: list[str], fields: list[str], file: str, number: int, line: int, where: str) -> Row:
    if len(fields) != len(header):
        raise ConfigError(
            where,
            f"{file} row {number} (line {line}): expected as many fields as the header has, {len(header)}, got "
            f"{len(fields)}; put a field that holds the delimiter between double quotes",
        )
    return Row(cells=dict(zip(header, fields, strict=True)), file=file, number=number, line=line)


def _records(text: str, delimiter: str, file: str, where: str) -> Iterator[tuple[int, list[str]]]:
    """Yield (line on which it begins, fields) of each record; an empty line is none."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    begins = 1
    try:
        for fields in reader:
            if fields:
                yield begins, fields
            begins = reader.line_num + 1
    except csv.Error:
        ends = reader.line_num
        raise ConfigError(
            where,
            f"{file} line {ends}: not CSV, in the record that begins at line {begins}; a quote inside a quoted field "
            'is written twice ("a ""b"" c"), and one that opens a field must close it',
        ) from None


def _check_header(header: list[str], file: str, where: str) -> None:
    """Refuse two columns of one name; an unnamed one cannot be asked for, and may be there many times."""
    first: dict[str, int] = {}
    for place, column in enumerate(header, start=1):
        if column.strip() and column in first:
            raise ConfigError(
                where,
                f"{file}: columns {first[column]} and {place} of its header have one name; rename one, or take it out",
            )
        first[column] = place


def _sniffed(text: str, source: FileSource, where: str) -> str:
    """Return the delimiter that the first records agree on.

    Raises:
        ConfigError: several would do, or none of those that part the header.
    """
    widths = {delimiter: _widths(text, delimiter) for delimiter in DELIMITERS}
    parting = [delimiter for delimiter, found in widths.items() if found[:1] > [1]]
    fitting = [delimiter for delimiter in parting if len(set(widths[delimiter])) == 1]
    if not parting:
        return ","
    if len(parting) == 1:
        return parting[0]
    if len(fitting) == 1:
        return fitting[0]
    names = " and ".join(DELIMITERS[delimiter] for delimiter in fitting or parting)
    raise ConfigError(
        where,
        f"{source.path}: {names} could part its fields; say which, such as {{path: {Path(source.path).name}, "
        'delimiter: ";"}',
    )


def _widths(text: str, delimiter: str) -> list[int]:
    """Return the number of fields in each of the first records, as far as they can be read."""
    found: list[int] = []
    with _long_fields():
        try:
            for fields in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter):
                if fields:
                    found.append(len(fields))
                if len(found) > SNIFFED_ROWS:
                    break
        except csv.Error:
            pass
    return found


@contextmanager
def _long_fields() -> Generator[None]:
    """Let a field be longer than 128 KiB while a file is read: discharge letters are."""
    before = csv.field_size_limit(_LONGEST_FIELD)
    try:
        yield
    finally:
        csv.field_size_limit(before)
