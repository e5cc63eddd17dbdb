"""From points to the frontier: means and 95 % intervals over seeds, and the combinations that no other beats."""

import math
from collections.abc import Mapping, Sequence
from typing import cast

from fedcollm_secure.research.seed_statistics import interval, score_interval

Json = Mapping[str, object]
LOWER_IS_BETTER = {"perplexity"}


def groups(points: Sequence[Json]) -> list[Json]:
    """Return one entry for each way and ε, by way and then from the strongest privacy to none.

    Where points hold the score of a `control`, an entry has its mean and the paired gain over it.
    """
    members: dict[tuple[str, float], list[Json]] = {}
    for point in points:
        members.setdefault((str(point["way"]), _epsilon(point)), []).append(point)
    return [_group(members[key]) for key in sorted(members)]


def frontier(found: Sequence[Json]) -> list[Json]:
    """Return the groups that no other beats: none has at most their ε and a better small model (by its mean)."""
    return [group for group in found if not any(_beats(other, group) for other in found)]


def _group(points: Sequence[Json]) -> Json:
    first = points[0]
    shared = {key: first[key] for key in ("epsilon", "factors", "aggregation", "way", "metric")}
    metric = cast(str, first["metric"])
    scores = {name: score_interval(_numbers(points, name), metric).as_json() for name in ("slm", "llm")}
    costs = {name: math.fsum(_numbers(points, name)) / len(points) for name in ("seconds", "bytes")}
    return {**shared, **scores, **costs, **_against_control(points)}


def _against_control(points: Sequence[Json]) -> Json:
    """Return what the small model of the control scores, and the gain over it, seed by seed."""
    if not all("control" in point for point in points):
        return {}
    ours, theirs = _numbers(points, "slm"), _numbers(points, "control")
    gains = [one - other for one, other in zip(ours, theirs, strict=True)]
    control = score_interval(theirs, cast(str, points[0]["metric"]))
    return {"control": control.as_json(), "over_control": interval(gains).as_json()}


def _numbers(points: Sequence[Json], key: str) -> list[float]:
    return [cast(float, point[key]) for point in points]


def _beats(other: Json, group: Json) -> bool:
    ours, theirs = _score(group), _score(other)
    no_worse = _epsilon(other) <= _epsilon(group) and theirs >= ours
    return no_worse and (_epsilon(other) < _epsilon(group) or theirs > ours)


def _score(group: Json) -> float:
    mean = cast(float, cast(Json, group["slm"])["mean"])
    return -mean if group["metric"] in LOWER_IS_BETTER else mean


def _epsilon(entry: Json) -> float:
    value = entry["epsilon"]
    return math.inf if value is None else cast(float, value)
