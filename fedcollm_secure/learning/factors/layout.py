"""Where each A and each B lies in the adapter's flat vector."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fedcollm_secure.learning.adapter import Matrices, Schema

Float64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Place:
    """One LoRA module in the vector: A is [rank, width] from `a` on, B is [height, rank] from `b` on; ΔW = s·B·A."""

    a: int
    b: int
    rank: int
    width: int
    height: int

    def cut(self, vector: NDArray[np.floating]) -> tuple[Float64, Float64]:
        """Return (B, A) as float64[height, rank] and float64[rank, width]."""
        a = vector[self.a : self.a + self.rank * self.width].astype(np.float64).reshape(self.rank, self.width)
        b = vector[self.b : self.b + self.height * self.rank].astype(np.float64).reshape(self.height, self.rank)
        return b, a

    def put(self, vector: NDArray[np.float32], b: Float64, a: Float64) -> None:
        """Write both into `vector`."""
        vector[self.a : self.a + a.size] = a.ravel()
        vector[self.b : self.b + b.size] = b.ravel()


@dataclass(frozen=True, kw_only=True)
class Layout:
    """The vector of an adapter that shares both factors, or B alone."""

    schema: Schema

    @property
    def length(self) -> int:
        """Return d."""
        return self.schema.length

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Return the modules in the vector's order.

        Raises:
            ValueError: the adapter shares no A, or a module is narrower than its rank.
        """
        starts = dict(self._starts())
        found: list[Place] = []
        for name, shape in self.schema.shapes.items():
            if ".lora_A." not in name:
                continue
            partner = name.replace(".lora_A.", ".lora_B.")
            height, rank = self.schema.shapes[partner]
            if rank > min(height, shape[1]):
                raise ValueError(f"{name}: rank {rank} exceeds the module's {height} x {shape[1]}; lower lora.rank")
            found.append(Place(a=starts[name], b=starts[partner], rank=rank, width=shape[1], height=height))
        if 2 * len(found) != len(self.schema.shapes):
            raise ValueError("expected an A for each B in the adapter's vector")
        return tuple(found)

    def mask(self, matrices: Matrices) -> NDArray[np.bool_]:
        """Return bool[d]: which entries belong to the named factors."""
        parts = [
            np.full(int(np.prod(shape)), matrices == "AB" or f".lora_{matrices}." in name)
            for name, shape in self.schema.shapes.items()
        ]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.bool_)

    def _starts(self) -> Iterator[tuple[str, int]]:
        start = 0
        for name, shape in self.schema.shapes.items():
            yield name, start
            start += int(np.prod(shape))
