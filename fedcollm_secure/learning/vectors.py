"""An adapter as it travels: one flat float32 vector, and its name. Without torch, so that anybody can hash one."""

import hashlib

import numpy as np
from numpy.typing import NDArray

Float32 = NDArray[np.float32]


def digest(vector: Float32) -> str:
    """Return SHA-256 over the little-endian bytes of float32[d]; with `Schema.digest` it names one adapter."""
    return hashlib.sha256(vector.astype("<f4").tobytes()).hexdigest()
