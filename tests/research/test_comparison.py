"""A comparison holds each method against the control and the word counts, on all test records and on those apart."""

from pathlib import Path
from typing import Any, cast

from fedcollm_secure.config import Config, parse
from fedcollm_secure.research.compare.baselines import METHODS, TEST_SET, Baselines, GridPoint, run_grid_point
from fedcollm_secure.research.compare.comparison import summarise
from fedcollm_secure.research.compare.comparison_table import compare_words
from fedcollm_secure.research.resumable_work import write_result

RIGHT = {
    "zero_shot": 0,
    "fedavg": 1,
    "fedavg_ce": 1,
    "one_way": 2,
    "fedcollm": 3,
    "control": 1,
    "counts": 2,
    "with_counts": 3,
}


def finished(folder: Path, seed: int) -> GridPoint:
    """Write results in which a method answers the first so many of four test records right."""
    point = GridPoint(split="data", seed=seed, folder=folder, config=cast(Config, None))
    write_result(point.result_file(TEST_SET), {"digest": "ab" * 32, "apart": [False, True, True, False]})
    for method, right in RIGHT.items():
        shares = [1.0] * right + [0.0] * (4 - right)
        models = ("slm",) if method in ("fedavg", "one_way", "counts") else ("slm", "llm")
        scores = {model: {"accuracy": right / 4} for model in models}
        write_result(point.result_file(method), {**scores, "by_record": dict.fromkeys(models, shares)})
    return point


def test_every_method_is_in_the_table_with_its_score_on_records_that_are_apart(tmp_path: Path) -> None:
    found = summarise([finished(tmp_path, seed) for seed in (1, 2)])
    rows = {(row["model"], row["method"]): row for row in cast(list[dict[str, Any]], found["rows"])}

    assert {method for model, method in rows if model == "slm"} == RIGHT.keys()
    assert rows["slm", "fedcollm"]["mean"] == 0.75
    assert rows["slm", "fedcollm"]["apart"]["mean"] == 1.0
    assert rows["slm", "counts"]["apart"]["mean"] == 0.5
    assert found["tests"] == [{"split": "data", "records": 4, "apart": 2}]
    words = compare_words(found, tmp_path)
    assert "counts" in words
    assert "4 test records in the data split; apart: the 2" in words


def test_both_models_are_held_against_the_control_and_the_counts(tmp_path: Path) -> None:
    found = summarise([finished(tmp_path, seed) for seed in (1, 2)])
    gains = {(gain["model"], gain["than"]): gain["mean"] for gain in cast(list[dict[str, Any]], found["gains"])}

    assert gains["slm", "control"] == gains["llm", "control"] == 0.5
    assert gains["slm", "counts"] == gains["llm", "counts"] == 0.25
    assert gains["llm", "server_only"] == 0.5


def test_one_point_computes_every_method_once(tree: Any, tmp_path: Path) -> None:
    config = parse(tree(rounds=1))
    point = GridPoint(split="data", seed=3, folder=tmp_path, config=config)
    said: list[str] = []
    run_grid_point(point, said.append)

    assert not point.missing
    assert len(said) == len(METHODS)
    found = summarise([point])
    control = next(row for row in cast(list[dict[str, Any]], found["rows"]) if row["method"] == "control")
    assert 0 <= control["mean"] <= 1


def test_a_control_ends_where_no_silo_taught(tree: Any, tmp_path: Path) -> None:
    settings = tree(rounds=1, distill={**tree()["distill"], "steps": 0})
    baselines = Baselines(GridPoint(split="data", seed=3, folder=tmp_path, config=parse(settings)))

    assert baselines.run("control") == baselines.run("zero_shot")
