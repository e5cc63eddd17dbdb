"""Means, 95 % intervals (Student's t over seeds) and paired gains: the same seed, the same data, two methods."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from scipy.stats import t as student

Json = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and its 95 % interval; without one for a single seed."""

    mean: float
    ci95: tuple[float, float] | None
    seeds: int

    def as_json(self) -> Json:
        """Return a plain map, rounded to 10^-6."""
        bounds = None if self.ci95 is None else [round(bound, 6) for bound in self.ci95]
        return {"mean": round(self.mean, 6), "ci95": bounds, "seeds": self.seeds}


SHARES = {"accuracy", "accuracy_norm", "exact_match"}


def score_interval(values: Sequence[float], metric: str) -> Interval:
    """Return mean and interval of a score, cut to the score's scale: Student's t knows of no end at 0 or 100 %."""
    found = interval(values)
    low, high = (0.0, 1.0) if metric in SHARES else (1.0, math.inf)  # no perplexity is below 1
    if found.ci95 is None:
        return found
    return replace(found, ci95=(max(low, found.ci95[0]), min(high, found.ci95[1])))


def interval(values: Sequence[float]) -> Interval:
    """Return mean and interval of one value a seed.

    Raises:
        ValueError: no values.
    """
    count = len(values)
    if count == 0:
        raise ValueError("an interval needs at least one value, got none")
    mean = math.fsum(values) / count
    if count == 1:
        return Interval(mean=mean, ci95=None, seeds=1)
    variance = math.fsum((value - mean) ** 2 for value in values) / (count - 1)
    half = float(student.ppf(0.975, count - 1)) * math.sqrt(variance / count)
    return Interval(mean=mean, ci95=(mean - half, mean + half), seeds=count)


def paired(better: Mapping[int, float], than: Mapping[int, float]) -> Interval:
    """Return the gain of one method over another, seed by seed."""
    return interval([better[seed] - than[seed] for seed in sorted(better.keys() & than.keys())])
