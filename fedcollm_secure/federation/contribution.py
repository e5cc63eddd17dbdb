"""What a silo gives to a round: trained once, kept on its disk, and recorded in the ledger before it can leave.

train → Δ float32[d] → the rule's share of it → integers, w times, with a share of the noise → uint64[k]
"""

from dataclasses import dataclass, field, replace
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto.aggregation import Vector
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_privacy.discrete import discrete_gaussian
from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure.errors import TrainingError
from fedcollm_secure.federation.admission import pass_of, require_nothing_sent
from fedcollm_secure.federation.messages import Begin
from fedcollm_secure.federation.open_round import Kept
from fedcollm_secure.federation.silo_setup import Budget, Learning, SiloMemory
from fedcollm_secure.federation.stopwatch import Stopwatch
from fedcollm_secure.learning.factors import Pass
from fedcollm_secure.learning.vectors import Float32


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """The vectors of one silo.

    Guarantee: no vector is returned before its release stands recorded in the ledger, and a round's vectors are
    computed once: a repeated attempt, also after a crash, sends the same integers.
    """

    name: str
    learning: Learning
    memory: SiloMemory
    budget: Budget | None
    stopwatch: Stopwatch = field(repr=False)

    def vector(self, manifest: RoundManifest, begin: Begin) -> Vector:
        """Return what the pass asks for, as integers. Raises: Refused, PrivacyError, TrainingError."""
        asked, version, pending = pass_of(manifest, begin), _version(manifest), self.memory.pending
        kept = pending.read(version)
        if kept is None:
            require_nothing_sent(self.memory.stages.entries(), manifest)
            kept = Kept(change=self._trained(begin, asked), vectors={})
        vector = kept.vectors.get(asked.number)
        if vector is None:
            learning = self.learning
            share = learning.rule.share(begin.adapter, kept.change, asked)
            vector = learning.encoding.encode(share, learning.weight, self.noise(len(share)))
            kept = replace(kept, vectors={**kept.vectors, asked.number: vector})
            pending.write(version, kept)
        if self.budget is not None:  # every pass is made from one result, which the first pass's digest stands for
            first = sha256(kept.vectors[0].tobytes()).hexdigest()
            self.budget.ledger.release(session=manifest.session_id, round=manifest.round, digest=first)
        return vector

    def noise(self, length: int) -> NDArray[np.int64] | None:
        """Return this silo's share of the noise, int64[length], where the silos share one; else None.

        It is drawn once a round, and kept with the vector that it is in.
        """
        if self.budget is None or not isinstance(self.budget.plan, SharedPlan):
            return None
        return discrete_gaussian(length, self.budget.plan.share_variance)

    def _trained(self, begin: Begin, asked: Pass) -> Float32:
        """Return Δ, float32[d]."""
        if asked.number:
            raise TrainingError(
                f"silo {self.name}: the result of round {asked.round} is gone, of which a first pass was sent; another "
                "one would not fit to it, so the round is void"
            )
        with self.stopwatch.measure("train"):
            return self.learning.learner.update(begin.adapter, asked.round)


def _version(manifest: RoundManifest) -> str:
    """Name the model version that an update belongs to: two attempts of one round share it."""
    return f"{manifest.session_id}/{manifest.round}/{manifest.adapter_hash}"
