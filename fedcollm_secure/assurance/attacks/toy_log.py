"""The lines that an honest server writes of a masked round, in their order: for logs that lie in one of them alone."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from fedcollm_secure.assurance.attacks.toy_region import DIGEST
from fedcollm_secure.audit_log.events import (
    Event,
    GatePassed,
    GateRejected,
    RoundClosed,
    RoundStarted,
    RoundSummed,
    StageAnswered,
    SumAgreed,
)

STAGES = (1, 2, 3, 5, 6, 7)  # the fourth is asked of dealers whom somebody accuses
BEFORE_THE_SUM = STAGES[:-1]


@dataclass(frozen=True, kw_only=True)
class ToyRound:
    """A round with one attempt, from `adapter` to `averaged` (digests), closed with `closed_with`."""

    cohort: tuple[str, ...]
    adapter: str = DIGEST
    averaged: str = DIGEST
    closed_with: str = DIGEST
    total_weight: int = 1

    def lines(self) -> Sequence[Event]:
        """Return the lines of the round, all silos of the cohort being in its sum."""
        over = hashlib.sha256(bytes.fromhex(DIGEST) * len(STAGES)).hexdigest()
        return (
            began(1, self.cohort, self.adapter),
            *(self._stage(number) for number in BEFORE_THE_SUM),
            SumAgreed(round=1, attempt=1, linear_pass=0, adapter_digest=self.adapter, survivors=self.cohort),
            self._stage(STAGES[-1]),
            GatePassed(round=1, gate="range"),
            RoundSummed(
                round=1,
                attempt=1,
                averaged_digest=self.averaged,
                is_mean=True,
                replies=dict.fromkeys(self.cohort, over),
            ),
            closed(1, self.cohort, averaged=self.closed_with, total_weight=self.total_weight),
        )

    def _stage(self, number: int) -> StageAnswered:
        replies = dict.fromkeys(self.cohort, DIGEST)
        return StageAnswered(round=1, attempt=1, stage=number, accepted=self.cohort, replies=replies)


def began(number: int, cohort: tuple[str, ...], adapter: str = DIGEST) -> RoundStarted:
    """Return the line that begins a round's first attempt."""
    return RoundStarted(
        round=number,
        attempt=1,
        cohort=cohort,
        adapter_digest=adapter,
        plan_digest=DIGEST,
        manifest_digest=DIGEST,
    )


def gave_no_sum(number: int) -> GateRejected:
    """Return the line that says that a round's sum was lost."""
    return GateRejected(round=number, gate="sum", reason="lost_in_a_crash")


def closed(
    number: int,
    contributors: tuple[str, ...],
    *,
    averaged: str = DIGEST,
    total_weight: int = 0,
    ledgers: dict[str, str] | None = None,
) -> RoundClosed:
    """Return the line that closes a round."""
    return RoundClosed(
        round=number,
        contributors=contributors,
        total_weight=total_weight,
        sum_digest=DIGEST if contributors else hashlib.sha256(b"").hexdigest(),
        averaged_digest=averaged,
        adapter_before=DIGEST,
        adapter_after=DIGEST,
        llm_adapter_digest=DIGEST,
        ledgers=ledgers or {},
        epsilon={},
    )
