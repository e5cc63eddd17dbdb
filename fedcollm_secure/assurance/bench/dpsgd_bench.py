"""Run the measurements of DP-SGD and make rows, targets and words of them; nothing heavy is imported here."""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import cast

from fedcollm_secure.assurance.bench.measuring_process import Say, printed_by

MODELS = (
    {"layers": 3, "width": 128, "tokens": 24},
    {"layers": 3, "width": 128, "tokens": 96},
    {"layers": 4, "width": 512, "tokens": 24},
)
"""The embedded small model's shape with records as short as its own and four times as long, and a wider one."""
SYSTEMS = ("non_private", "ours", "opacus")
LIMIT = 1.2
Json = Mapping[str, object]


def bench_dpsgd(say: Say, models: Sequence[Mapping[str, int]] = MODELS) -> Json:
    """Return the document: a row for each model and system, and the target. Raises: BenchError."""
    rows: list[Json] = []
    for model in models:
        seconds = _measure(model)
        for system in SYSTEMS:
            rows.append(_row(model, system, seconds[system], _measure(model, system)))
            say(f"{system}, {_name(model)}: {seconds[system]:.3f} s CPU a step")
    return {"rows": rows, "targets": targets(rows), "missing": []}


def targets(rows: Sequence[Json]) -> list[Json]:
    """Return for each model our step over the step without differential privacy, of one run."""
    found: list[Json] = []
    for model in dict.fromkeys(_name(row) for row in rows):
        step = {str(row["system"]): _seconds(row) for row in rows if _name(row) == model}
        ratio = step["ours"] / step["non_private"]
        what = f"a step within {LIMIT:g} times the same without DP"
        found.append({"target": what, "model": model, "ratio": ratio, "limit": LIMIT, "met": ratio <= LIMIT})
    return found


def dpsgd_words(document: Json) -> str:
    """Show every row with its ratio to the step without DP, then every target."""
    rows = cast(Sequence[Json], document["rows"])
    plain = {_name(row): _seconds(row) for row in rows if row["system"] == "non_private"}
    lines = ["model                      system       CPU ms a step  ratio  peak MiB (before)"]
    for row in rows:
        seconds = _seconds(row)
        lines.append(
            f"{_name(row):<25}  {row['system']:<11}  {1000 * seconds:>13.1f}  {seconds / plain[_name(row)]:>5.2f}  "
            f"{row['peak_mib']:>8.0f} ({row['baseline_mib']:.0f})"
        )
    lines += ["", "Targets, as ratios of this run:"]
    for target in cast(Sequence[Json], document["targets"]):
        met = "met   " if target["met"] else "MISSED"
        lines.append(
            f"  {met} {target['ratio']:.2f} of at most {target['limit']:g}: {target['target']} ({target['model']})"
        )
    return "\n".join(lines)


def _measure(model: Mapping[str, int], *system: str) -> Mapping[str, float]:
    module = "fedcollm_secure.assurance.bench.dpsgd_worker"
    printed = printed_by([sys.executable, "-m", module, json.dumps(dict(model)), *system])
    return cast(Mapping[str, float], json.loads(printed))


def _row(model: Mapping[str, int], system: str, seconds: float, memory: Mapping[str, float]) -> Json:
    return {
        "bench": "dpsgd",
        "system": system,
        "silos": 1,
        "dropouts": 0,
        "cpu_seconds": {"step": seconds},
        "bytes_per_parameter": 0.0,  # nothing is sent
        **model,
        **memory,
    }


def _name(row: Mapping[str, object]) -> str:
    return f"{row['layers']} × {row['width']}, {row['tokens']} tokens"


def _seconds(row: Json) -> float:
    return cast(Mapping[str, float], row["cpu_seconds"])["step"]
