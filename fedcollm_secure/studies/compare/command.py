"""All cells, two at a time where there are two cores, then one table, one figure, one page."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

from fedcollm_secure.config import Config, resolved
from fedcollm_secure.errors import RunError
from fedcollm_secure.studies.cells import Say, run_all
from fedcollm_secure.studies.compare.cell import Cell, run_cell
from fedcollm_secure.studies.compare.statistics import interval, paired
from fedcollm_secure.studies.report import write_compare

Json = Mapping[str, object]
Scores = dict[tuple[str, str, str], dict[int, float]]
"""(split, model, method) → seed → main score."""

PAIRS = (
    ("slm", "fedcollm", "fedavg"),
    ("slm", "fedcollm", "fedavg_ce"),
    ("slm", "fedcollm", "one_way"),
    ("slm", "fedcollm", "standalone"),
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
    cells = make_cells(config, out, seeds)
    run_all([cell for cell in cells if cell.missing], run_cell, say)
    document = {"name": config.name, **summarise(cells)}
    (out / "compare.json").write_text(json.dumps(document, indent=2) + "\n", encoding="utf-8")
    write_compare(document, out / "compare.html")
    return document


def make_cells(config: Config, out: Path, seeds: int) -> list[Cell]:
    """Return one cell per split and seed; seed N is `config.seed` + N."""
    splits = config.splits or {}
    cells: list[Cell] = []
    for name in splits or ["data"]:
        data = config.data
        if name in splits:
            data = replace(data, silos=splits[name].silos, auxiliary=splits[name].auxiliary)
        for number in range(seeds):
            seed = config.seed + number
            cells.append(
                Cell(split=name, seed=seed, folder=out, config=replace(config, seed=seed, data=data, splits=None))
            )
    return cells


def summarise(cells: list[Cell]) -> Json:
    """Return rows, paired gains and the silos' gains of finished cells."""
    scores, silos = _collect(cells)
    rows = [
        {"split": split, "model": model, "method": method, **interval(list(values.values())).as_json()}
        for (split, model, method), values in scores.items()
    ]
    gains = [
        {"split": split, "model": model, "better": better, "than": than, **paired(a, b).as_json()}
        for split in dict.fromkeys(cell.split for cell in cells)
        for model, better, than in PAIRS
        if (a := scores.get((split, model, better))) and (b := scores.get((split, model, than)))
    ]
    silo_gains = [
        {"split": split, "silo": name, **paired(scores[split, "slm", "fedcollm"], alone).as_json()}
        for (split, name), alone in silos.items()
    ]
    return {"metric": _metric(cells[0]), "rows": rows, "gains": gains, "silo_gains": silo_gains}


def _collect(cells: list[Cell]) -> tuple[Scores, dict[tuple[str, str], dict[int, float]]]:
    scores: Scores = {}
    silos: dict[tuple[str, str], dict[int, float]] = {}
    for cell in cells:
        for method in ("zero_shot", "standalone", "fedavg", "fedavg_ce", "one_way", "fedcollm", "centralized"):
            result = _read(cell, method)
            for model in ("slm", "llm"):
                if model in result:
                    name = "server_only" if (model, method) == ("llm", "fedavg_ce") else method
                    scores.setdefault((cell.split, model, name), {})[cell.seed] = _main(result[model])
            for silo, alone in cast(Mapping[str, object], result.get("silos", {})).items():
                silos.setdefault((cell.split, silo), {})[cell.seed] = _main(alone)
    return scores, silos


def _read(cell: Cell, method: str) -> Json:
    return cast(Json, json.loads(cell.result_file(method).read_text(encoding="utf-8")))


def _main(scores: object) -> float:
    return next(iter(cast(Mapping[str, float], scores).values()))


def _metric(cell: Cell) -> str:
    return next(iter(cast(Mapping[str, float], _read(cell, "zero_shot")["slm"])))


def _claim(out: Path, config: Config) -> None:
    """Make the folder this configuration's own."""
    mine, path = resolved(config), out / "config.yaml"
    if path.is_file() and path.read_text(encoding="utf-8") != mine:
        raise RunError(f"{out} holds the comparison of another configuration; choose another --out")
    out.mkdir(parents=True, exist_ok=True)
    path.write_text(mine, encoding="utf-8")
