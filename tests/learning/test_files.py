"""Files as people have them: the same rows come from each kind, and a fault is told by its line and never shown."""

import bz2
import csv
import datetime as dt
import gzip
import io
import json
import lzma
import zipfile
from collections.abc import Callable, Mapping
from decimal import Decimal
from pathlib import Path

import pyarrow as pa
import pytest
from pyarrow import parquet

from fedcollm_secure.config.source import FileSource
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.data.row import Row, is_missing
from fedcollm_secure.learning.data.sources import read_rows

ROWS = [{"text": f"t{i}, Übung", "topic": "ab"[i % 2], "site": f"00{i % 3}"} for i in range(30)]
CANARY = "canaryzwxq"


def read(path: Path, **settings: str) -> list[Row]:
    return list(read_rows(FileSource(path=str(path), **settings), "data.source").rows)


def cells(rows: list[Row]) -> list[dict[str, object]]:
    return [dict(row.cells) for row in rows]


def as_csv(rows: list[dict[str, str]], delimiter: str = ",") -> str:
    text = io.StringIO(newline="")
    writer = csv.DictWriter(text, list(rows[0]), delimiter=delimiter)
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def as_jsonl(rows: list[dict[str, str]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_the_same_rows_come_from_every_kind_of_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"rows.{kind}"
    if kind == "parquet":
        parquet.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        path.write_bytes((as_csv(ROWS) if kind == "csv" else as_jsonl(ROWS)).encode())
    rows = read(path)

    assert cells(rows) == ROWS
    assert [row.number for row in rows] == list(range(1, 31))


@pytest.mark.parametrize("suffix", [".CSV", ".csv", ".tsv", ".jsonl", ".ndjson"])
@pytest.mark.parametrize(
    ("packing", "pack"),
    [
        ("", bytes),
        (".gz", gzip.compress),
        (".bz2", bz2.compress),
        (".xz", lzma.compress),
        (".zip", None),
        (".zst", None),
    ],
)
def test_packed_files_are_read(
    tmp_path: Path, suffix: str, packing: str, pack: Callable[[bytes], bytes] | None
) -> None:
    content = (as_jsonl(ROWS) if "j" in suffix else as_csv(ROWS, "\t" if "t" in suffix else ",")).encode()
    path = tmp_path / f"rows{suffix}{packing}"
    if pack is not None:
        path.write_bytes(pack(content))
    elif packing == ".zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("rows", content)
    else:
        path.write_bytes(pa.compress(content, codec="zstd", asbytes=True))

    assert cells(read(path)) == ROWS


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_a_delimiter_is_found_out_and_said(tmp_path: Path, delimiter: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_text(as_csv(ROWS, delimiter))
    table = read_rows(FileSource(path=str(path)), "data.source")

    assert cells(list(table.rows)) == ROWS
    assert "fields parted by " in table.how


def test_two_delimiters_that_would_do_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "rows.csv"
    path.write_text("a;b,c\n1;2,3\n")

    with pytest.raises(ConfigError, match="commas and semicolons could part its fields; say which"):
        read(path)
    assert cells(read(path, delimiter=";")) == [{"a": "1", "b,c": "2,3"}]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_is_read_and_said(tmp_path: Path, encoding: str) -> None:
    for name, text in (("a.csv", as_csv(ROWS)), ("a.jsonl", as_jsonl(ROWS))):
        (tmp_path / name).write_bytes(text.encode(encoding))
        table = read_rows(FileSource(path=str(tmp_path / name)), "data.source")

        assert cells(list(table.rows)) == ROWS
        assert "by its byte order mark" in table.how


@pytest.mark.parametrize("encoding", ["latin-1", "cp1252", "utf-16-le"])
def test_an_encoding_without_a_mark_is_asked_for(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "rows.csv"
    path.write_bytes(as_csv(ROWS).encode(encoding))

    with pytest.raises(ConfigError, match=r"(line 2: not utf-8; .*encoding: cp1252|zero bytes.*encoding: utf-16-le)"):
        read(path)
    assert cells(read(path, encoding=encoding)) == ROWS


def test_an_encoding_and_a_delimiter_that_are_none_are_refused() -> None:
    for settings in ({"encoding": "klingon"}, {"encoding": "hex"}, {"delimiter": ";;"}, {"delimiter": '"'}):
        with pytest.raises(ValueError, match="expected"):
            FileSource(path="a.csv", **settings)


def test_quoted_newlines_and_long_fields_are_read_and_lines_counted(tmp_path: Path) -> None:
    letter = "x" * 200_000 + "\n" + "y"
    path = tmp_path / "rows.csv"
    path.write_text(f'text,topic\n"{letter}",a\nshort,b\n\n"",c\n')
    rows = read(path)

    assert [row.cells["text"] for row in rows] == [letter, "short", ""]
    assert [(row.number, row.line) for row in rows] == [(1, 2), (2, 4), (3, 6)]
    assert csv.field_size_limit() == 131_072


def test_cells_of_other_kinds_agree_with_what_a_csv_would_hold(tmp_path: Path) -> None:
    table = pa.table(
        {
            "word": pa.array(["b", "a", "b"]).dictionary_encode(),
            "day": pa.array([dt.date(2024, 1, 31)] * 3),
            "midnight": pa.array([dt.datetime(2024, 1, 31)] * 3, pa.timestamp("ns")),
            "time": pa.array([dt.datetime(2024, 1, 31, 8, 30)] * 3, pa.timestamp("ms")),
            "price": pa.array([Decimal("10.50")] * 3),
            "count": pa.array([10, None, 12], pa.int64()).cast(pa.float64()),
            "small": pa.array([0.1] * 3, pa.float32()),
        }
    )
    parquet.write_table(table, tmp_path / "rows.parquet")
    first, second, _ = read(tmp_path / "rows.parquet")

    assert dict(first.cells) == {
        "word": "b",
        "day": "2024-01-31",
        "midnight": "2024-01-31",
        "time": "2024-01-31 08:30:00",
        "price": "10.50",
        "count": "10.0",
        "small": "0.1",
    }
    assert first.name("count") == "10"
    assert is_missing(second.cells["count"])


@pytest.mark.parametrize("cell", [None, float("nan"), "", " \t", "NaN", "null", "#N/A", [], ["a", ""], {"a": None}])
def test_what_holds_nothing_is_missing(tmp_path: Path, cell: object) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"a": cell}) + "\n")

    assert is_missing(read(path)[0].cells["a"])


@pytest.mark.parametrize("cell", ["None", "NA", "0", 0, False, ["a"], {"a": "b"}])
def test_what_holds_something_is_not(tmp_path: Path, cell: object) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"a": cell}) + "\n")

    assert not is_missing(read(path)[0].cells["a"])


FAULTS: list[tuple[str, str | bytes, str]] = [
    ("x.doc", "a", r"expected a \.csv, \.tsv, \.jsonl or \.parquet file"),
    ("x.json", "[]", r"got 'x\.json'; expected one object on each line, as \.jsonl"),
    ("x.xlsx", "a", "the sheet saved as CSV UTF-8"),
    ("x.csv", b"PK\x03\x04 a workbook", "is a workbook or an archive"),
    ("x.csv", b"PAR1 and so on", r"is Parquet, .*name it \.parquet"),
    ("x.csv", gzip.compress(b"a,b\n1,2\n", mtime=0), "is packed by gzip"),
    ("x.csv.gz", "a,b\n", "cannot be read .*packed as its name says"),
    ("x.csv.zst", "a,b\n", "cannot be read .*packed as its name says"),
    ("x.csv.zip", "a,b\n", "cannot be read .*packed as its name says"),
    ("x.csv.gz", gzip.compress(b"a,b\n1,2\n" * 99, mtime=0)[:-9], "cannot be read"),
    ("x.jsonl", f'{{"a": 1}}\n{CANARY}\n', "line 2: not JSON"),
    ("x.jsonl", f'{{"a": "{CANARY}", "a": "{CANARY}"}}\n', "line 1: a column stands twice"),
    ("x.jsonl", f'["{CANARY}"]\n', "line 1: expected an object"),
    ("x.jsonl", "[" * 100_000 + "\n", "line 1: not JSON"),
    ("x.jsonl", "\n", "expected at least one row"),
    ("x.csv", "a,b\n", "expected at least one row"),
    ("x.csv", f"a,b\n1,2\n{CANARY}\n", r"row 2 \(line 3\): expected as many fields as the header has, 2, got 1"),
    ("x.csv", f'a,b\n"one\ntwo",2\n1,2,"{CANARY}"\n', r"row 2 \(line 4\): expected as many fields .* got 3"),
    ("x.csv", f'a,b\n1,2\n"{CANARY}"x",2\n', "line 3: not CSV, in the record that begins at line 3"),
    ("x.csv", f'a,b\n1,2\n"{CANARY},2\n3,4\n5,6\n', "line 5: not CSV, in the record that begins at line 3"),
    ("x.csv", f"{CANARY},b,{CANARY}\n1,2,3\n", "columns 1 and 3 of its header have one name"),
    ("x.parquet", f"not parquet {CANARY}", "not Parquet"),
]


@pytest.mark.parametrize(("name", "content", "message"), FAULTS)
def test_a_broken_file_is_told_by_its_line_and_not_shown(
    tmp_path: Path, name: str, content: str | bytes, message: str
) -> None:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)

    with pytest.raises(ConfigError, match=message) as caught:
        read(path)
    assert CANARY not in str(caught.value)
    assert caught.value.__cause__ is None or CANARY not in str(caught.value.__cause__)


def test_unnamed_columns_may_be_many_as_a_sheet_leaves_them(tmp_path: Path) -> None:
    path = tmp_path / "x.csv"
    path.write_text("a,b,,\n1,2,,\n")

    assert read(path)[0].cells["b"] == "2"


def test_parquet_with_two_columns_of_one_name_is_refused(tmp_path: Path) -> None:
    parquet.write_table(
        pa.Table.from_arrays([pa.array(["x"]), pa.array(["y"])], names=["a", "a"]), tmp_path / "x.parquet"
    )

    with pytest.raises(ConfigError, match="two of its columns have one name"):
        read(tmp_path / "x.parquet")


def test_a_text_file_s_settings_do_not_fit_parquet(tmp_path: Path) -> None:
    parquet.write_table(pa.table({"a": ["x"]}), tmp_path / "x.parquet")

    with pytest.raises(ConfigError, match="delimiter and encoding are for text files"):
        read(tmp_path / "x.parquet", delimiter=";")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.source: no file at"):
        read(tmp_path / "absent.jsonl")


@pytest.mark.parametrize("value", ["\ud800", b"bytes", {"x": 1}])
def test_what_is_no_text_is_told_by_its_kind(value: object, tmp_path: Path) -> None:
    path = tmp_path / ("x.parquet" if isinstance(value, bytes) else "x.jsonl")
    row: Mapping[str, object] = {"a": value}
    if isinstance(value, bytes):
        parquet.write_table(pa.Table.from_pylist([row]), path)
    else:
        path.write_text(json.dumps(row) + "\n")

    with pytest.raises(ConfigError, match=r"row 1: column 'a': expected a text, got a (map|value of kind)"):
        read(path)[0].text("a")
