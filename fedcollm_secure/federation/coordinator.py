"""The coordinator of a run: Algorithm 1 with a secure sum in the middle; it holds both models and public data.

Begin   1. name the round in a manifest and log it
        2. ask the cohort; silos reserve, train, protect
Step    3. … until the sum is there: nothing but the sum is ever seen here (`summing`)
        4. the rule's mean: θ ← θ_t + mean, if it passes the gates
        5. LLM and SLM teach each other on the auxiliary set
Close   6. score on public test data, close the round, log it
Show       have the log's last head cosigned
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto.aggregation import Chunks
from fedcollm_crypto.errors import BadSum, ProtocolError
from fedcollm_secure.audit_log.events import GatePassed, GateRejected, RoundClosed, RoundSummed, RunStopped
from fedcollm_secure.audit_log.file_digests import folder_digest
from fedcollm_secure.config.protection import Gates
from fedcollm_secure.errors import RunIncomplete
from fedcollm_secure.federation.gates import GateClosed, check_aggregate, check_distilled, gates_on_the_sum
from fedcollm_secure.federation.messages import Close, encode
from fedcollm_secure.federation.replies import Closed, Reply, read_reply
from fedcollm_secure.federation.run_directory import Aggregate, Json
from fedcollm_secure.federation.summing import SumLost, Summing, Tools
from fedcollm_secure.learning.pair import Pair
from fedcollm_secure.learning.vectors import digest

NOTHING = np.zeros(0, dtype=np.float32)
EMPTY_DIGEST = sha256(b"").hexdigest()


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What all rounds of a run have in common."""

    rounds: int
    evaluate_every: int
    delta: float | None  # δ of the silos' guarantee, None without one
    gates: Gates


class Coordinator:
    """The server of one run."""

    def __init__(self, *, terms: Terms, tools: Tools, pair: Pair) -> None:
        """Take everything that a round needs."""
        self._terms = terms
        self._tools = tools
        self._pair = pair
        self._log, self._run = tools.log, tools.run
        self._stopwatch, self._watch = tools.stopwatch, tools.watch
        self._cohort = tools.manifest.cohort
        self._notes: dict[str, Closed] = {}
        self._convicted: frozenset[str] = frozenset()

    def restore(self, state: Json, ledgers: Mapping[str, str], convicted: frozenset[str]) -> None:
        """Go back to the last complete round, as `RunDirectory.settle` found it; the log committed to `ledgers`.

        Whom the log names `convicted` of bad dealing is left out of what follows.
        """
        self._convicted = convicted
        self._pair.load(self._run.adapters)
        spent = cast(Mapping[str, Mapping[str, float]], cast(Json, state["line"])["silos"])
        self._notes = {
            party: Closed(ledger=ledgers.get(party, ""), epsilon=f"{each['epsilon']:.6f}")
            for party, each in spent.items()
        }

    def rounds(self, done: int | None, attempts: Mapping[int, int]) -> Iterator[Json]:
        """Yield each round's line of metrics, round 0 first; `done` rounds of an earlier run stay as they are.

        `attempts` says how many attempts at a round the log already holds.

        Raises:
            RefusedByPolicy: silos whose budget is exhausted leave too few.
            RunIncomplete: too few silos for another reason. In both cases all complete rounds are kept.
        """
        if done is None:
            yield self._zeroth()
        for number in range((done or 0) + 1, self._terms.rounds + 1):
            yield self._round(number, attempts.get(number, 0))

    def attest(self) -> int:
        """Have the log's last head cosigned, so that nobody can cut its tail off; return by how many silos."""
        return self._tools.attestation.close(self._cohort)

    def _zeroth(self) -> Json:
        """Score the pair before any training."""
        self._watch(0, "scoring the untrained pair")
        with self._stopwatch.measure("evaluate"):
            scores = self._pair.score()
        return self._keep(0, scores, None)

    def _round(self, number: int, attempts: int) -> Json:
        summed = self._gated(number, self._run.aggregate(number) or self._sum(number, attempts))  # (1) to (4)
        self._pair.slm.write(summed.adapter)
        self._watch(number, "LLM and SLM teach each other")
        with self._stopwatch.measure("distill"):
            self._pair.co_tuning.run(number)  # (5)
        self._hold_to(number, self._reference(summed))
        self._pair.slm.write(self._tools.rule.settle(self._pair.slm.read()))
        scores = self._scores(number)  # (6)
        self._close(number)
        line = self._keep(number, scores, summed)
        self._run.drop_aggregate()
        return line

    def _sum(self, number: int, attempts: int) -> Aggregate:
        held = self._run.reference() if self._terms.gates.trust_region is not None else NOTHING
        summing = Summing(self._tools, number, self._pair.slm.read(), held, self._convicted)
        try:
            return summing.run(attempts, moves_on=bool(self._pair.co_tuning.settings.steps))
        except SumLost as lost:
            return self._void(number, GateClosed("sum", str(lost)))
        except BadSum as error:
            return self._void(number, GateClosed("range", error.reason_code))
        finally:
            self._convicted = summing.convicted

    def _gated(self, number: int, summed: Aggregate) -> Aggregate:
        """Return the sum if it passes the gates, else the adapter that the round began from, with the sum's facts."""
        start = self._pair.slm.read()
        try:
            check_aggregate(self._terms.gates, start, summed.adapter, self._auxiliary_loss)
        except GateClosed as closed:
            return replace(self._void(number, closed), facts=summed.facts)
        finally:
            self._pair.slm.write(start)
        if summed.is_average:
            for gate in gates_on_the_sum(self._terms.gates):
                self._log.append(GatePassed(round=number, gate=gate))
        return summed

    def _auxiliary_loss(self, adapter: NDArray[np.float32]) -> float:
        self._pair.slm.write(adapter)
        return self._pair.co_tuning.slm_loss()

    def _hold_to(self, number: int, averaged: NDArray[np.float32]) -> None:
        """Send back the aggregate itself where distillation took the adapter beyond the trust region."""
        try:
            check_distilled(self._terms.gates, self._pair.slm.drift, averaged, self._pair.slm.read())
        except GateClosed as closed:
            self._log.append(GateRejected(round=number, gate=closed.gate, reason=closed.reason))
            self._pair.slm.write(averaged)
            return
        if self._terms.gates.trust_region is not None:
            self._log.append(GatePassed(round=number, gate="trust_region"))

    def _scores(self, number: int) -> Mapping[str, object]:
        if number % self._terms.evaluate_every and number != self._terms.rounds:
            return {}
        self._watch(number, "scoring on public test data")
        with self._stopwatch.measure("evaluate"):
            return self._pair.score()

    def _close(self, number: int) -> None:
        """Tell the silos that the round has its result; they mark their ledgers and say where those stand."""
        note = Close(session=self._tools.manifest.session_id, round=number, adapter=digest(self._pair.slm.read()))
        message = encode(note)
        for party, chunks in self._tools.engine.exchange(dict.fromkeys(self._cohort, message)):
            reply = _opened(chunks)
            if isinstance(reply, Closed):
                self._notes[party] = reply
            self._tools.traffic.down += len(message)

    def _keep(self, number: int, scores: Mapping[str, object], summed: Aggregate | None) -> Json:
        """Write adapters, log and metrics so that a crash between any two can be mended (`RunDirectory.settle`)."""
        fresh = self._run.begin_adapters()
        self._pair.save(fresh)
        reference = None if summed is None else self._reference(summed)
        if reference is not None:
            self._run.save_reference(reference)
        line: Json = {
            "round": number,
            **scores,
            "seconds": self._stopwatch.lap(),
            "bytes": self._tools.traffic.lap(),
            "silos": self._spent(),
        }
        if summed is not None and summed.facts.get("cut_error") is not None:
            line = {**line, "cut_error": summed.facts["cut_error"]}
        self._run.seal_adapters({"round": number, "line": line})
        if summed is not None and reference is not None:
            for event in _summed(number, summed.facts):
                self._log.append(event)
            self._log.append(self._closed(number, summed, digest(reference), fresh))
        self._run.swap_adapters()
        self._run.append_metrics(line)
        return line

    def _closed(self, number: int, summed: Aggregate, averaged: str, fresh: Path) -> RoundClosed:
        facts = summed.facts
        return RoundClosed(
            round=number,
            contributors=tuple(cast(Sequence[str], facts.get("contributors", ()))),
            total_weight=cast(int, facts.get("total_weight", 0)),
            sum_digest=cast(str, facts.get("sum_digest", EMPTY_DIGEST)),
            averaged_digest=averaged,
            adapter_before=folder_digest(self._run.adapters / "slm"),
            adapter_after=folder_digest(fresh / "slm"),
            llm_adapter_digest=folder_digest(fresh / "llm"),
            ledgers={party: note.ledger for party, note in self._notes.items() if note.ledger},
            epsilon={party: note.epsilon for party, note in self._notes.items() if note.epsilon},
        )

    def _spent(self) -> Json:
        if self._terms.delta is None:
            return {}
        return {
            party: {
                "epsilon": float(self._notes[party].epsilon) if party in self._notes else 0.0,
                "delta": self._terms.delta,
            }
            for party in self._cohort
        }

    def _void(self, number: int, closed: GateClosed) -> Aggregate:
        """Go on from the last good adapter, without this round's sum; the log says why.

        Silos open one sum for one model version. The server's own steps move the model on, and the next round's sum is
        of another version; where it takes none, the run ends.
        """
        self._log.append(GateRejected(round=number, gate=closed.gate, reason=closed.reason))
        if not self._pair.co_tuning.settings.steps:
            self._log.append(RunStopped(reason="sum_rejected", rounds_done=number - 1))
            raise RunIncomplete(f"round {number} gave no sum to go on with ({closed}); earlier rounds are kept")
        return Aggregate(round=number, adapter=self._pair.slm.read(), facts={}, is_average=False)

    def _reference(self, summed: Aggregate) -> NDArray[np.float32]:
        """Return what the next adapter is held against: this round's average, else the last one that there was."""
        last = self._run.reference()
        return summed.adapter if summed.is_average or not last.size else last


def _summed(number: int, facts: Json) -> Iterator[RoundSummed]:
    """Yield what the log says of each linear pass that was released; nothing where no sum came out."""
    for each in cast(Sequence[Json], facts.get("passes", ())):
        yield RoundSummed(
            round=number,
            attempt=cast(int, each["attempt"]),
            averaged_digest=cast(str, facts["averaged_digest"]),
            is_mean=cast(bool, facts["is_mean"]),
            replies=cast(Mapping[str, str], each["replies"]),
        )


def _opened(chunks: Chunks) -> Reply | None:
    try:
        return read_reply(chunks)
    except ProtocolError:
        return None
