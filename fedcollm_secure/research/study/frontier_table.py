"""A study's table for a person: every combination, with a star where no other beats it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from fedcollm_secure.presentation import number_text

Json = Mapping[str, object]


def study_words(document: Json, out: Path) -> str:
    """Show each combination, with a star where no other beats it."""
    best = cast(Sequence[Json], document["frontier"])
    rows = [_row(group, group in best) for group in cast(Sequence[Json], document["groups"])]
    header = ("", "way", "ε", "SLM", "over control", "counts", "LLM", "seconds", "bytes")
    widths = [max(len(row[place]) for row in [header, *rows]) for place in range(len(header))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [header, *rows]]
    return "\n".join([*lines, "* no other has at most this ε and a better SLM", f"Page: {out / 'study.html'}"])


def _row(group: Json, best: bool) -> tuple[str, ...]:
    metric, epsilon = cast(str, group["metric"]), cast(float | None, group["epsilon"])
    return (
        "*" if best else " ",
        cast(str, group["way"]),
        "∞" if epsilon is None else f"{epsilon:g}",
        _score(cast(Json, group["slm"]), metric),
        _over(group, metric),
        _score(cast(Json, group["counts"]), "accuracy") if "counts" in group else "no labels",
        _score(cast(Json, group["llm"]), metric),
        f"{cast(float, group['seconds']):.0f}",
        number_text.amount(cast(float, group["bytes"])),
    )


def _over(group: Json, metric: str) -> str:
    return _score(cast(Json, group["over_control"]), metric) if "over_control" in group else "no control"


def _score(score: Json, metric: str) -> str:
    mean, bounds = cast(float, score["mean"]), cast(Sequence[float] | None, score["ci95"])
    if bounds is None:
        return f"{number_text.score(mean, metric)} (one seed)"
    low, high = (number_text.score(bound, metric) for bound in bounds)
    return f"{number_text.score(mean, metric)} [{low}, {high}]"
