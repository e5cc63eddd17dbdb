"""Means and 95 % intervals over what chance had a hand in: the seeds, and which records the test set happens to hold.

A score varies with the seed (split, initial adapters, order, noise) and with the test records drawn. Where all seeds
answer the same test records, seeds alone do not show the second: each makes the same lucky or unlucky draw. So

    variance = s²(means of seeds)/S + s²(means of records over seeds)/R

What belongs to one seed and one record alone is in both terms, so the sum is not too small. Degrees of freedom are
Welch and Satterthwaite's, with S − 1 and R − 1; the interval is Student's. Where each seed has a test set of its own,
its records are in the spread over seeds already, and the second term is left out. A bootstrap over records within seeds
says the same of the second term, and nothing of the first.

A gain is taken of one seed and one record at a time: the same split, the same question, two methods.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import t as student

from fedcollm_secure.presentation.number_text import PERCENT_SCORES

Json = Mapping[str, object]


@dataclass(frozen=True, kw_only=True)
class Measured:
    """A score of one seed. Of a rate of right answers, also the share of right answers by test record.

    `test` is the digest of the test set: scores of one set can be compared record by record. A rate over several models
    has shares between 0 and 1.
    """

    score: float
    by_record: tuple[float, ...] = field(default=(), repr=False)
    test: str = ""

    def minus(self, other: "Measured") -> "Measured":
        """Return the gain over another score of the same seed, by record where both know the same records."""
        same = self.test == other.test and len(self.by_record) == len(other.by_record)
        by_record = tuple(a - b for a, b in zip(self.by_record, other.by_record, strict=True)) if same else ()
        return Measured(score=self.score - other.score, by_record=by_record, test=self.test if same else "")

    def among(self, chosen: Sequence[bool]) -> "Measured":
        """Return the rate over some of the test records. Raises: ValueError where the score is not known by record."""
        kept = tuple(share for share, wanted in zip(self.by_record, chosen, strict=True) if wanted)
        if not kept:
            raise ValueError("no test record is left to score")
        return Measured(score=math.fsum(kept) / len(kept), by_record=kept, test=f"{self.test}/some")


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


def score_interval(values: Sequence[Measured], metric: str) -> Interval:
    """Return mean and interval of a score, cut to the score's scale: Student's t knows of no end at 0 or 100 %."""
    found = interval(values)
    low, high = (0.0, 1.0) if metric in PERCENT_SCORES else (1.0, math.inf)  # no perplexity is below 1
    if found.ci95 is None:
        return found
    return replace(found, ci95=(max(low, found.ci95[0]), min(high, found.ci95[1])))


def paired(better: Mapping[int, Measured], than: Mapping[int, Measured]) -> Interval:
    """Return the gain of one method over another, seed by seed and record by record."""
    return interval([better[seed].minus(than[seed]) for seed in sorted(better.keys() & than.keys())])


def interval(values: Sequence[Measured]) -> Interval:
    """Return mean and interval of one value a seed.

    Raises:
        ValueError: no values.
    """
    count = len(values)
    if count == 0:
        raise ValueError("an interval needs at least one value, got none")
    mean = math.fsum(value.score for value in values) / count
    if count == 1:
        return Interval(mean=mean, ci95=None, seeds=1)
    variances = [(_variance_of_mean([value.score for value in values]), count - 1)]
    if (shares := _crossed(values)) is not None and shares.shape[1] > 1:
        variances.append((_variance_of_mean(shares.mean(axis=0)), shares.shape[1] - 1))
    half = _half_width(variances)
    return Interval(mean=mean, ci95=(mean - half, mean + half), seeds=count)


def _crossed(values: Sequence[Measured]) -> NDArray[np.float64] | None:
    """Return float64[S, R] where all seeds answer the same test records."""
    if not values[0].by_record or len({(value.test, len(value.by_record)) for value in values}) > 1:
        return None
    return np.array([value.by_record for value in values], dtype=np.float64)


def _variance_of_mean(values: Sequence[float] | NDArray[np.float64]) -> float:
    found = np.asarray(values, dtype=np.float64)
    return float(found.var(ddof=1)) / len(found)


def _half_width(variances: Sequence[tuple[float, int]]) -> float:
    """Return half of the interval, from variances of a mean and their degrees of freedom."""
    total = math.fsum(variance for variance, _ in variances)
    spread = math.fsum(variance**2 / degrees for variance, degrees in variances)
    if total == 0 or spread == 0:
        return 0.0
    return float(student.ppf(0.975, total**2 / spread)) * math.sqrt(total)
