"""Discrete Gaussian and discrete Laplace noise on the integers, exact and from a cryptographic generator.

    N_ℤ(0, σ²):    P[Y = y] ∝ exp(−y² / 2σ²), y an integer, σ² a positive integer
    Lap_ℤ(s/t):    P[Y = y] ∝ exp(−|y|·s/t), y an integer, s/t a positive fraction

Canonne, Kamath and Steinke 2020 (arXiv 2004.00010), algorithms 2 and 3: a discrete Laplace variable is accepted with
probability exp(−(|Y| − σ²/t)² / 2σ²), t = ⌊σ⌋ + 1. Every coin of probability exp(−γ) is exact: a 64-bit word decides
where binary64 is sure of it, which it is but once in 2³⁹ times; there the word gets more bits, and decimal arithmetic
as many digits as it takes.
"""

import math
import os
from collections.abc import Callable
from decimal import Decimal, localcontext
from fractions import Fraction

import numpy as np
import numpy.typing as npt

from fedcollm_privacy import validate

Int64 = npt.NDArray[np.int64]
Float64 = npt.NDArray[np.float64]
Randomness = Callable[[int], bytes]
Exact = Callable[[int], Fraction]
"""Return γ of the i-th coin without rounding."""

LARGEST_VARIANCE = 2**90
"""Beyond it binary64 would no longer hold |Y| exactly."""

LARGEST_DENOMINATOR = 2**40
"""t of a discrete Laplace variable: 64-bit integers then hold t times the longest run of heads that can come up."""

_UNSURE = 2.0**-39
"""Relative. exp(−γ) in binary64 is off by 2⁻⁴⁰ at most: γ ≤ 745 is known to 2⁻⁴¹, then exp adds an ulp."""


def discrete_gaussian(count: int, variance: int, random: Randomness = os.urandom) -> Int64:
    """Return int64[count] of independent N_ℤ(0, `variance`).

    Guarantee: with `random` uniform and secret the distribution is exact: no rounding, no truncated tail, no seedable
    generator. The time taken depends on what was rejected, not on what is returned.

    Raises:
        ValueError: a variance outside [1, 2⁹⁰], or a negative count.
    """
    validate.integer(variance=variance, at_least=1)
    validate.integer(count=count, at_least=0)
    if variance > LARGEST_VARIANCE:
        raise ValueError(f"variance must be at most 2^90, got {variance}: use a coarser grid")
    scale = math.isqrt(variance) + 1
    found = np.zeros(0, dtype=np.int64)
    while len(found) < count:
        candidates = _laplace_trials(2 * (count - len(found)) + 16, Fraction(1, scale), random)
        magnitudes = np.abs(candidates)
        gammas = (magnitudes - variance / scale) ** 2 / (2.0 * variance)

        def exactly(index: int, magnitudes: Int64 = magnitudes) -> Fraction:
            return Fraction((int(magnitudes[index]) * scale - variance) ** 2, 2 * variance * scale**2)

        found = np.concatenate((found, candidates[coins(gammas, exactly, random)]))
    return found[:count]


def discrete_laplace(count: int, rate: Fraction, random: Randomness = os.urandom) -> Int64:
    """Return int64[count] of independent integers with P[Y = y] ∝ exp(−|y|·`rate`).

    Guarantee: with `random` uniform and secret the distribution is exact, as that of `discrete_gaussian`. The longest
    run of heads, and with it the time, follows the largest value drawn: draw where nobody holds a watch.

    Raises:
        ValueError: a rate that is not positive, or whose denominator is above 2⁴⁰; a negative count.
    """
    validate.integer(count=count, at_least=0)
    if rate <= 0 or rate.denominator > LARGEST_DENOMINATOR:
        raise ValueError(f"rate must be a positive fraction with a denominator of at most 2^40, got {rate}")
    found = np.zeros(0, dtype=np.int64)
    while len(found) < count:
        found = np.concatenate((found, _laplace_trials(2 * (count - len(found)) + 16, rate, random)))
    return found[:count]


def coins(gammas: Float64, exactly: Exact, random: Randomness) -> npt.NDArray[np.bool_]:
    """Return bool[B], true with probability exp(−γ) each; `gammas` float64[B] approximates what `exactly` gives."""
    words = np.frombuffer(random(8 * len(gammas)), dtype="<u8")
    drawn, thresholds = words.astype(np.float64), np.exp(-gammas) * 2.0**64
    heads = drawn < thresholds * (1 - _UNSURE) - 1
    tails = drawn > thresholds * (1 + _UNSURE) + 1
    for index in np.flatnonzero(~heads & ~tails).tolist():
        heads[index] = _decide(int(words[index]), exactly(index), random)
    return heads


def _decide(word: int, gamma: Fraction, random: Randomness) -> bool:
    """Say whether a uniform number that begins with the 64 bits of `word` is below exp(−γ), drawing what it takes."""
    bits, digits = 64, 60
    while True:
        with localcontext(prec=digits):
            p = Fraction((-(Decimal(gamma.numerator) / Decimal(gamma.denominator))).exp())
        error = p * Fraction(1, 10 ** (digits - 20))  # the quotient's rounding, times γ < 10^15, and that of exp
        if Fraction(word + 1, 2**bits) <= p - error:
            return True
        if Fraction(word, 2**bits) >= p + error:
            return False
        word, bits, digits = (word << 64) | int.from_bytes(random(8), "little"), bits + 64, digits + 20


def _laplace_trials(count: int, rate: Fraction, random: Randomness) -> Int64:
    """Return an int64 with P[X = x] ∝ exp(−|x|·`rate`) for each of `count` trials that was not rejected."""
    scale = rate.denominator
    low = _below(scale, count, random)  # U
    low = low[coins(low / scale, lambda index, low=low: Fraction(int(low[index]), scale), random)]  # type: ignore[misc]  # low is bound now, not later
    magnitude = (low + scale * _geometric(len(low), random)) // rate.numerator  # ⌊·/s⌋ stretches the rate 1/t to s/t
    negative = (np.frombuffer(random(len(low)), dtype=np.uint8) & 1).astype(np.bool_)
    kept = ~(negative & (magnitude == 0))  # else zero would come twice as often
    signed: Int64 = np.where(negative, -magnitude, magnitude)[kept]
    return signed


def _geometric(count: int, random: Randomness) -> Int64:
    """Return int64[count]: how many coins of probability 1/e fell on heads before the first tails."""
    heads, alive = np.zeros(count, dtype=np.int64), np.arange(count)
    while len(alive):
        alive = alive[coins(np.ones(len(alive)), lambda _: Fraction(1), random)]
        heads[alive] += 1
    return heads


def _below(bound: int, count: int, random: Randomness) -> Int64:
    """Return up to `count` uniform integers from [0, bound); a word that would favour small ones is left out."""
    words = np.frombuffer(random(8 * count), dtype="<u8")
    limit = 2**64 - 2**64 % bound
    usable = words if limit == 2**64 else words[words < np.uint64(limit)]
    return (usable % np.uint64(bound)).astype(np.int64)
