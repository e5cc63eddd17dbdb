"""Gaussian noise from a cryptographic generator, hardened against attacks on its floating-point form.

Box–Muller in binary64 turns 64-bit words into pairs of normals. Each value that leaves is (g₁ + g₂ + g₃ + g₄) / 2 of
four such normals: again N(0, 1), but an observer who knows the grid of possible Box–Muller outputs (Mironov 2012;
Jin et al., arXiv 2112.05307) would have to search quadruples (Holohan and Braghin, arXiv 2107.10138).
"""

import math
import os
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

_SUMMANDS = 4
_BYTES_PER_UNIFORM = 8


def gaussian(shape: Sequence[int], std: float, random: Callable[[int], bytes] = os.urandom) -> Tensor:
    """Return float64[shape] of independent N(0, `std`²).

    Guarantee: with `random` = os.urandom no seedable generator has a part in it. Tails end at about 17 standard
    deviations (a uniform has 53 bits), an event of probability 2⁻²¹² for the four summands together.

    Raises:
        ValueError: a negative or non-finite `std`.
    """
    if not (math.isfinite(std) and std >= 0):
        raise ValueError(f"std must be a finite number of at least 0, got {std!r}")
    count = math.prod(shape)
    # [4, count] → [count]; dividing by √4 restores the unit variance.
    summed = _standard_normals(_SUMMANDS * count, random).reshape(_SUMMANDS, count).sum(axis=0) / math.sqrt(_SUMMANDS)
    return torch.from_numpy(std * summed).reshape(tuple(shape))


def _standard_normals(count: int, random: Callable[[int], bytes]) -> npt.NDArray[np.float64]:
    """Return float64[count] by Box–Muller, from `count` uniforms (`count` is even)."""
    words = np.frombuffer(random(count * _BYTES_PER_UNIFORM), dtype="<u8").reshape(2, count // 2)
    # Uniform on (0, 1] in steps of 2⁻⁵³: the logarithm never meets zero.
    uniforms = ((words >> np.uint64(11)).astype(np.float64) + 1.0) * 2.0**-53
    radius = np.sqrt(-2.0 * np.log(uniforms[0]))
    angle = (2.0 * math.pi) * uniforms[1]
    # Shifted by one, so that the four summands of a value come from four different pairs.
    return np.concatenate((radius * np.cos(angle), np.roll(radius * np.sin(angle), 1)))
