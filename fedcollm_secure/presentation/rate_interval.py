"""How far chance reaches in a share of right answers: the test records are a sample of all there could be."""

from typing import cast

from scipy.stats import binomtest


def rate_interval(rate: float, records: int) -> tuple[float, float]:
    """Return Wilson's 95 % interval of a rate in [0, 1] over so many records; it never leaves [0, 1].

    Of the test records alone: that another run would draw other noise, or another seed, is not in it.
    """
    found = binomtest(round(rate * records), records).proportion_ci(confidence_level=0.95, method="wilson")
    return cast(float, found.low), cast(float, found.high)
