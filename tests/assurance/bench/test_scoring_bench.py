"""The bench of scoring counts what a model reads. No time is asserted."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from fedcollm_secure import cli
from fedcollm_secure.assurance.bench import bench_scoring, scoring_bench, scoring_words
from fedcollm_secure.assurance.bench.scoring_worker import measure
from fedcollm_secure.config import parse

Make = Callable[..., dict[str, object]]


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, tree: Make, tmp_path: Path) -> Path:
    """Measure in this process; return a configuration's file."""

    def inside(config: Path, side: str, overrides: Sequence[str]) -> Mapping[str, object]:
        assert overrides == ["evaluate.tokens_per_batch=64"]
        return measure(parse(yaml.safe_load(config.read_text())), side)

    monkeypatch.setattr(scoring_bench, "_measure", inside)
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(tree()), encoding="utf-8")
    return file


def test_each_model_gets_a_row_with_what_it_read(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["bench", "scoring", "--config", str(here), "--set", "evaluate.tokens_per_batch=64", "--json"])
    found = json.loads(capsys.readouterr().out)
    llm, slm = found["rows"]

    assert code == 0
    assert [row["system"] for row in (llm, slm)] == ["llm", "slm"]
    assert (llm["records"], llm["answers"]) == (15, 45)
    # "note : a b" is four tokens and every label is one: each distinct prompt is read once.
    assert llm["real"] == slm["real"] == llm["prompt_once"] < llm["per_answer"] / 2.9
    assert llm["padded"] >= llm["real"]
    assert llm["peak_mib"] >= llm["baseline_mib"] > 0
    assert {"bench", "silos", "parameters", "dropouts", "bytes_per_parameter", "cpu_seconds"} <= set(llm)
    assert [target["met"] for target in found["targets"]] == [True] * 4


def test_a_missed_target_is_said_to_be_one(here: Path) -> None:
    found = bench_scoring(here, ["evaluate.tokens_per_batch=64"], lambda _: None)
    rows = [{**row, "real": 10 * row["real"]} for row in found["rows"]]  # type: ignore[attr-defined]
    missed = [target for row in rows for target in scoring_bench._targets(row)]

    assert "MISSED 10.00 of at most 1.1: slm: tokens read, each prompt once" in scoring_words(
        {**found, "targets": missed}
    )
    assert "MISSED" not in scoring_words(found)


def test_without_a_configuration_there_is_nothing_to_score(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "scoring"]) == 2
    assert "bench scoring --config FILE" in capsys.readouterr().err
