"""Real updates as integers of a ring, and back: what makes a sum exact, whatever hides it.

    float32[d], weight w  → clip to ±c → q = rint(x·Q/c) → [w·q, w, 1] modulo 2^m   (uint64[d + 2])
    Σ over silos          → Σw·q / (Q/c · Σw) = the weighted mean                    (float64[d])

Q = 2^(bits−1) − 1. The last two coordinates carry the weight and a counter through the same sum, so the server learns
neither a silo's weight nor can it count a silo twice unseen. Nothing can overflow: n·W_max·Q + N < 2^(m−1) is checked
when the encoding is made, before anything is sent. N, `noise_allowance`, bounds integer noise that silos add to what
they send; it is 0 where they add none.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto.aggregation import Sum, Vector
from fedcollm_crypto.errors import BadSum

EXTRA_COORDINATES = 2
"""The weight and the counter."""

MAX_BITS = 32
"""Above this, float64 would no longer hold x·Q/c to less than half a step for every float32 x."""

_BLOCK = 1 << 18


@dataclass(frozen=True, kw_only=True)
class Decoded:
    """A decoded sum: weighted mean float64[d], Σw, and over how many silos."""

    mean: NDArray[np.float64]
    total_weight: int
    contributors: int


@dataclass(frozen=True, kw_only=True)
class FixedPoint:
    """An encoding that can't overflow.

    `clip`: largest magnitude kept, in the update's units, > 0. `bits`: of a quantised entry with its sign, [2, 32].
    `ring_bits`: m, 32 or 64. `max_weight`: largest weight of one silo. `max_silos`: largest number added up.
    `noise_allowance`: N, the largest magnitude of the noise in an entry of a sum.

    Raises: ValueError when n·W_max·Q + N ≥ 2^(m−1).
    """

    clip: float
    bits: int
    ring_bits: Literal[32, 64]
    max_weight: int
    max_silos: int
    noise_allowance: int = 0

    def __post_init__(self) -> None:
        """Refuse what could overflow or has no meaning."""
        if not (math.isfinite(self.clip) and self.clip > 0):
            raise ValueError(f"clip must be finite and above 0, got {self.clip}")
        if not 2 <= self.bits <= MAX_BITS:
            raise ValueError(f"bits must be in [2, {MAX_BITS}], got {self.bits}")
        if self.ring_bits not in (32, 64):
            raise ValueError(f"ring_bits must be 32 or 64, got {self.ring_bits}")
        if self.max_weight < 1 or self.max_silos < 1:
            raise ValueError(f"max_weight and max_silos start at 1, got {self.max_weight} and {self.max_silos}")
        if self.noise_allowance < 0:
            raise ValueError(f"noise_allowance must be at least 0, got {self.noise_allowance}")
        if self.largest_sum >= 1 << (self.ring_bits - 1):
            raise ValueError(
                f"a sum could overflow: n·W_max·Q < 2^(m-1) must hold, but {self.max_silos}·{self.max_weight}·"
                f"{self.levels}{f' + {self.noise_allowance} of noise' if self.noise_allowance else ''} = "
                f"{self.largest_sum} >= 2^{self.ring_bits - 1}. Lower max_weight (put weights into "
                f"buckets) or bits, or {'use ring_bits: 64' if self.ring_bits == 32 else 'let fewer silos add up'}"
            )

    @classmethod
    def smallest_ring(
        cls, *, clip: float, bits: int, max_weight: int, max_silos: int, noise_allowance: int = 0
    ) -> "FixedPoint":
        """Return the encoding with 4 bytes a word where the bound allows it, else with 8. Raises: ValueError."""
        levels = (1 << (bits - 1)) - 1
        ring_bits: Literal[32, 64] = 32 if max_silos * max_weight * levels + noise_allowance < 1 << 31 else 64
        return cls(
            clip=clip,
            bits=bits,
            ring_bits=ring_bits,
            max_weight=max_weight,
            max_silos=max_silos,
            noise_allowance=noise_allowance,
        )

    @property
    def levels(self) -> int:
        """Return Q = 2^(bits−1) − 1, the largest quantised magnitude."""
        return (1 << (self.bits - 1)) - 1

    @property
    def largest_sum(self) -> int:
        """Return n·W_max·Q + N, the largest magnitude an honest sum can have."""
        return self.max_silos * self.max_weight * self.levels + self.noise_allowance

    @property
    def grid(self) -> float:
        """Return the step between neighbouring encodable values, c/Q, in the update's units."""
        return self.clip / self.levels

    @property
    def headroom_bits(self) -> int:
        """Return how many more bits the largest sum could have and still fit."""
        return self.ring_bits - 1 - self.largest_sum.bit_length()

    def length(self, d: int) -> int:
        """Return the length of an encoded update of d entries."""
        return d + EXTRA_COORDINATES

    def encode(self, update: NDArray[np.float32], weight: int, noise: NDArray[np.int64] | None = None) -> Vector:
        """Return uint64[d + 2] from float32[d]: entries clipped, rounded, weighted; then the weight; then 1.

        Half steps round to the even neighbour. An all-zero update is encoded like any other. `noise` int64[d], in
        steps of the grid, is added to the entries.

        Raises: TypeError unless update is float32[d]; ValueError for an entry that is not finite, a weight outside
        [1, max_weight], or noise of another length or without an allowance. The message never says what the entry is.
        """
        if update.dtype != np.float32 or update.ndim != 1:
            raise TypeError(f"an update is float32[d], got {update.dtype} with shape {update.shape}")
        if not 1 <= weight <= self.max_weight:
            raise ValueError(f"the weight must be in [1, {self.max_weight}]: raise max_weight or use buckets")
        if noise is not None and (noise.shape != update.shape or not self.noise_allowance):
            raise ValueError(f"noise needs an allowance in the ring, and to be int64[{len(update)}]")
        encoded = np.empty(self.length(len(update)), dtype=np.int64)
        for start in range(0, len(update), _BLOCK):  # in blocks, so that float64 copies stay small
            block = update[start : start + _BLOCK].astype(np.float64)
            if not np.isfinite(block).all():
                raise ValueError("the update holds an entry that is not finite: training diverged, nothing is sent")
            levels = np.rint(np.clip(block, -self.clip, self.clip) * self.levels / self.clip).astype(np.int64)
            encoded[start : start + len(block)] = levels * weight
        if noise is not None:
            encoded[:-EXTRA_COORDINATES] += noise
        encoded[-2:] = (weight, 1)
        return ring_words(encoded, self.ring_bits)

    def decode(self, result: Sum) -> Decoded:
        """Return the weighted mean of what was encoded.

        Raises: BadSum when the counter is not the number of contributors, Σw is out of range, or an entry exceeds
        Σw·Q + N; each shows that somebody did not encode by these rules. ValueError for more silos than max_silos.
        """
        if len(result.total) <= EXTRA_COORDINATES:
            raise ValueError(f"a sum has at least {EXTRA_COORDINATES + 1} coordinates, got {len(result.total)}")
        signed = signed_words(result.total, self.ring_bits)
        total_weight, counter = int(signed[-2]), int(signed[-1])
        silos = len(result.contributors)
        if silos > self.max_silos:
            raise ValueError(f"this encoding adds up at most {self.max_silos} silos, got {silos}: raise max_silos")
        if counter != silos:
            raise BadSum("miscounted", f"the counter says {counter}, the contributors are {silos}: some count twice")
        if not silos <= total_weight <= silos * self.max_weight:
            allowed = f"[{silos}, {silos * self.max_weight}]"
            raise BadSum("weight_out_of_range", f"the total weight {total_weight} is outside {allowed}")
        entries, full = signed[:-EXTRA_COORDINATES], total_weight * self.levels
        bound = full + self.noise_allowance
        if entries.max() > bound or entries.min() < -bound:
            beyond = f"an entry of the sum is beyond what clipping allows (total weight {total_weight})"
            raise BadSum("entry_out_of_range", beyond)
        mean = entries.astype(np.float64)
        mean *= self.clip
        mean /= full
        return Decoded(mean=mean, total_weight=total_weight, contributors=counter)


def ring_words(signed: NDArray[np.int64], ring_bits: int) -> Vector:
    """Return signed integers modulo 2^m in two's complement; may reuse the memory it is given."""
    words = signed.view(np.uint64)
    if ring_bits == 32:
        words &= np.uint64(0xFFFFFFFF)
    return words


def signed_words(words: Vector, ring_bits: int) -> NDArray[np.int64]:
    """Return the integers in [−2^(m−1), 2^(m−1)) that words of the ring stand for."""
    if ring_bits == 64:
        return words.view(np.int64)
    return words.astype(np.uint32).view(np.int32).astype(np.int64)
