"""Sources, templates, splits and holdings: what is read is what was written, and faults name their row."""

import csv
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from fedcollm_secure.config.data import (
    ByColumn,
    ByLabel,
    Classification,
    Count,
    Data,
    Dirichlet,
    Files,
    FileSource,
    FreeText,
    Iid,
    MultipleChoice,
    PackageSource,
    Share,
    Silos,
)
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.data import gather
from fedcollm_secure.learning.data.partition import split_dirichlet, split_iid
from fedcollm_secure.learning.data.sources import read_rows
from fedcollm_secure.learning.data.tasks import to_records

ROWS = [{"text": f"t{i}", "topic": "ab"[i % 2], "site": f"s{i % 3}"} for i in range(30)]
TASK = Classification(prompt="Q: {text}", label="topic")


def _jsonl(path: Path, rows: list[dict[str, str]]) -> Path:
    path.write_text("".join(f"{row}\n".replace("'", '"') for row in rows))
    return path


def _data(tmp_path: Path, silos: Silos, **parts: object) -> Data:
    path = _jsonl(tmp_path / "rows.jsonl", ROWS)
    return Data(
        source=FileSource(path=str(path)),
        task=TASK,
        silos=silos,
        **{"test": Count(count=6), "auxiliary": Share(share=0.25), **parts},  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
def test_the_same_rows_come_from_every_kind_of_file(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"rows.{kind}"
    if kind == "jsonl":
        _jsonl(path, ROWS)
    elif kind == "parquet":
        parquet.write_table(pa.Table.from_pylist(ROWS), path)
    else:
        with path.open("w", newline="") as file:
            writer = csv.DictWriter(file, ["text", "topic", "site"])
            writer.writeheader()
            writer.writerows(ROWS)

    assert read_rows(FileSource(path=str(path)), "data.source") == ROWS


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.txt", "a", r"expected a \.jsonl, \.csv or \.parquet file"),
        ("x.jsonl", '{"a": 1}\nnot json\n', "line 2: not JSON"),
        ("x.jsonl", "[1]\n", "line 1: expected an object"),
        ("x.jsonl", "\n", "expected at least one row"),
        ("x.csv", "a,b\n1,2\n3\n", "row 3: expected as many fields"),
        ("x.parquet", "not parquet", "not Parquet"),
    ],
)
def test_a_broken_file_is_named_with_its_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    path = tmp_path / name
    path.write_text(content)

    with pytest.raises(ConfigError, match=message):
        read_rows(FileSource(path=str(path)), "data.source")


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"data\.source: no file at"):
        read_rows(FileSource(path=str(tmp_path / "absent.jsonl")), "data.source")


def test_classification_offers_every_label_in_order() -> None:
    record = to_records(TASK, ROWS[1:2], ["a", "b"], "x")[0]

    assert (record.prompt, record.answers, record.answer) == ("Q: t1", (" a", " b"), " b")


def test_multiple_choice_takes_a_list_or_columns() -> None:
    rows = [{"q": "2+2", "c": ["3", "4"], "x": "3", "y": "4", "a": 1}]
    listed = to_records(MultipleChoice(prompt="{q}", choices="c", answer="a"), rows, (), "x")
    columns = to_records(MultipleChoice(prompt="{q}", choices=("x", "y"), answer="a"), rows, (), "x")

    assert listed == columns
    assert listed[0].answer == " 4"


def test_free_text_has_one_answer() -> None:
    record = to_records(FreeText(prompt="{q}", answer="{a}."), [{"q": "hi", "a": "{q}"}], (), "x")[0]

    assert record.answers == (" {q}.",)  # a value is inserted as it is, never as a template


@pytest.mark.parametrize(
    ("task", "row", "message"),
    [
        (TASK, {"text": "t"}, "row 1: no column 'topic'; it has text"),
        (TASK, {"text": "t", "topic": "c"}, "label 'c' does not occur in the public data"),
        (Classification(prompt="{oops}", label="topic"), {"text": "t", "topic": "a"}, "no column 'oops'"),
        (Classification(prompt="{text", label="topic"), {"text": "t", "topic": "a"}, "template"),
        (Classification(prompt="{}", label="topic"), {"text": "t", "topic": "a"}, "plain {column} placeholders"),
        (MultipleChoice(prompt="", choices="text", answer="topic"), {"text": "t", "topic": 0}, "expected a list"),
        (MultipleChoice(prompt="", choices="c", answer="a"), {"c": ["x", "y"], "a": 2}, "index from 0 to 1, got '2'"),
        (MultipleChoice(prompt="", choices="c", answer="a"), {"c": ["x"], "a": 0}, "two choices or more"),
    ],
)
def test_a_row_that_does_not_fit_is_named(task: object, row: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        to_records(task, [row], ["a", "b"], "file")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "silos",
    [
        Iid(count=4),
        ByColumn(column="site", groups={"x": ("s0",), "y": ("s1", "s2")}),
        ByLabel(groups={"x": ("a",), "y": ("b",)}),
        Dirichlet(count=2, alpha=100.0),
    ],
)
def test_no_record_is_held_twice(tmp_path: Path, silos: Silos) -> None:
    holdings = gather(_data(tmp_path, silos), seed=1)
    parts = [*holdings.silos.values(), holdings.auxiliary, holdings.test]
    prompts = [record.prompt for part in parts for record in part]

    assert len(prompts) == len(set(prompts)) == 30
    assert (len(holdings.test), len(holdings.auxiliary)) == (6, 6)


def test_the_split_depends_on_the_seed_alone(tmp_path: Path) -> None:
    first, again, other = (gather(_data(tmp_path, Iid(count=3)), seed=seed) for seed in (1, 1, 2))

    assert first == again
    assert first.silos != other.silos


def test_one_file_per_silo(tmp_path: Path) -> None:
    north = _jsonl(tmp_path / "north.jsonl", ROWS[:4])
    holdings = gather(_data(tmp_path, Files(paths={"north": str(north)})), seed=1)

    assert [record.prompt for record in holdings.silos["north"]] == ["Q: t0", "Q: t1", "Q: t2", "Q: t3"]


def test_by_column_gives_each_silo_its_values(tmp_path: Path) -> None:
    holdings = gather(_data(tmp_path, ByColumn(column="site", groups={"x": ("s0",), "y": ("s1", "s2")})), seed=1)

    assert all(int(record.prompt[4:]) % 3 == 0 for record in holdings.silos["x"])


@pytest.mark.parametrize(
    ("silos", "parts", "message"),
    [
        (ByColumn(column="site", groups={"x": ("s0",), "y": ("s9",)}), {}, "no records for y"),
        (ByColumn(column="site", groups={"x": ("s0",), "y": ("s0",)}), {}, "'s0' belongs to x and to y"),
        (ByColumn(column="ward", groups={"x": ("s0",)}), {}, "no column 'ward'"),
        (Iid(count=100), {}, "no records for"),
        (Iid(count=2), {"test": Count(count=30)}, "expected 1 to 29 of 30 records, got 30"),
    ],
)
def test_a_split_that_cannot_be_is_refused(
    tmp_path: Path, silos: Silos, parts: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        gather(_data(tmp_path, silos, **parts), seed=1)


def test_icd10cm_brings_its_own_parts() -> None:
    task = Classification(prompt="{term}", label="specialty")
    holdings = gather(Data(source=PackageSource(name="icd10cm"), task=task, silos=Iid(count=4)), seed=1)

    assert (len(holdings.test), len(holdings.auxiliary), len(holdings.test[0].answers)) == (2500, 1000, 21)


@given(count=st.integers(1, 9), records=st.integers(1, 200), seed=st.integers(0, 99))
def test_iid_parts_differ_by_one_at_most(count: int, records: int, seed: int) -> None:
    sizes = [len(part) for part in split_iid(Iid(count=count), records, seed=seed).values()]

    assert sum(sizes) == records
    assert max(sizes) - min(sizes) <= 1


@given(alpha=st.floats(0.05, 50), seed=st.integers(0, 99))
def test_dirichlet_hands_out_every_record_once(alpha: float, seed: int) -> None:
    held = split_dirichlet(Dirichlet(count=3, alpha=alpha), ["a", "b", "c"] * 20, seed=seed)

    assert sorted(index for part in held.values() for index in part.tolist()) == list(range(60))
