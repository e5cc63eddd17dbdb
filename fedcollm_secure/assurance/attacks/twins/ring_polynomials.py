"""Polynomials modulo X^N + 1 and q as the library orders them: to its transform and back, and from CKKS' slots.

Written for A8, which must undo what the library did; plain integers, since a product of residues has 120 bits.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_GENERATOR = 3
"""Slot j of CKKS lies at ζ^(3^j), ζ = e^(iπ/N) (SEAL, `ckks.cpp`)."""


class Ring:
    """Z_q[X]/(X^N + 1) for a prime q ≡ 1 mod 2N."""

    def __init__(self, degree: int, prime: int) -> None:
        """Find SEAL's root: the least primitive 2N-th root of unity."""
        self.degree, self.prime = degree, prime
        root = _least_root(degree, prime)
        bits = degree.bit_length() - 1
        exponents = [int(f"{index:0{bits}b}"[::-1], 2) for index in range(degree)]
        powers = [1]
        for _ in range(1, 2 * degree):
            powers.append(powers[-1] * root % prime)
        self._roots = [powers[e] for e in exponents]
        self._inverse_roots = [powers[-e % (2 * degree)] for e in exponents]

    def forward(self, coefficients: Sequence[int]) -> list[int]:
        """Return the values in the library's order: place i is at ψ^(2·rev(i)+1)."""
        values, q = list(coefficients), self.prime
        half, blocks = self.degree, 1
        while blocks < self.degree:
            half //= 2
            for block in range(blocks):
                root, start = self._roots[blocks + block], 2 * block * half
                for low in range(start, start + half):
                    first, second = values[low], values[low + half] * root % q
                    values[low], values[low + half] = (first + second) % q, (first - second) % q
            blocks *= 2
        return values

    def backward(self, values: Sequence[int]) -> list[int]:
        """Return the coefficients, centred in (−q/2, q/2)."""
        result, q = list(values), self.prime
        half, blocks = 1, self.degree // 2
        while blocks:
            for block in range(blocks):
                root, start = self._inverse_roots[blocks + block], 2 * block * half
                for low in range(start, start + half):
                    first, second = result[low], result[low + half]
                    result[low], result[low + half] = (first + second) % q, (first - second) * root % q
            half, blocks = 2 * half, blocks // 2
        scale = pow(self.degree, -1, q)
        return [(value * scale + q // 2) % q - q // 2 for value in result]


def slots_to_coefficients(slots: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the real polynomial, float64[N], whose values at the slots are these, and likewise at their conjugates."""
    n = 2 * len(slots)
    values, position = np.empty(n), 1
    for value in slots:
        values[position >> 1] = values[(2 * n - position) >> 1] = value
        position = position * _GENERATOR % (2 * n)
    twist = np.exp(-1j * np.pi * np.arange(n) / n)
    coefficients: NDArray[np.float64] = (twist * np.fft.fft(values)).real / n
    return coefficients


def coefficients_to_slots(coefficients: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the real parts at the slots, float64[N/2]."""
    n = len(coefficients)
    twisted = coefficients * np.exp(1j * np.pi * np.arange(n) / n)
    values, position = np.fft.ifft(twisted).real * n, 1
    slots = np.empty(n // 2)
    for index in range(n // 2):
        slots[index] = values[position >> 1]
        position = position * _GENERATOR % (2 * n)
    return slots


def _least_root(degree: int, prime: int) -> int:
    candidates = (pow(base, (prime - 1) // (2 * degree), prime) for base in range(2, 200))
    root = next(root for root in candidates if pow(root, degree, prime) == prime - 1)
    step, power, least = root * root % prime, root, root
    for _ in range(degree):
        power = power * step % prime
        least = min(least, power)
    return least
