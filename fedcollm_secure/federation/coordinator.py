"""The coordinator: one round on one screen (Algorithm 1 with a secure sum in the middle).

1. name the round in a manifest and log it         4. the rule's mean: θ ← θ_t + mean
2. ask the cohort; silos reserve, train, protect   5. LLM and SLM teach each other on the auxiliary set
3. sum: nothing but the sum is ever seen here      6. score on public test data, close the round, log it
"""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import cast

from fedcollm_crypto.aggregation import Chunks, ServerEnd, aggregate
from fedcollm_crypto.errors import ProtocolError, TooFewSilos
from fedcollm_crypto.fixedpoint import FixedPoint
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_secure.audit.digests import folder_digest
from fedcollm_secure.audit.events import GateRejected, PartyDropped, PartyRefused, RoundClosed, RoundStarted, RunStopped
from fedcollm_secure.audit.log import AuditLog
from fedcollm_secure.engines.engine import Engine
from fedcollm_secure.errors import FedCoLLMError, RefusedByPolicy, RunIncomplete
from fedcollm_secure.federation.exchange import Traffic, begin_then_step
from fedcollm_secure.federation.messages import Begin, Close, Closed, Refusal, encode, read_reply
from fedcollm_secure.federation.release import Released, merge, narrowed, pass_manifest, require_all
from fedcollm_secure.federation.rundir import Aggregate, Json, RunDirectory
from fedcollm_secure.federation.stopwatch import Stopwatch
from fedcollm_secure.learning.adapter import Float32, digest
from fedcollm_secure.learning.factors import Pass, Rule
from fedcollm_secure.learning.pair import Pair

SUM_OPENED = "released"  # a silo's reason: it helped to open a sum for this model version, and opens no second one
ATTEMPTS = 3  # a round that lost too many silos is tried again with fresh keys and the same updates

Watch = Callable[[int, str], None]
"""Told (round, what is happening) for a person to see; never given a private value."""


@dataclass(frozen=True, kw_only=True)
class Terms:
    """What all rounds of a run have in common."""

    manifest: RoundManifest  # of no round yet: round 0, attempt 0, no adapter
    rule: Rule
    rounds: int
    evaluate_every: int
    delta: float | None  # δ of the silos' guarantee, None without one


class Coordinator:
    """The server of one run."""

    def __init__(
        self,
        *,
        terms: Terms,
        engine: Engine,
        pair: Pair,
        encoding: FixedPoint,
        make_end: Callable[[RoundManifest], ServerEnd],
        log: AuditLog,
        run: RunDirectory,
        stopwatch: Stopwatch,
        watch: Watch,
    ) -> None:
        """Take everything that a round needs; `make_end` makes the aggregation's server end for one attempt."""
        self._terms = terms
        self._engine = engine
        self._pair = pair
        self._encoding = encoding
        self._make_end = make_end
        self._log = log
        self._run = run
        self._stopwatch = stopwatch
        self._watch = watch
        self._traffic = Traffic()
        self._notes: dict[str, Closed] = {}
        self._refused: dict[str, str] = {}  # in the present round: party → code of its reason
        self._reasons: dict[str, str] = {}  # and the reason in words

    def restore(self, state: Json) -> None:
        """Go back to the last complete round, as `RunDirectory.settle` found it."""
        self._pair.load(self._run.adapters)
        spent = cast(Mapping[str, Mapping[str, float]], cast(Json, state["line"])["silos"])
        self._notes = {party: Closed(ledger="", epsilon=f"{each['epsilon']:.6f}") for party, each in spent.items()}

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

    def _zeroth(self) -> Json:
        """Score the pair before any training."""
        self._watch(0, "scoring the untrained pair")
        with self._stopwatch.measure("evaluate"):
            scores = self._pair.score()
        return self._keep(0, scores, None)

    def _round(self, number: int, attempts: int) -> Json:
        self._refused, self._reasons = {}, {}
        summed = self._run.aggregate(number) or self._sum(number, attempts)
        self._pair.slm.write(summed.adapter)  # step 4
        self._watch(number, "LLM and SLM teach each other")
        with self._stopwatch.measure("distill"):
            self._pair.co_tuning.run(number)  # step 5
            self._pair.slm.write(self._terms.rule.settle(self._pair.slm.read()))
        scores = self._scores(number)
        self._close(number)
        line = self._keep(number, scores, summed)  # step 6
        self._run.drop_aggregate()
        return line

    def _sum(self, number: int, attempts: int) -> Aggregate:
        """Run steps 1 to 4: each linear pass of the rule, all over the silos of the first."""
        start, rule, terms = self._pair.slm.read(), self._terms.rule, self._terms.manifest
        asked, counter = Pass(round=number), itertools.count(attempts + 1)
        released: list[Released] = []
        try:
            while True:
                released.append(self._insist(terms, start, asked, counter))
                if len(released) == rule.passes:
                    break
                terms = narrowed(terms, released[0].contributors)
                asked = Pass(round=number, number=len(released), basis=rule.basis(released[-1].mean))
        except TooFewSilos as lost:
            opened = bool(released) or SUM_OPENED in self._refused.values()
            if opened and self._pair.co_tuning.settings.steps:
                return self._void(number, "lost_between_passes" if released else "lost_in_a_crash")
            raise self._stopped(number, lost) from lost
        merged = merge(rule, start, released, asked)
        self._run.save_aggregate(merged)
        return merged

    def _insist(self, terms: RoundManifest, start: Float32, asked: Pass, counter: Iterator[int]) -> Released:
        """Try a pass, again with fresh keys where an attempt lost too many silos. Raises: TooFewSilos."""
        for _ in range(ATTEMPTS - 1):
            try:
                return self._attempt(terms, start, asked, next(counter))
            except TooFewSilos:
                if self._refused:  # a refusal is final: asking again changes nothing
                    raise
        return self._attempt(terms, start, asked, next(counter))

    def _void(self, number: int, reason: str) -> Aggregate:
        """Go on without this round's sum: it was opened and lost, and silos rightly open no second one.

        The server's own steps move the model on; the next round's sum is of another version.
        """
        self._log.append(GateRejected(round=number, gate="sum", reason=reason))
        facts: Json = {"contributors": [], "total_weight": 0, "sum_digest": sha256(b"").hexdigest()}
        return Aggregate(round=number, adapter=self._pair.slm.read(), facts=facts)

    def _attempt(self, terms: RoundManifest, start: Float32, asked: Pass, attempt: int) -> Released:
        manifest = pass_manifest(terms, start, asked, rule=self._terms.rule, encoding=self._encoding, attempt=attempt)
        number = manifest.round
        self._log.append(
            RoundStarted(
                round=number,
                attempt=attempt,
                cohort=manifest.cohort,
                adapter_digest=manifest.adapter_hash,
                plan_digest=manifest.train_cfg_hash,
                manifest_digest=manifest.hash.hex(),
            )
        )
        end = self._make_end(manifest)
        exchange = begin_then_step(
            self._engine,
            Begin(manifest=manifest, adapter=start, basis=asked.basis, payload=b""),
            self._traffic,
            lambda party, note: self._note(number, party, note),
        )
        self._watch(number, "silos train and protect their updates" if not asked.number else "second linear pass")
        with self._stopwatch.measure("aggregate"):
            try:
                summed = aggregate(end, exchange, manifest.cohort)  # steps 2 and 3
            finally:
                self._log_dropped(number, end)
            return require_all(Released.read(summed, self._encoding), manifest)

    def _scores(self, number: int) -> Mapping[str, object]:
        if number % self._terms.evaluate_every and number != self._terms.rounds:
            return {}
        self._watch(number, "scoring on public test data")
        with self._stopwatch.measure("evaluate"):
            return self._pair.score()

    def _close(self, number: int) -> None:
        """Tell the silos that the round has its result; they mark their ledgers and say where those stand."""
        note = Close(session=self._terms.manifest.session_id, round=number, adapter=digest(self._pair.slm.read()))
        message = encode(note)
        for party, chunks in self._engine.exchange(dict.fromkeys(self._terms.manifest.cohort, message)):
            reply = _opened(chunks)
            if isinstance(reply, Closed):
                self._notes[party] = reply
            self._traffic.down += len(message)

    def _note(self, number: int, party: str, note: Refusal | Closed | ProtocolError) -> None:
        """Log a silo's refusal, or that its reply was none."""
        if isinstance(note, Refusal):
            self._refuse(number, party, note.reason_code, note.reason)
        else:
            self._log.append(PartyDropped(round=number, party=party, reason_code="malformed_reply"))

    def _log_dropped(self, number: int, end: ServerEnd) -> None:
        for party, reason in end.dropped.items():
            if party in end.refused:
                self._refuse(number, party, end.refused[party], reason)
            elif party not in self._refused:
                self._log.append(PartyDropped(round=number, party=party, reason_code="left_the_round"))

    def _refuse(self, number: int, party: str, code: str, reason: str) -> None:
        self._refused[party] = code = _code(code)
        self._reasons[party] = reason
        self._log.append(PartyRefused(round=number, party=party, reason_code=code))

    def _stopped(self, number: int, lost: TooFewSilos | None) -> FedCoLLMError:
        """Log a clean stop and return the error that ends the run."""
        exhausted = "budget_exhausted" in self._refused.values()
        reason = "budget_exhausted" if exhausted else "too_few_silos"
        self._log.append(RunStopped(reason=reason, rounds_done=number - 1))
        reasons = [f"  {party}: {reason}" for party, reason in self._reasons.items()]
        text = "\n".join([f"round {number} did not start: {lost}", *reasons, f"{number - 1} rounds are kept."])
        return RefusedByPolicy(text) if exhausted else RunIncomplete(text)

    def _keep(self, number: int, scores: Mapping[str, object], summed: Aggregate | None) -> Json:
        """Write adapters, log and metrics so that a crash between any two can be mended (`RunDirectory.settle`)."""
        fresh = self._run.begin_adapters()
        self._pair.save(fresh)
        line: Json = {
            "round": number,
            **scores,
            "seconds": self._stopwatch.lap(),
            "bytes": self._traffic.lap(),
            "silos": self._spent(),
        }
        if summed is not None and summed.facts.get("cut_error") is not None:
            line = {**line, "cut_error": summed.facts["cut_error"]}
        self._run.seal_adapters({"round": number, "line": line})
        if summed is not None:
            self._log.append(self._closed(number, summed, fresh))
        self._run.swap_adapters()
        self._run.append_metrics(line)
        return line

    def _closed(self, number: int, summed: Aggregate, fresh: Path) -> RoundClosed:
        facts = summed.facts
        return RoundClosed(
            round=number,
            contributors=tuple(cast(Sequence[str], facts["contributors"])),
            total_weight=cast(int, facts["total_weight"]),
            sum_digest=cast(str, facts["sum_digest"]),
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
            for party in self._terms.manifest.cohort
        }


def _opened(chunks: Chunks) -> Iterator[bytes] | Refusal | Closed | None:
    try:
        return read_reply(chunks)
    except ProtocolError:
        return None


def _code(text: str) -> str:
    """Return a code that the log can hold, whatever a silo sent."""
    return text if re.fullmatch(r"[a-z][a-z0-9_]{0,63}", text) else "unreadable_reason"
