"""The run's folder: never written over, and mended after a crash between any two writes."""

from pathlib import Path

import numpy as np
import pytest

from fedcollm_secure.errors import RunError
from fedcollm_secure.federation.run_directory import Aggregate, RunDirectory


def _complete(run: RunDirectory, number: int) -> None:
    fresh = run.begin_adapters()
    (fresh / "slm").mkdir()
    (fresh / "slm" / "weights").write_text(str(number))
    run.seal_adapters({"round": number, "line": {"round": number}})


def test_a_folder_with_files_is_never_taken(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("x")

    with pytest.raises(RunError, match="is not empty; choose another --out"):
        RunDirectory.create(tmp_path, "name: x\n")

    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_torn_line_of_metrics_is_left_out_and_replaced(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", "")
    run.append_metrics({"round": 0})
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"round": 1, "sl')

    run.append_metrics({"round": 1, "slm": {}})

    assert run.metrics() == [{"round": 0}, {"round": 1, "slm": {}}]


def test_a_sealed_round_that_the_log_closed_takes_its_place(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", "")
    _complete(run, 0)
    run.swap_adapters()
    _complete(run, 1)  # died after the log's entry, before the swap

    assert run.settle(1)["round"] == 1
    assert (run.adapters / "slm" / "weights").read_text() == "1"
    assert run.metrics() == [{"round": 1}]


def test_a_sealed_round_that_the_log_does_not_know_goes(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", "")
    _complete(run, 0)
    run.swap_adapters()
    _complete(run, 1)  # died before the log's entry

    assert run.settle(0)["round"] == 0
    assert (run.adapters / "slm" / "weights").read_text() == "0"


def test_a_swap_that_died_between_two_renames_is_finished(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", "")
    _complete(run, 0)
    run.swap_adapters()
    _complete(run, 1)
    run.adapters.rename(run.path / ".adapters.old")

    assert run.settle(1)["round"] == 1


def test_a_run_without_a_complete_round_cannot_be_resumed(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", "")
    run.begin_adapters()

    with pytest.raises(RunError, match="no complete round to resume from"):
        run.settle(0)


def test_a_kept_sum_belongs_to_its_round_only(tmp_path: Path) -> None:
    run = RunDirectory.create(tmp_path / "run", "")
    run.save_aggregate(Aggregate(round=2, adapter=np.ones(3, dtype=np.float32), facts={"total_weight": 4}))
    kept = run.aggregate(2)

    assert run.aggregate(1) is None
    assert kept is not None
    assert (kept.adapter.tolist(), kept.facts) == ([1.0, 1.0, 1.0], {"total_weight": 4})

    run.drop_aggregate()

    assert run.aggregate(2) is None
