"""Splits and holdings: no record is held twice, and who holds which depends on the seed alone."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcollm_secure.config.data import (
    ByColumn,
    ByLabel,
    Classification,
    Count,
    Data,
    Dirichlet,
    Files,
    Iid,
    Share,
    Silos,
)
from fedcollm_secure.config.source import FileSource, PackageSource
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.data import gather
from fedcollm_secure.learning.data.partition import split_dirichlet, split_iid

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
    files = Files(paths={"north": FileSource(path=str(north))})
    holdings = gather(_data(tmp_path, files, overlap="allow"), seed=1)

    assert [record.prompt for record in holdings.silos["north"]] == ["Q: t0", "Q: t1", "Q: t2", "Q: t3"]


def test_by_column_gives_each_silo_its_values(tmp_path: Path) -> None:
    holdings = gather(_data(tmp_path, ByColumn(column="site", groups={"x": ("s0",), "y": ("s1", "s2")})), seed=1)

    assert all(int(record.prompt[4:]) % 3 == 0 for record in holdings.silos["x"])


@pytest.mark.parametrize(
    ("silos", "parts", "message"),
    [
        (ByColumn(column="site", groups={"x": ("s0",), "y": ("s9",)}), {}, "no records for y"),
        (ByColumn(column="site", groups={"x": ("s0",), "y": ("s0",)}), {}, "'s0' belongs to x and to y"),
        (ByColumn(column="ward", groups={"x": ("s0",)}), {}, "no column 'ward' among its 3"),
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
