"""One linear pass of a round, and what all passes together give."""

from dataclasses import dataclass, field
from hashlib import sha256

import numpy as np

from fedcollm_secure.learning.vectors import Float32, digest


def nothing() -> Float32:
    """Return float32[0]."""
    return np.zeros(0, dtype=np.float32)


@dataclass(frozen=True, kw_only=True)
class Pass:
    """What silos are asked for: pass `number` (from 0) of a round; `basis` is empty in the first one."""

    round: int
    number: int = 0
    basis: Float32 = field(default_factory=nothing, repr=False)

    def schema_digest(self, schema: str) -> str:
        """Return what the manifest names as the meaning of the vector: the adapter's schema, and the basis if any.

        Guarantee: all silos of a sum project on the same basis; a server that showed a basis of zeros to all but one
        of them would read that one's share in the sum.
        """
        if not self.number:
            return schema
        return sha256(f"{schema}/pass {self.number}/{digest(self.basis)}".encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class Merged:
    """θ float32[d], and ‖W̄ − W_r‖_F / ‖W̄‖_F where the mean of products was cut to rank r."""

    theta: Float32
    cut_error: float | None
