"""How rarely an honest run may fail: one budget for the whole audit, and the bounds that keep each test within it.

Every test that compares drawn figures takes an equal share of `FALSE_ALARM`, and divides that among all cells, tensors,
coordinates or pairs that it looks at (union bound). All bounds hold for any sample size, but for the two variances of
`training_mechanism.sampling_counts`, which follow Cornish and Fisher.

| figure | bound |
|---|---|
| mean square of n normals | exact quantiles of χ²_n |
| empirical distribution of n values | Massart 1990: P(sup|F_n − F| > t) ≤ 2·exp(−2nt²) |
| a quadratic form Σ λ_k(z_k² − 1), Σ λ_k = 0 | Laurent and Massart 2000, lemma 1: 2√(x·Σλ²) + 2x·max λ at exp(−x) |
| a count of n | exact quantiles of the binomial |
"""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom, chi2, poisson

FALSE_ALARM = 1e-6
"""Probability that any check of an honest mechanism fails; the canaries' 5 % are stated apart."""
TESTS = 32
ALARM = FALSE_ALARM / TESTS
"""What one named check may take; an audit has at most TESTS that compare drawn figures."""


def mean_square(
    degrees: NDArray[np.int64] | int, alarm: float, tests: int = 1
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return between which figures the mean square of so many standard normals stays in all `tests` of them."""
    tail = alarm / tests / 2
    return np.asarray(chi2.ppf(tail, degrees) / degrees), np.asarray(chi2.isf(tail, degrees) / degrees)


def distance(values: int, alarm: float, tests: int = 1) -> float:
    """Return how far the empirical distribution of independent values can be from their own."""
    return math.sqrt(math.log(2 * tests / alarm) / (2 * values))


def product(squared: float, largest: float, alarm: float, tests: int = 1) -> float:
    """Return how far from 0 a traceless quadratic form of normals stays; `squared` = Σλ², `largest` = max |λ|."""
    x = math.log(2 * tests / alarm)
    return 2 * math.sqrt(squared * x) + 2 * largest * x


def counts(number: int, probability: float, alarm: float, tests: int = 1) -> tuple[int, int]:
    """Return between which counts `number` independent events of this probability stay."""
    tail = alarm / tests / 2
    return int(binom.ppf(tail, number, probability)), int(binom.isf(tail, number, probability))


def most_of(expected: float, alarm: float, tests: int = 1) -> int:
    """Return how many rare events there are at most, of which `expected` are."""
    return int(poisson.isf(alarm / tests, expected))
