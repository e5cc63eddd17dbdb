"""Run a comparison: every split and seed, two at a time on two cores, then one table, one figure, one page."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from fedcollm_secure.config import Config, resolved
from fedcollm_secure.errors import RunError
from fedcollm_secure.research.compare.baselines import GridPoint, run_grid_point
from fedcollm_secure.research.compare.compare_page import write_compare
from fedcollm_secure.research.compare.comparison import summarise
from fedcollm_secure.research.resumable_work import Say, run_all

Json = Mapping[str, object]


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


def _claim(out: Path, config: Config) -> None:
    """Make the folder this configuration's own."""
    mine, path = resolved(config), out / "config.yaml"
    if path.is_file() and path.read_text(encoding="utf-8") != mine:
        raise RunError(f"{out} holds the comparison of another configuration; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(mine, encoding="utf-8")
