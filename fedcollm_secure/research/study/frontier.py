"""From points to the frontier: means and 95 % intervals over seeds, and the combinations that no other beats."""

import math
from collections.abc import Mapping, Sequence
from typing import cast

from fedcollm_secure.presentation.number_text import LOWER_IS_BETTER
from fedcollm_secure.research.seed_statistics import Measured, interval, score_interval

Json = Mapping[str, object]
COSTS = ("seconds", "bytes")


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
    scores = {name: score_interval(_measured(points, name), metric).as_json() for name in ("slm", "llm")}
    costs = {name: math.fsum(cast(float, point[name]) for point in points) / len(points) for name in COSTS}
    return {**shared, **scores, **costs, **_against_control(points), **_beside_counts(points)}


def _against_control(points: Sequence[Json]) -> Json:
    """Return what the small model of the control scores, and the gain over it, seed by seed and record by record."""
    if not all("control" in point for point in points):
        return {}
    controls = _measured([cast(Json, point["control"]) for point in points], "slm")
    gains = [one.minus(other) for one, other in zip(_measured(points, "slm"), controls, strict=True)]
    control = score_interval(controls, cast(str, points[0]["metric"]))
    return {"control": control.as_json(), "over_control": interval(gains).as_json()}


def _beside_counts(points: Sequence[Json]) -> Json:
    """Return what the silos' word counts score at the same ε, where there are labels to count by."""
    if not all("counts" in point for point in points):
        return {}
    return {"counts": score_interval(_measured(points, "counts"), "accuracy").as_json()}


def _measured(points: Sequence[Json], name: str) -> list[Measured]:
    by_record = [cast(Mapping[str, Sequence[float]], point.get("by_record", {})).get(name, []) for point in points]
    return [
        Measured(score=cast(float, point[name]), by_record=tuple(shares), test=cast(str, point.get("test", "")))
        for point, shares in zip(points, by_record, strict=True)
    ]


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
