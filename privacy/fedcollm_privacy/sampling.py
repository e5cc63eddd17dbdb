"""Poisson sampling from a cryptographic generator: who is in a batch is a secret that the accounting relies on."""

import os
from collections.abc import Callable

import numpy as np

_BYTES_PER_DRAW = 8


def poisson_sample(population: int, rate: float, random: Callable[[int], bytes] = os.urandom) -> list[int]:
    """Draw each index of range(`population`) independently with probability `rate`; the result is sorted.

    Guarantee: with `random` = os.urandom every index is drawn with probability q' ≤ `rate`, q' > `rate` − 2⁻⁶⁴,
    independently of all others and of every seedable generator. The empty list is a regular outcome.

    Raises:
        ValueError: a negative population, or a rate outside (0, 1].
    """
    if population < 0:
        raise ValueError(f"population must be at least 0, got {population}")
    if not 0 < rate <= 1:
        raise ValueError(f"rate must lie in (0, 1], got {rate}")
    if rate == 1:
        return list(range(population))
    threshold = np.uint64(int(rate * 2**64))  # exact: a power of two times a binary64, rounded towards less sampling
    draws = np.frombuffer(random(population * _BYTES_PER_DRAW), dtype="<u8")
    chosen: list[int] = np.flatnonzero(draws < threshold).tolist()
    return chosen
