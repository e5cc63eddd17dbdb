"""The mean as it is first written: floats, no bound on what one silo may send."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def unbounded_mean(updates: Sequence[NDArray[np.float32]]) -> NDArray[np.float64]:
    """Return the mean of float32[d], whatever the entries are."""
    mean: NDArray[np.float64] = np.stack(updates).astype(np.float64).mean(axis=0)
    return mean
