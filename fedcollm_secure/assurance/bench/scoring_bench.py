"""Measure how a configuration's test is scored, with each of its models in a process of its own."""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from fedcollm_secure.assurance.bench.measuring_process import Say, printed_by

Json = Mapping[str, object]
MOST_READ, MOST_PADDED = 1.1, 1.15


def bench_scoring(config: Path, overrides: Sequence[str], say: Say) -> Json:
    """Return the document: a row a model, and the targets. Raises: BenchError."""
    rows: list[Json] = []
    for side in ("llm", "slm"):
        rows.append(_row(side, _measure(config, side, overrides)))
        say(f"{side}: {rows[-1]['real']:,} tokens read, {_score_seconds(rows[-1]):.3g} s CPU")
    return {"rows": rows, "targets": [target for row in rows for target in _targets(row)], "missing": []}


def scoring_words(document: Json) -> str:
    """Show every row, then every target."""
    lines = ["model  records  answers       read  prompt once  per answer    padded  passes  CPU s  peak MiB (before)"]
    for row in cast(Sequence[Mapping[str, float]], document["rows"]):
        lines.append(
            f"{row['system']:<5}  {row['records']:>7,}  {row['answers']:>7,}  {row['real']:>9,}  "
            f"{row['prompt_once']:>11,}  {row['per_answer']:>10,}  {row['padded']:>8,}  {row['passes']:>6,}  "
            f"{_score_seconds(row):>5.1f}  {row['peak_mib']:>8.0f} ({row['baseline_mib']:.0f})"
        )
    lines += ["", "Targets:"]
    for target in cast(Sequence[Json], document["targets"]):
        met = "met   " if target["met"] else "MISSED"
        lines.append(f"  {met} {target['ratio']:.2f} of at most {target['limit']:g}: {target['target']}")
    return "\n".join(lines)


def _measure(config: Path, side: str, overrides: Sequence[str]) -> Mapping[str, object]:
    module = "fedcollm_secure.assurance.bench.scoring_worker"
    return cast(Json, json.loads(printed_by([sys.executable, "-m", module, str(config), side, *overrides])))


def _row(side: str, measured: Json) -> Json:
    return {"bench": "scoring", "system": side, "silos": 0, "dropouts": 0, "bytes_per_parameter": 0.0, **measured}


def _targets(row: Json) -> list[Json]:
    real, padded, once = (cast(int, row[key]) for key in ("real", "padded", "prompt_once"))
    found = (
        (f"{row['system']}: tokens read, each prompt once", real / once, MOST_READ),
        (f"{row['system']}: tokens with padding, over real ones", padded / real, MOST_PADDED),
    )
    return [
        {"target": what, "model": row["system"], "ratio": ratio, "limit": limit, "met": ratio <= limit}
        for what, ratio, limit in found
    ]


def _score_seconds(row: Mapping[str, object]) -> float:
    return cast(Mapping[str, float], row["cpu_seconds"])["score"]
