"""Hold what the log says of its sums against itself: no line can be left out, added, moved or bent unseen.

An attempt's lines, in their order; all of them stand before the next attempt begins, and before the round closes:

round_started   the round after the last that was closed; attempts count from 1, none is left out; nobody who was
                convicted before is asked
stage_answered  in the order of the exchanges that the run's aggregation has (`attempt_stages`). What is accepted is
                among what was answered. In the silos' stages only those answer whom the silos' stage before accepted,
                in the first one only the cohort; in the decryptor's only the decryptor. So the accepted only get fewer.
                What opens a sum, a share or the decryptor, is asked for after its sum_agreed alone
sum_agreed      once, from the attempt's adapter, when all stages before it have an answer that counts. It is over the
                silos whose vectors were accepted; under ckks, where the decryptor may refuse one, over some of them
sum_decrypted   under encryption alone: once, of the pass in sum_agreed, after the decryptor answered the exchange that
                opens the sum (`openings` holds it to the statement)
party_…         who left, refused or was convicted: of the round that is open, after its first attempt began; convicted
                is a silo of the attempt that is under way, and its sum is not over it
gate_…          one on the sum speaks once the last attempt's is open: each stage answered, agreed to, decrypted
round_summed    every stage of the aggregation has an answer that counts; a sum was agreed to, and under encryption
                decrypted; whoever was asked and is not in the sum has a party_… line since the attempt began. The
                digest of each party's replies is that over the party's digests in the stages

A round closes once, in turn, after at least one attempt, all of them from one adapter, and from what the round before
left behind.
  with a sum    the last attempt is summed; the summed attempts are the passes 0, 1, … over the same silos, with one
                average; those silos are the contributors, each with a weight of 1 at least
  without one   no contributors, no weight, the digest of nothing
  either way    the gates say so (`logged_gates`); `averaged_digest` is the average's, or, where there is none or a gate
                threw it away, that of the round before: a round without a sum moves no reference. The manifests of the
                next round name it too

A run stops, and is resumed, with as many rounds as are closed, under one configuration. In the clear nobody agrees.
"""

from collections.abc import Sequence
from hashlib import sha256

from fedcollm_secure.audit_log.attempt_stages import PROTOCOLS, Protocol
from fedcollm_secure.audit_log.events import (
    GatePassed,
    GateRejected,
    PartyConvicted,
    PartyDropped,
    PartyRefused,
    RoundClosed,
    RoundStarted,
    RoundSummed,
    RunResumed,
    RunStarted,
    RunStopped,
    StageAnswered,
    SumAgreed,
    SumDecrypted,
)
from fedcollm_secure.audit_log.log_entry import Entry
from fedcollm_secure.audit_log.logged_attempt import Attempt
from fedcollm_secure.audit_log.logged_gates import Gates, speaks_of_a_sum
from fedcollm_secure.errors import LogError

NOTHING_SUMMED = sha256(b"").hexdigest()


def check_sums(entries: Sequence[Entry]) -> None:
    """Check each line that speaks of a round. Raises: LogError with the entry that does not fit."""
    started = entries[0].event if entries else None
    if not isinstance(started, RunStarted):
        return  # no beginning: `run_verification` says so
    protocol = PROTOCOLS.get(started.aggregation)
    if protocol is None:
        raise LogError(f"{started.aggregation} is no aggregation of this program: {', '.join(PROTOCOLS)}", 0)
    run = _Run(started, protocol)
    for entry in entries:
        run.take(entry)


class _Run:
    """The run so far: its closed rounds, and the round that is open, each attempt of it once."""

    def __init__(self, started: RunStarted, protocol: Protocol) -> None:
        self._started = started
        self._protocol = protocol
        self._closed = 0
        self._average = ""  # that closed the last round
        self._adapter = ""  # that it left behind
        self._convicted: set[str] = set()
        self._attempts: list[Attempt] = []  # of the open round
        self._gates = Gates()

    def take(self, entry: Entry) -> None:
        index = entry.index
        match entry.event:
            case RoundStarted() as one:
                self._begin(one, index)
            case StageAnswered() as one:
                self._attempt(one, "a stage", index).answer(one, index)
            case SumAgreed() as one:
                self._attempt(one, "silos agreed to a sum", index).agree(one, index)
            case SumDecrypted() as one:
                self._attempt(one, "a sum", index).decrypt(one, index)
            case RoundSummed() as one:
                self._summed(one, index).sum_up(one, index)
            case PartyDropped() | PartyRefused() | PartyConvicted() as one:
                self._lose(one, index)
            case GatePassed() | GateRejected() as one:
                self._require_open(one.round, index)
                if speaks_of_a_sum(one):
                    self._attempts[-1].judge(f"the gate {one.gate} spoke of a sum", index)
                self._gates.take(one)
            case RoundClosed() as one:
                self._close(one, index)
            case RunStopped() | RunResumed() as one:
                self._hold(one, index)
            case _:
                pass

    def _begin(self, one: RoundStarted, index: int) -> None:
        if (one.round, one.attempt) != (self._closed + 1, len(self._attempts) + 1):
            raise LogError(
                f"round {one.round}, attempt {one.attempt} begins out of turn, after {self._closed} closed rounds and "
                f"{len(self._attempts)} attempts",
                index,
            )
        if guilty := self._convicted & set(one.cohort):
            raise LogError(f"round {one.round} asks {min(guilty)}, who was convicted before", index)
        self._attempts.append(Attempt(one, self._protocol))
        self._gates.begin_again()

    def _attempt(
        self, one: StageAnswered | SumAgreed | SumDecrypted | PartyConvicted, what: str, index: int
    ) -> Attempt:
        """Return the attempt that a line is of: the one that is under way."""
        if not self._attempts or (one.round, one.attempt) != (self._closed + 1, len(self._attempts)):
            raise LogError(f"{what} of round {one.round}, attempt {one.attempt}, which never began, or is over", index)
        return self._attempts[-1]

    def _summed(self, one: RoundSummed, index: int) -> Attempt:
        self._require_open(one.round, index)
        if not 1 <= one.attempt <= len(self._attempts):
            raise LogError(f"round {one.round}, attempt {one.attempt} was summed, and never began", index)
        return self._attempts[one.attempt - 1]

    def _lose(self, one: PartyDropped | PartyRefused | PartyConvicted, index: int) -> None:
        self._require_open(one.round, index)
        self._attempts[-1].lost.add(one.party)
        if isinstance(one, PartyConvicted):
            self._convicted.add(one.party)
            self._attempt(one, "a silo is convicted", index).convict(one.party, index)

    def _require_open(self, number: int, index: int) -> None:
        if not self._attempts or number != self._closed + 1:
            raise LogError(f"something is said of round {number}, which is not under way", index)

    def _hold(self, one: RunStopped | RunResumed, index: int) -> None:
        if one.rounds_done != self._closed:
            raise LogError(f"the run stood at {self._closed} closed rounds, and the log says {one.rounds_done}", index)
        if isinstance(one, RunResumed) and one.config_digest != self._started.config_digest:
            raise LogError("the run was resumed under another configuration", index)

    def _close(self, closed: RoundClosed, index: int) -> None:
        if not self._attempts or closed.round != self._closed + 1:
            raise LogError(f"round {closed.round} is closed, and no attempt at it began", index)
        summed = [attempt for attempt in self._attempts if attempt.summed]
        if summed:
            self._check_passes(summed, closed, index)
        elif closed.contributors or closed.total_weight or closed.sum_digest != NOTHING_SUMMED:
            raise LogError(
                f"round {closed.round} is closed with contributors, and none of its attempts was summed", index
            )
        self._check_average(summed, closed, index)
        if self._adapter not in ("", closed.adapter_before):
            raise LogError(f"round {closed.round} is closed from another adapter than the round before left", index)
        self._gates.check(closed.round, index, summed=bool(summed))
        self._closed, self._average, self._attempts = closed.round, closed.averaged_digest, []
        self._adapter = closed.adapter_after
        self._gates.begin_again()

    def _check_passes(self, summed: Sequence[Attempt], closed: RoundClosed, index: int) -> None:
        contributors = frozenset(closed.contributors)
        if any(attempt.survivors != contributors for attempt in summed):
            raise LogError(f"round {closed.round} is closed over other silos than those that agreed", index)
        if closed.total_weight < len(contributors):
            raise LogError(f"round {closed.round} is closed with a weight of less than 1 for each silo in it", index)
        if not self._attempts[-1].summed:
            raise LogError(f"round {closed.round} is closed with a sum, and not with its last attempt's", index)
        if self._protocol.agrees and [attempt.linear_pass for attempt in summed] != list(range(len(summed))):
            raise LogError(f"round {closed.round} is closed, and not each of its passes was summed once", index)
        if len({attempt.summed.averaged_digest for attempt in summed if attempt.summed}) > 1:
            raise LogError(f"the passes of round {closed.round} come to two averages", index)

    def _check_average(self, summed: Sequence[Attempt], closed: RoundClosed, index: int) -> None:
        """Hold what closes a round against what came out; without a sum the last average stands."""
        adapters = {attempt.started.adapter_digest for attempt in self._attempts}
        if len(adapters) > 1:
            raise LogError(f"round {closed.round} began from two adapters: one model version makes a round", index)
        average = self._average or self._attempts[-1].started.adapter_digest
        if summed and summed[-1].summed and not self._gates.rejected:
            average = summed[-1].summed.averaged_digest
        if closed.averaged_digest != average:
            raise LogError(
                f"round {closed.round} is closed with another average than the one that came out: silos would hold the "
                "next adapter against a reference of the server's own choice",
                index,
            )


def averages(entries: Sequence[Entry]) -> dict[int, str]:
    """Return, by round, the digest of what the model was distilled from when that round closed."""
    return {entry.event.round: entry.event.averaged_digest for entry in entries if isinstance(entry.event, RoundClosed)}
