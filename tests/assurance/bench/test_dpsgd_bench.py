"""The bench of DP-SGD measures what it says. No time is asserted."""

import json
from collections.abc import Mapping

import pytest
import torch

from fedcollm_secure import cli
from fedcollm_secure.assurance.bench import bench_dpsgd, dpsgd_bench, dpsgd_words
from fedcollm_secure.assurance.bench.dpsgd_step import APPROACHES, Model, memory, prepare
from fedcollm_secure.assurance.bench.dpsgd_worker import measure

TINY = Model(layers=1, width=16, tokens=4)
SECONDS = {"non_private": 0.10, "ours": 0.11, "opacus": 0.13}


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Measure nothing; return what was asked for."""
    asked: list[tuple[str, ...]] = []

    def fake(model: Mapping[str, int], *system: str) -> Mapping[str, float]:
        asked.append(system)
        return {"parameters": 64, "peak_mib": 300.0, "baseline_mib": 200.0} if system else SECONDS

    monkeypatch.setattr(dpsgd_bench, "_measure", fake)
    return asked


def test_every_model_gets_a_row_a_system_and_a_target(
    faked: list[tuple[str, ...]], capsys: pytest.CaptureFixture[str]
) -> None:
    code = cli.main(["bench", "dpsgd", "--json"])
    found = json.loads(capsys.readouterr().out)

    assert code == 0
    assert [row["system"] for row in found["rows"]] == ["non_private", "ours", "opacus"] * 3
    assert found["rows"][1]["cpu_seconds"] == {"step": 0.11}
    assert {"bench", "silos", "parameters", "dropouts", "bytes_per_parameter", "peak_mib"} <= set(found["rows"][0])
    assert [(target["limit"], target["met"]) for target in found["targets"]] == [(1.2, True)] * 3
    assert found["targets"][0]["ratio"] == pytest.approx(1.1)
    assert faked[:4] == [(), ("non_private",), ("ours",), ("opacus",)]


def test_a_missed_target_is_said_to_be_one(faked: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SECONDS, "ours", 0.13)
    found = bench_dpsgd(lambda _: None, dpsgd_bench.MODELS[:1])

    assert "MISSED 1.30 of at most 1.2: a step within 1.2 times the same without DP" in dpsgd_words(found)
    assert "met" not in dpsgd_words(found)


@pytest.mark.parametrize("approach", APPROACHES)
def test_each_approach_trains_the_adapter_alone(approach: str) -> None:
    before = torch.get_default_dtype()
    run, parameters = prepare(approach, TINY)  # type: ignore[arg-type]  # a name of APPROACHES
    run()

    assert parameters == 4 * (8 * 16 + 16 * 8)
    assert torch.get_default_dtype() is before


def test_memory_is_that_of_the_process_before_and_after() -> None:
    found = memory("ours", TINY)

    assert found.parameters == 1024
    assert min(found.peak_mib, found.baseline_mib) > 50


def test_an_unknown_approach_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of non_private, ours, opacus, got theirs"):
        measure(TINY, "theirs")
