"""A comparison as a table for a person: every method, the paired gains, and what each silo gained."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

Json = Mapping[str, object]


def compare_words(found: Json, out: Path) -> str:
    """Show the comparison as a table with paired gains."""
    lines: list[str] = []
    rows = cast(Sequence[Json], found["rows"])
    for split, model in dict.fromkeys((row["split"], row["model"]) for row in rows):
        lines += [f"{str(model).upper()}, {split} split ({found['metric']})"]
        lines += [
            f"  {row['method']:<12} {_interval(row)}{_apart(row)}"
            for row in rows
            if (row["split"], row["model"]) == (split, model)
        ]
        lines += [
            f"  {row['better']} over {row['than']}: {_interval(row, signed=True)}"
            for row in cast(Sequence[Json], found["gains"])
            if (row["split"], row["model"]) == (split, model)
        ]
        lines += [
            f"  {row['silo']} over its own standalone model: {_interval(row, signed=True)}"
            for row in cast(Sequence[Json], found["silo_gains"])
            if row["split"] == split and model == "slm"
        ]
    lines += [
        f"{test['records']} test records in the {test['split']} split; apart: the {test['apart']} that no silo's "
        "record is near (same words but for one)"
        for test in cast(Sequence[Json], found["tests"])
    ]
    lines += [f"Page: {out / 'compare.html'}"]
    return "\n".join(lines)


def _apart(row: Json) -> str:
    return f"; apart {100 * cast(float, cast(Json, row['apart'])['mean']):.2f}" if "apart" in row else ""


def _interval(row: Json, *, signed: bool = False) -> str:
    mean, bounds = 100 * cast(float, row["mean"]), cast(Sequence[float] | None, row["ci95"])
    text = f"{mean:+.2f}" if signed else f"{mean:.2f}"
    if bounds is None:
        return f"{text} (one seed)"
    return f"{text} [{100 * bounds[0]:.2f}, {100 * bounds[1]:.2f}], {row['seeds']} seeds"
