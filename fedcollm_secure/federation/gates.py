"""Gates: what must hold of a round's result before anybody goes on from it.

| gate             | who asks         | holds when                                                                    |
|------------------|------------------|-------------------------------------------------------------------------------|
| `range`          | server           | every entry, the weight and the counter are what clipping allows (always on)  |
| `norm`           | server           | ‖mean of the updates‖₂ ≤ `gates.max_norm`                                     |
| `auxiliary_loss` | server           | the SLM's loss on the auxiliary set grew by at most `gates.max_loss_increase` |
| `trust_region`   | server and silos | B·A of what is sent back is near the aggregate's in every module              |

A gate sees the sum, the auxiliary set and the adapter that everybody gets: nothing of a single silo. What a gate lets
pass may still be poisoned: a silo moves the mean within these bounds as it likes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from fedcollm_crypto.errors import ProtocolError, Refused
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_secure.config.protection import Gates
from fedcollm_secure.learning.vectors import Float32, digest

Drift = Callable[[Float32, Float32], float]
"""The largest relative change of B·A over all modules, from one adapter to another (`Adapter.drift`)."""


class GateClosed(Exception):
    """A gate that a result did not pass; both words are codes that the log can hold."""

    def __init__(self, gate: str, reason: str) -> None:
        """Name the gate and why it is closed."""
        super().__init__(f"{gate}: {reason}")
        self.gate = gate
        self.reason = reason


def check_aggregate(gates: Gates, start: Float32, averaged: Float32, loss: Callable[[Float32], float]) -> None:
    """Hold θ_t + mean against the gates on its norm and on the auxiliary loss.

    `loss` returns the small model's loss on the auxiliary set with a given adapter; it is called only where asked for.
    Raises: GateClosed.
    """
    if gates.max_norm is not None:
        norm = float(np.linalg.norm(averaged.astype(np.float64) - start))
        _require(norm <= gates.max_norm, "norm", "above_limit")
    if gates.max_loss_increase is not None:
        increase = loss(averaged) - loss(start)
        _require(increase <= gates.max_loss_increase, "auxiliary_loss", "above_limit")  # False for NaN too


def gates_on_the_sum(gates: Gates) -> Iterator[str]:
    """Yield which gates an aggregate has passed once it is past `check_aggregate`."""
    yield "range"
    if gates.max_norm is not None:
        yield "norm"
    if gates.max_loss_increase is not None:
        yield "auxiliary_loss"


def check_distilled(gates: Gates, drift: Drift, averaged: Float32, distilled: Float32) -> None:
    """Hold what distillation made of the aggregate against the trust region. Raises: GateClosed."""
    if gates.trust_region is not None:
        near = drift(averaged, distilled) <= gates.trust_region
        _require(near, "trust_region", "above_limit")


@dataclass(frozen=True, kw_only=True)
class TrustRegion:
    """A silo's own check of what the server sends it: `limit` as in `gates.trust_region`.

    Guarantee: the adapter of round 1 is the public initial one; that of any later round is, in each module, within
    `limit` of what the log's entry that closed the round before names as its average (`averaged_digest`). That it is
    the average, whoever adds an archived round up again can tell (`verify round --recompute`), and nobody without it.
    """

    limit: float
    drift: Drift
    initial_digest: str

    def check(self, manifest: RoundManifest, adapter: Float32, reference: Float32, averaged: str) -> None:
        """Hold θ_t against the reference; `averaged` is the digest that the log names for it, empty before round 1.

        Raises: Refused for an adapter beyond the trust region; ProtocolError for another reference than the log's.
        """
        if reference.size == 0:
            if manifest.round > 1 or digest(adapter) != self.initial_digest:
                raise Refused("no_reference", "no aggregate came that this round's adapter could be held against")
            return
        named = digest(reference)
        if named != manifest.prev_result_hash or named != averaged or reference.shape != adapter.shape:
            raise ProtocolError("manifest: the reference that came is not the one that it and the log name")
        drift = self.drift(reference, adapter)
        if not drift <= self.limit:
            raise Refused("trust_region", f"a module moved by {drift:.3g} of its aggregate; {self.limit:g} is allowed")


def _require(holds: bool, gate: str, reason: str) -> None:
    if not holds:
        raise GateClosed(gate, reason)
