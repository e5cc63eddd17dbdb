"""Where the tensors of an adapter lie in its flat vector, and which entries an audit keeps of each draw."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedcollm_secure.learning.adapter import Schema

MOST_ENTRIES = 65_536
LEAST_OF_A_TENSOR = 64


@dataclass(frozen=True, kw_only=True)
class Places:
    """`kept`: of each tensor, in its own entries. All of a small adapter, runs of a larger one."""

    starts: Mapping[str, int]
    kept: Mapping[str, slice]

    @classmethod
    def of(cls, schema: Schema) -> "Places":
        """Choose what is kept."""
        sizes = {name: int(np.prod(shape)) for name, shape in schema.shapes.items()}
        whole, random = sum(sizes.values()), np.random.default_rng()
        kept, starts, start = dict[str, slice](), dict[str, int](), 0
        for name, size in sizes.items():
            count = size if whole <= MOST_ENTRIES else min(size, max(LEAST_OF_A_TENSOR, MOST_ENTRIES * size // whole))
            begin = int(random.integers(0, size - count + 1))
            kept[name], starts[name] = slice(begin, begin + count), start
            start += size
        return cls(starts=starts, kept=kept, length=whole)

    length: int

    @cached_property
    def flat(self) -> NDArray[np.int64]:
        """Return int64[k]: what is kept, as entries of the adapter's vector."""
        return np.concatenate(
            [self.starts[name] + np.arange(part.start, part.stop) for name, part in self.kept.items()]
        )

    def cut(self, vector: NDArray[np.float64]) -> Mapping[str, NDArray[np.float64]]:
        """Return what is kept of float64[d], by tensor."""
        return {
            name: vector[self.starts[name] + part.start : self.starts[name] + part.stop]
            for name, part in self.kept.items()
        }
