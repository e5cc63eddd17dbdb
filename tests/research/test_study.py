"""The study: its points, that it goes on where it was, its means and frontier, and its page."""

import json
import re
from collections.abc import Callable, Mapping
from html import unescape
from pathlib import Path
from typing import cast

import pytest
import yaml

from fedcollm_secure import cli
from fedcollm_secure.errors import ConfigError, RunError
from fedcollm_secure.research import resumable_work
from fedcollm_secure.research.resumable_work import write_result
from fedcollm_secure.research.seed_statistics import Measured, interval, score_interval
from fedcollm_secure.research.study.frontier import frontier, groups
from fedcollm_secure.research.study.frontier_table import study_words
from fedcollm_secure.research.study.grid_point import run_point
from fedcollm_secure.research.study.study_command import study
from fedcollm_secure.research.study.study_page import write_study
from fedcollm_secure.research.study.sweep import Point, Sweep

Make = Callable[..., dict[str, object]]
ROOT = Path(__file__).parents[2]
HOSTILE = "<script>alert(1)</script>"


def dp(epsilon: float) -> dict[str, object]:
    return {"record_dp": {"epsilon": epsilon, "delta": 1e-5, "clip_norm": 1.0, "sampling_rate": 0.2}}


@pytest.fixture
def written(tree: Make, tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes a configuration and a study of it."""

    def write(**changes: object) -> Path:
        (tmp_path / "base.yaml").write_text(yaml.safe_dump(tree(rounds=1)))
        content: dict[str, object] = {
            "name": "tiny",
            "config": "base.yaml",
            "seeds": 2,
            "sweep": {"privacy": [{"non_private": {}}, dp(2.0)]},
            **changes,
        }
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump(content))
        return path

    return write


def test_points_are_all_combinations_with_the_next_seeds(written: Callable[..., Path], tmp_path: Path) -> None:
    sweep = {"privacy": [{"non_private": {}}, dp(2.0)], "factors": ["ffa", "fedavg"], "silo.steps": [1, 3]}
    points = Sweep.load(written(sweep=sweep, set={"distill.steps": 1})).points(tmp_path)

    assert len(points) == 16
    assert {point.config.seed for point in points} == {3, 4}
    assert {point.epsilon for point in points} == {None, 2.0}
    assert {point.config.silo.steps for point in points} == {1, 3}
    assert {point.config.distill.steps for point in points} == {1}
    assert {point.way for point in points} >= {
        "ffa, unsafe_plain, silo.steps = 1",
        "fedavg, unsafe_plain, silo.steps = 3",
    }
    assert len({point.path for point in points}) == 16


def test_a_control_is_the_same_combination_and_seed_without_privacy(
    written: Callable[..., Path], tmp_path: Path
) -> None:
    points = Sweep.load(written(control={"silo.steps": 7})).points(tmp_path)
    controls = [point.control for point in points if point.control is not None]

    assert len(controls) == len(points) == 4
    assert {control.epsilon for control in controls} == {None}
    assert {control.config.silo.steps for control in controls} == {7}
    assert [(c.way, c.config.seed) for c in controls] == [(p.way, p.config.seed) for p in points]
    assert len({control.path for control in controls}) == 4  # what travels by default hangs on privacy: two ways
    assert Sweep.load(written()).points(tmp_path)[0].control is None


def test_two_kinds_of_privacy_at_one_epsilon_are_not_averaged(written: Callable[..., Path], tmp_path: Path) -> None:
    wider = {"record_dp": {**cast(dict[str, object], dp(2.0)["record_dp"]), "clip_norm": 2.0}}
    with pytest.raises(ConfigError, match="got 2 for ffa, unsafe_plain at ε = 2: their means would be one"):
        Sweep.load(written(sweep={"privacy": [dp(2.0), wider], "factors": ["ffa"]})).points(tmp_path)
    swept = {"privacy": [dp(2.0)], "privacy.record_dp.clip_norm": [1.0, 2.0]}

    assert len({point.way for point in Sweep.load(written(sweep=swept)).points(tmp_path)}) == 2


def test_a_study_with_a_control_runs_it_and_shows_the_gain(
    written: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fake(point: Point, _: object) -> None:
        write_result(point.result_file, entry(point.epsilon, 0.5 + 0.1 * (point.config.silo.steps != 7), point.way))

    monkeypatch.setattr("fedcollm_secure.research.study.study_command.run_point", fake)
    monkeypatch.setattr(resumable_work.os, "cpu_count", lambda: 1)
    said: list[str] = []
    document = study(Sweep.load(written(control={"silo.steps": 7}, seeds=1)), tmp_path / "out", say=said.append)

    assert said[0] == "4 points, 0 of them done"
    assert [each["slm"] for each in cast(list[dict[str, object]], document["controls"])] == [0.5, 0.5]
    assert "10.0 % (one seed)" in study_words(document, tmp_path)
    assert "60.0 % – 70.0 % – 10.0 % –" in words((tmp_path / "out" / "study.html").read_text())


@pytest.mark.parametrize(("splits", "command"), [({}, "run"), ({"splits": {"a": {"silos": {"iid": 4}}}}, "compare")])
def test_a_configuration_is_refused_with_the_command_that_reads_it(
    tree: Make, tmp_path: Path, splits: Mapping[str, object], command: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tree(**splits)))

    with pytest.raises(ConfigError, match=f"this is a configuration .*fedcollm-secure {command} "):
        Sweep.load(path)


def test_a_point_keeps_its_folder_when_the_study_grows(written: Callable[..., Path], tmp_path: Path) -> None:
    few = Sweep.load(written(sweep={"rounds": [1]})).points(tmp_path)
    many = Sweep.load(written(sweep={"rounds": [2, 1]}, seeds=3)).points(tmp_path)

    assert {point.path for point in few} < {point.path for point in many}


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"sweeps": {}}, "sweeps: unknown key"),
        ({"seeds": 0}, "seeds: expected a whole number from 1 up, got 0"),
        ({"seeds": True}, "seeds: expected a whole number"),
        ({"sweep": [1]}, "sweep: expected a map"),
        ({"sweep": {"rounds": 1}}, r"sweep\.rounds: expected a list of values, got 1"),
        ({"config": None}, "config: expected a text"),
        ({"sweep": {"rounds": [1, 0]}}, "rounds: expected 1 or more"),
        ({"sweep": {"silo.stepps": [1]}}, r"silo\.stepps: unknown key"),
        ({"control": [1]}, "control: expected a map"),
        ({"control": {"silo.stepps": 1}}, r"silo\.stepps: unknown key"),
    ],
)
def test_a_bad_study_is_refused_before_anything_starts(
    written: Callable[..., Path], tmp_path: Path, changes: dict[str, object], match: str
) -> None:
    path = written(**changes)

    with pytest.raises(ConfigError, match=match):
        study(Sweep.load(path), tmp_path / "out", say=lambda _: None)
    assert not (tmp_path / "out").exists()


def test_a_study_writes_its_document_and_page(
    written: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resumable_work.os, "cpu_count", lambda: 1)
    out = tmp_path / "out"
    path = written(seeds=1)
    code = cli.main(["study", str(path), "--out", str(out), "--json"])
    found = json.loads(capsys.readouterr().out)

    assert code == 0
    assert [(each["epsilon"], each["seed"]) for each in found["points"]] == [(None, 3), (2.0, 3)]
    assert all({"factors", "aggregation", "slm", "llm", "seconds", "bytes"} <= set(each) for each in found["points"])
    assert [group["slm"]["seeds"] for group in found["groups"]] == [1, 1]
    assert found["frontier"]
    assert json.loads((out / "study.json").read_text()) == found
    assert "All combinations" in (out / "study.html").read_text()
    assert "ffa, unsafe_plain" in study_words(found, out)

    # Asked again, nothing is run: a point that would train fails.
    monkeypatch.setattr("fedcollm_secure.research.study.grid_point.run_prepared", None)
    assert cli.main(["study", str(path), "--out", str(out), "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == found


def test_an_interrupted_point_goes_on(
    written: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (point, _) = Sweep.load(written(sweep={"rounds": [2]})).points(tmp_path)
    calls: list[tuple[str, bool]] = []

    def fake(prepared: object, out: Path, *, resuming: bool, show: object) -> Mapping[str, object]:
        calls.append((out.name, resuming))
        if resuming:
            raise RunError("it died before round 0 was scored")
        gained = {"metric": "accuracy", "from": 0.3, "to": 0.5}
        return {"gained": {"slm": gained, "llm": gained}, "seconds": {"train": 1.0}, "bytes": {"up": 1, "down": 2}}

    monkeypatch.setattr("fedcollm_secure.research.study.grid_point.run_prepared", fake)
    monkeypatch.setattr("fedcollm_secure.research.study.grid_point.answers_of", lambda *_: {})
    (point.path / "run").mkdir(parents=True)
    (point.path / "run" / "config.yaml").write_text("")
    run_point(point, lambda _: None)

    assert calls == [("run", True), ("run-1", False)]
    assert json.loads(point.result_file.read_text())["bytes"] == 3


def entry(epsilon: float | None, slm: float, way: str = "ffa, masked", seed: int = 1) -> dict[str, object]:
    factors, aggregation = way.split(", ")
    return {
        "epsilon": epsilon,
        "factors": factors,
        "aggregation": aggregation,
        "seed": seed,
        "slm": slm,
        "llm": slm + 0.1,
        "seconds": 10.0,
        "bytes": 2_000_000,
        "metric": "accuracy",
        "way": way,
    }


def test_a_group_is_a_mean_with_its_interval() -> None:
    (group,) = groups([entry(1.0, 0.59, seed=1), entry(1.0, 0.61, seed=2)])
    score = group["slm"]

    assert isinstance(score, dict)
    assert (score["mean"], score["seeds"]) == (0.6, 2)
    assert score["ci95"] == pytest.approx([0.6 - 12.7062 * 0.01, 0.6 + 12.7062 * 0.01], abs=1e-4)


@pytest.mark.parametrize(
    ("values", "metric", "ends"),
    [
        ([0.99, 1.0], "accuracy", (None, 1.0)),
        ([0.0, 0.01], "exact_match", (0.0, None)),
        ([1.0, 1.5], "perplexity", (1.0, None)),
    ],
)
def test_an_interval_of_a_score_stays_on_its_scale(
    values: list[float], metric: str, ends: tuple[float | None, float | None]
) -> None:
    scores = [Measured(score=value) for value in values]
    free, cut = interval(scores).ci95, score_interval(scores, metric).ci95
    assert free is not None

    assert cut == tuple(own if end is None else end for own, end in zip(free, ends, strict=True))
    assert cut != free


def test_word_counts_stand_beside_every_point(tmp_path: Path) -> None:
    points = [{**entry(1.0, 0.5), "control": entry(None, 0.45), "counts": 0.6}, entry(None, 0.6)]
    (of_counts, without) = sorted(groups(points), key=lambda group: group["epsilon"] is None)

    assert cast(dict[str, object], of_counts["counts"])["mean"] == 0.6
    assert "counts" not in without
    page = page_of([points[0]], tmp_path)
    assert "gain over the control" in page
    assert "5.0 % – 60.0 %" in words(page)


def test_a_gain_over_the_control_is_paired_by_seed() -> None:
    points = [
        {**entry(1.0, 0.5, seed=1), "control": entry(None, 0.45)},
        {**entry(1.0, 0.7, seed=2), "control": entry(None, 0.65)},
    ]
    (group,) = groups(points)

    assert group["over_control"] == {"mean": 0.05, "ci95": [0.05, 0.05], "seeds": 2}
    assert cast(dict[str, object], group["control"])["mean"] == 0.55
    assert "over_control" not in groups([entry(1.0, 0.5)])[0]


def test_the_frontier_leaves_out_what_another_beats() -> None:
    found = groups(
        [
            entry(1.0, 0.5),
            entry(1.0, 0.6, "fedavg, masked"),
            entry(8.0, 0.55),
            entry(8.0, 0.7, "fedavg, masked"),
            entry(None, 0.7),
        ]
    )
    best = [(group["way"], group["epsilon"]) for group in frontier(found)]

    assert best == [("fedavg, masked", 1.0), ("fedavg, masked", 8.0)]


def test_a_lower_perplexity_is_better() -> None:
    found = groups([{**entry(1.0, 9.0), "metric": "perplexity"}, {**entry(8.0, 5.0), "metric": "perplexity"}])

    assert [group["epsilon"] for group in frontier(found)] == [1.0, 8.0]


def page_of(points: list[dict[str, object]], tmp_path: Path, name: str = "frontier") -> str:
    found = groups(points)
    document = {"name": name, "points": points, "groups": found, "frontier": frontier(found)}
    return write_study(document, tmp_path / "study.html").read_text(encoding="utf-8")


def words(page: str) -> str:
    body = re.sub(r"<style>.*?</style>|<svg.*?</svg>", " ", page, flags=re.DOTALL)
    return re.sub(r"\s+", " ", unescape(re.sub("<[^>]*>", " ", body)))


def test_the_page_shows_utility_with_intervals_against_epsilon_bytes_and_seconds(tmp_path: Path) -> None:
    page = page_of([entry(1.0, 0.5), entry(1.0, 0.51, seed=2), entry(None, 0.6), entry(None, 0.61, seed=2)], tmp_path)
    names = re.findall(r'\bid="([^"]+)"', page)

    assert page.count("<svg") == page.count('role="img"') == 4
    assert "ffa, masked 1 50.5 % 44.1 – 56.9 % 60.5 % 54.1 – 66.9 % – – – 10 s 2.0 MB 2" in words(page)
    assert "Small model against ε. ffa, masked, ε 1: 50.5 %; ffa, masked, ε ∞: 60.5 %" in unescape(page)
    assert len(names) == len(set(names))


def test_the_page_needs_nothing_but_itself_and_escapes_what_it_is_given(tmp_path: Path) -> None:
    page = page_of([entry(1.0, 0.5)], tmp_path, HOSTILE)

    assert "<script" not in page
    assert HOSTILE in words(page)
    assert not re.search(r"https?:|@import|\ssrc=|url\((?!#)", page)


def test_an_empty_study_is_a_page_and_a_wrong_shape_is_named(tmp_path: Path) -> None:
    assert "<svg" not in page_of([], tmp_path)
    with pytest.raises(RunError, match=r"groups\[0\] must hold way, seconds and bytes"):
        write_study({"groups": [{"way": "x"}]}, tmp_path / "study.html")


def test_the_embedded_frontier_is_five_epsilons_and_three_seeds(tmp_path: Path) -> None:
    points = Sweep.load(ROOT / "examples" / "frontier.yaml").points(tmp_path)

    assert {point.epsilon for point in points} == {None, 0.5, 1.0, 3.0, 8.0}
    assert len({point.config.seed for point in points}) == 3
    assert {point.config.what_travels for point in points} == {"ffa", "fedavg"}
    assert len({point.control.path for point in points if point.control is not None}) == 6
