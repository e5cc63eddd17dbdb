"""From the results of all points to one comparison: means, paired gains, and means on test records that are apart."""

import json
from collections.abc import Mapping, Sequence
from typing import cast

from fedcollm_secure.research.compare.baselines import METHODS, TEST_SET, GridPoint
from fedcollm_secure.research.seed_statistics import Measured, paired, score_interval

Json = Mapping[str, object]
Measurements = dict[tuple[str, str, str], dict[int, Measured]]
"""(split, model, method) → seed → main score."""

PAIRS = (
    ("slm", "fedcollm", "control"),
    ("slm", "fedcollm", "counts"),
    ("slm", "fedcollm", "with_counts"),
    ("slm", "fedcollm", "fedavg"),
    ("slm", "fedcollm", "fedavg_ce"),
    ("slm", "fedcollm", "one_way"),
    ("slm", "fedcollm", "standalone"),
    ("llm", "fedcollm", "control"),
    ("llm", "fedcollm", "counts"),
    ("llm", "fedcollm", "with_counts"),
    ("llm", "fedcollm", "server_only"),
    ("llm", "fedcollm", "centralized"),
)
"""Better, than. Word counts have no model: both are held against them."""


def summarise(points: Sequence[GridPoint]) -> Json:
    """Return rows, paired gains, the silos' gains, and how large the test set is, of finished points."""
    scores, silos, apart = _collect(points)
    metric = _metric(points[0])
    rows = [
        {
            "split": split,
            "model": model,
            "method": method,
            **score_interval(list(values.values()), metric).as_json(),
            **_among(values, apart.get(split, {}), metric),
        }
        for (split, model, method), values in scores.items()
    ]
    gains = [
        {"split": split, "model": model, "better": better, "than": than, **paired(a, b).as_json()}
        for split in dict.fromkeys(point.split for point in points)
        for model, better, than in PAIRS
        if (a := scores.get((split, model, better)))
        and (b := scores.get((split, "slm" if than == "counts" else model, than)))
    ]
    silo_gains = [
        {"split": split, "silo": name, **paired(scores[split, "slm", "fedcollm"], alone).as_json()}
        for (split, name), alone in silos.items()
    ]
    return {"metric": metric, "rows": rows, "gains": gains, "silo_gains": silo_gains, "tests": _tests(apart)}


def _collect(
    points: Sequence[GridPoint],
) -> tuple[Measurements, dict[tuple[str, str], dict[int, Measured]], dict[str, dict[int, Sequence[bool]]]]:
    """Return the scores of models, those of each silo alone, and which test records are apart, by split and seed."""
    scores: Measurements = {}
    silos: dict[tuple[str, str], dict[int, Measured]] = {}
    apart: dict[str, dict[int, Sequence[bool]]] = {}
    for point in points:
        test = _read(point, TEST_SET)
        digest = cast(str, test["digest"])
        apart.setdefault(point.split, {})[point.seed] = cast(Sequence[bool], test["apart"])
        for method in [each for each in METHODS if point.result_file(each).is_file()]:
            result = _read(point, method)
            for model in [each for each in ("slm", "llm") if each in result]:
                name = "server_only" if (model, method) == ("llm", "fedavg_ce") else method
                measured = _measured(result[model], _shares(result, "by_record", model), digest)
                scores.setdefault((point.split, model, name), {})[point.seed] = measured
            for silo, alone in cast(Mapping[str, object], result.get("silos", {})).items():
                measured = _measured(alone, _shares(result, "silos_by_record", silo), digest)
                silos.setdefault((point.split, silo), {})[point.seed] = measured
    return scores, silos, apart


def _among(values: Mapping[int, Measured], apart: Mapping[int, Sequence[bool]], metric: str) -> Json:
    """Return the score on the test records that are apart, where it is known by record and some are."""
    if not all(value.by_record and any(apart[seed]) for seed, value in values.items()):
        return {}
    chosen = [value.among(apart[seed]) for seed, value in values.items()]
    return {"apart": score_interval(chosen, metric).as_json()}


def _tests(apart: Mapping[str, Mapping[int, Sequence[bool]]]) -> list[Json]:
    """Return of each split how many test records there are, and how many apart at the least of all seeds."""
    return [
        {
            "split": split,
            "records": min(map(len, of_seed.values())),
            "apart": min(sum(chosen) for chosen in of_seed.values()),
        }
        for split, of_seed in apart.items()
    ]


def _read(point: GridPoint, name: str) -> Json:
    return cast(Json, json.loads(point.result_file(name).read_text(encoding="utf-8")))


def _measured(scores: object, by_record: Sequence[float], digest: str) -> Measured:
    main = next(iter(cast(Mapping[str, float], scores).values()))
    return Measured(score=main, by_record=tuple(by_record), test=digest)


def _shares(result: Json, key: str, name: str) -> Sequence[float]:
    return cast(Mapping[str, Mapping[str, Sequence[float]]], result).get(key, {}).get(name, [])


def _metric(point: GridPoint) -> str:
    return next(iter(cast(Mapping[str, float], _read(point, "zero_shot")["slm"])))
