"""The discrete Gaussian against its probabilities, and its coins where binary64 cannot decide."""

import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from scipy.stats import chisquare

from fedcollm_privacy import discrete
from fedcollm_privacy.discrete import coins, discrete_gaussian


def seeded(seed: int):  # type: ignore[no-untyped-def]  # a test's generator
    return np.random.default_rng(seed).bytes


def p_value(sample: np.ndarray, variance: int) -> float:
    """Return how likely so poor a fit to N_ℤ(0, variance) is; the tails are one class each."""
    reach = 3 * math.isqrt(variance) + 1
    support = np.arange(-40 * reach, 40 * reach + 1)
    mass = np.exp(-(support.astype(float) ** 2) / (2 * variance))
    mass /= mass.sum()
    inside = np.abs(support) < reach
    expected = np.concatenate((mass[inside], [mass[support >= reach].sum(), mass[support <= -reach].sum()]))
    counted = [(sample == value).sum() for value in support[inside]]
    observed = np.array([*counted, (sample >= reach).sum(), (sample <= -reach).sum()])
    return float(chisquare(observed, expected * len(sample)).pvalue)


@pytest.mark.parametrize("variance", [1, 2, 9, 100])
def test_discrete_gaussian_fits_its_probabilities(variance: int) -> None:
    assert p_value(discrete_gaussian(100_000, variance, seeded(variance)), variance) > 1e-3


def test_a_rounded_gaussian_would_not_fit() -> None:
    rounded = np.rint(np.random.default_rng(0).standard_normal(100_000))

    assert p_value(rounded, 1) < 1e-9


@pytest.mark.parametrize("variance", [10**6, 10**14, 2**90])
def test_moments_are_those_of_a_gaussian_where_the_grid_is_fine(variance: int) -> None:
    sample = discrete_gaussian(100_000, variance, seeded(1)) / math.sqrt(variance)

    assert abs(sample.mean()) < 5 / math.sqrt(100_000)
    assert sample.var() == pytest.approx(1, abs=5 * math.sqrt(2 / 100_000))
    assert (sample**4).mean() == pytest.approx(3, abs=5 * math.sqrt(96 / 100_000))


def test_the_default_is_the_operating_systems_generator() -> None:
    torch.manual_seed(0)
    np.random.seed(0)  # shown to have no part in it
    first = discrete_gaussian(100, 10**12)
    torch.manual_seed(0)
    np.random.seed(0)  # same

    assert not np.array_equal(first, discrete_gaussian(100, 10**12))


def test_one_source_gives_one_sample_of_the_right_length() -> None:
    first, again = (discrete_gaussian(1001, 50, seeded(4)) for _ in range(2))

    assert first.shape == (1001,)
    assert np.array_equal(first, again)
    assert discrete_gaussian(0, 50).shape == (0,)


@pytest.mark.parametrize("variance", [0, -1, 2**90 + 1])
def test_variance_outside_its_range_is_refused(variance: int) -> None:
    with pytest.raises(ValueError, match="variance must be"):
        discrete_gaussian(1, variance)


def test_a_coin_that_binary64_cannot_decide_is_decided_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discrete, "_UNSURE", 1.0)  # nothing is sure any more
    heads = coins(np.full(4000, 0.5), lambda _: Fraction(1, 2), seeded(2))

    assert heads.mean() == pytest.approx(math.exp(-0.5), abs=5 * math.sqrt(0.25 / 4000))


def test_bits_are_drawn_until_the_coin_falls() -> None:
    below = int(Fraction(math.exp(-1)).limit_denominator(10**15) * 2**64)
    drawn: list[int] = []

    def more(size: int) -> bytes:
        drawn.append(size)
        return b"\0" * size

    assert discrete._decide(below - 2**20, Fraction(1), more)
    assert not discrete._decide(below + 2**20, Fraction(1), more)
    assert drawn == []
    exact = 6786177901268885274  # ⌊2⁶⁴ / e⌋: these 64 bits alone decide nothing
    assert discrete._decide(exact, Fraction(1), more)
    assert drawn == [8]


def test_certain_coins_and_impossible_ones() -> None:
    assert coins(np.zeros(100), lambda _: Fraction(0), seeded(3)).all()
    assert not coins(np.full(100, 2000.0), lambda _: Fraction(2000), seeded(3)).any()
