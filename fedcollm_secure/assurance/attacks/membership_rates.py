"""How well scores tell members from others: the area under the curve, and true positives where false ones are rare."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Float64 = NDArray[np.float64]
LEVEL = 0.95


@dataclass(frozen=True, kw_only=True)
class Rate:
    """A share in [0, 1] with its 95 % interval."""

    value: float
    low: float
    high: float

    def in_words(self) -> str:
        """Write it as per cent."""
        return f"{100 * self.value:.1f} % [{100 * self.low:.1f}, {100 * self.high:.1f}]"


def area(members: Sequence[float], others: Sequence[float]) -> Rate:
    """Return the probability that a member scores above another, ties counting half (DeLong et al. 1988)."""
    inside, outside = np.asarray(members, dtype=np.float64), np.asarray(others, dtype=np.float64)
    above = _placements(inside, outside)  # [m]: how many others each member beats, as a share
    below = 1 - _placements(outside, inside)  # [n]
    value = float(above.mean())
    half = float(stats.norm.ppf((1 + LEVEL) / 2)) * math.sqrt(
        float(above.var(ddof=1)) / len(above) + float(below.var(ddof=1)) / len(below)
    )
    return Rate(value=value, low=max(0.0, value - half), high=min(1.0, value + half))


def true_positives(members: Sequence[float], others: Sequence[float], *, false_positives: float) -> Rate:
    """Return the share of members above the threshold that at most this share of the others exceeds.

    The interval is Clopper and Pearson's, for that threshold; where the others are too few for the rate, none is above.
    """
    allowed = int(false_positives * len(others))
    threshold = sorted(others, reverse=True)[allowed]
    found, count = sum(score > threshold for score in members), len(members)
    bounds = stats.binomtest(found, count).proportion_ci(LEVEL, method="exact")
    return Rate(value=found / count, low=float(bounds.low), high=float(bounds.high))


def _placements(scores: Float64, against: Float64) -> Float64:
    """Return, for each score, the share of `against` that lies below it, ties counting half."""
    ordered = np.sort(against)
    below, up_to = np.searchsorted(ordered, scores, "left"), np.searchsorted(ordered, scores, "right")
    share: Float64 = (below + up_to) / (2 * len(against))
    return share
