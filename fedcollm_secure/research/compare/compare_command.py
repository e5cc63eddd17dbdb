"""Run a comparison: every split and seed, two at a time on two cores, then one table, one figure, one page."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from fedcollm_secure.config import Config, resolved
from fedcollm_secure.errors import RunError
from fedcollm_secure.research.compare.baselines import GridPoint, run_grid_point
from fedcollm_secure.research.compare.compare_page import write_compare
from fedcollm_secure.research.resumable_work import Say, run_all
from fedcollm_secure.research.seed_statistics import paired, score_interval

Json = Mapping[str, object]
Scores = dict[tuple[str, str, str], dict[int, float]]
"""(split, model, method) → seed → main score."""

PAIRS = (
    ("slm", "fedcollm", "fedavg"),
    ("slm", "fedcollm", "fedavg_ce"),
    ("slm", "fedcollm", "one_way"),
    ("slm", "fedcollm", "standalone"),
    ("slm", "fedcollm", "counts"),
    ("llm", "fedcollm", "server_only"),
    ("llm", "fedcollm", "centralized"),
)


def compare(config: Config, out: Path, *, seeds: int, say: Say) -> Json:
    """Run what is missing in `out` and return the comparison; called again, with more seeds perhaps, it goes on.

    Raises:
        RunError: `out` holds another configuration's comparison.
        ValueError: fewer than one seed.
    """
    if seeds < 1:
        raise ValueError(f"seeds: expected 1 or more, got {seeds}")
    _claim(out, config)
    points = make_grid(config, out, seeds)
    run_all([point for point in points if point.missing], run_grid_point, say)
    document = {"name": config.name, **summarise(points)}
    (out / "compare.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    write_compare(document, out / "compare.html")
    return document


def make_grid(config: Config, out: Path, seeds: int) -> list[GridPoint]:
    """Return one point per split and seed; seed N is `config.seed` + N."""
    splits = config.splits or {}
    points: list[GridPoint] = []
    for name in splits or ["data"]:
        data = config.data
        if name in splits:
            data = replace(data, silos=splits[name].silos, auxiliary=splits[name].auxiliary)
        for number in range(seeds):
            seed = config.seed + number
            points.append(
                GridPoint(split=name, seed=seed, folder=out, config=replace(config, seed=seed, data=data, splits=None))
            )
    return points


def summarise(points: list[GridPoint]) -> Json:
    """Return rows, paired gains and the silos' gains of finished points."""
    scores, silos = _collect(points)
    metric = _metric(points[0])
    rows = [
        {"split": split, "model": model, "method": method, **score_interval(list(values.values()), metric).as_json()}
        for (split, model, method), values in scores.items()
    ]
    gains = [
        {"split": split, "model": model, "better": better, "than": than, **paired(a, b).as_json()}
        for split in dict.fromkeys(point.split for point in points)
        for model, better, than in PAIRS
        if (a := scores.get((split, model, better))) and (b := scores.get((split, model, than)))
    ]
    silo_gains = [
        {"split": split, "silo": name, **paired(scores[split, "slm", "fedcollm"], alone).as_json()}
        for (split, name), alone in silos.items()
    ]
    return {"metric": metric, "rows": rows, "gains": gains, "silo_gains": silo_gains}


def _collect(points: list[GridPoint]) -> tuple[Scores, dict[tuple[str, str], dict[int, float]]]:
    scores: Scores = {}
    silos: dict[tuple[str, str], dict[int, float]] = {}
    for point in points:
        for method in ("zero_shot", "standalone", "fedavg", "fedavg_ce", "one_way", "fedcollm", "centralized"):
            result = _read(point, method)
            for model in ("slm", "llm"):
                if model in result:
                    name = "server_only" if (model, method) == ("llm", "fedavg_ce") else method
                    scores.setdefault((point.split, model, name), {})[point.seed] = _main(result[model])
            for silo, alone in cast(Mapping[str, object], result.get("silos", {})).items():
                silos.setdefault((point.split, silo), {})[point.seed] = _main(alone)
    return scores, silos


def _read(point: GridPoint, method: str) -> Json:
    return cast(Json, json.loads(point.result_file(method).read_text(encoding="utf-8")))


def _main(scores: object) -> float:
    return next(iter(cast(Mapping[str, float], scores).values()))


def _metric(point: GridPoint) -> str:
    return next(iter(cast(Mapping[str, float], _read(point, "zero_shot")["slm"])))


def _claim(out: Path, config: Config) -> None:
    """Make the folder this configuration's own."""
    mine, path = resolved(config), out / "config.yaml"
    if path.is_file() and path.read_text(encoding="utf-8") != mine:
        raise RunError(f"{out} holds the comparison of another configuration; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(mine, encoding="utf-8")
