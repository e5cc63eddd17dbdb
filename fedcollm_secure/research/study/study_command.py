"""Run a study: all its points, two at a time where there are two cores, then one document, one page."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from fedcollm_secure.research.resumable_work import Say, run_all
from fedcollm_secure.research.study.frontier import frontier, groups
from fedcollm_secure.research.study.grid_point import run_point
from fedcollm_secure.research.study.study_page import write_study
from fedcollm_secure.research.study.sweep import Point, Sweep

Json = Mapping[str, object]


def study(sweep: Sweep, out: Path, *, say: Say) -> Json:
    """Run what is missing in `out` and return the study; called again, with more values perhaps, it goes on.

    Raises:
        ConfigError: a point cannot be read; nothing was started.
    """
    points = sweep.points(out / "points")
    controls = {point.control.path: point.control for point in points if point.control is not None}
    wanted = [*points, *controls.values()]
    missing = [point for point in wanted if not point.result_file.is_file()]
    say(f"{len(wanted)} points, {len(wanted) - len(missing)} of them done")
    run_all(missing, run_point, say)
    results = [_read(point) for point in points]
    found = groups(results)
    lines = [_line(result) for result in results]
    document: Json = {"name": sweep.name, "points": lines, "groups": found, "frontier": frontier(found)}
    if controls:
        document = {**document, "controls": [_line(_read(point)) for point in controls.values()]}
    (out / "study.json").write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    write_study(document, out / "study.html")
    return document


def _read(point: Point) -> Json:
    """Return the point's result, with its control's."""
    result = cast(Json, json.loads(point.result_file.read_text(encoding="utf-8")))
    return result if point.control is None else {**result, "control": _read(point.control)}


def _line(result: Json) -> Json:
    """Return what the document says of a point: all but the answers to each test record."""
    line = {key: value for key, value in result.items() if key not in ("by_record", "test")}
    return {**line, "control": cast(Json, line["control"])["slm"]} if "control" in line else line
