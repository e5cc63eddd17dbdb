"""Steps 1 to 4 of a round: name it, ask the cohort, add up, merge; again, with fresh keys, if silos are lost.

A rule with several linear passes takes one sum for each, all over the silos of the first.
"""

import itertools
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np

from fedcollm_crypto.aggregation import ServerEnd, aggregate
from fedcollm_crypto.errors import ProtocolError, TooFewSilos
from fedcollm_crypto.fixedpoint import FixedPoint
from fedcollm_crypto.masking.conviction import BadDealing, Guilty
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_secure.audit_log.events import (
    PartyConvicted,
    PartyDropped,
    PartyRefused,
    RoundStarted,
    RunStopped,
)
from fedcollm_secure.audit_log.log import AuditLog
from fedcollm_secure.engines.engine import Engine
from fedcollm_secure.errors import FedCoLLMError, RefusedByPolicy, RunIncomplete
from fedcollm_secure.federation.attempt_log import AttemptLog
from fedcollm_secure.federation.attestation import Attestation
from fedcollm_secure.federation.exchange import Opening, Traffic, begin_then_step
from fedcollm_secure.federation.released_sum import Released, merge, over, pass_manifest, require_all
from fedcollm_secure.federation.replies import Closed, Cosigned, Refusal
from fedcollm_secure.federation.run_directory import Aggregate, RunDirectory
from fedcollm_secure.federation.stopwatch import Stopwatch
from fedcollm_secure.federation.transcript import Transcript
from fedcollm_secure.learning.factors import Pass, Rule
from fedcollm_secure.learning.vectors import Float32, digest

SUM_OPENED = {"released", "other_set"}  # a silo's reasons: it helped to open a sum of this model version, over others
STALE = "stale_head"  # a silo's reason: the proof it was shown does not begin where its memory of the log ends
ATTEMPTS = 3  # a round that lost too many silos is tried again with fresh keys and the same updates

Watch = Callable[[int, str], None]
"""Told (round, what is happening) for a person to see; never given a private value."""


class SumLost(Exception):
    """A sum was opened and lost; silos rightly open no second one. Its text is a code that the log can hold."""


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What adding up needs, the same for every round.

    `archive`: keep every byte that the silos sent. `decryptor`: its name, empty where nothing is encrypted.
    """

    manifest: RoundManifest  # of no round yet: round 0, attempt 0, no adapter
    decryptor: str
    rule: Rule
    engine: Engine
    encoding: FixedPoint
    make_end: Callable[[RoundManifest], ServerEnd]
    log: AuditLog
    run: RunDirectory
    attestation: Attestation
    traffic: Traffic
    stopwatch: Stopwatch
    watch: Watch
    archive: bool


@dataclass(frozen=True, kw_only=True)
class _Told:
    """What the log says of the attempt that released a pass: its number, and a digest of each silo's replies."""

    attempt: int
    replies: Mapping[str, str]


class Summing:
    """The sum of one round."""

    def __init__(
        self, tools: Tools, number: int, start: Float32, reference: Float32, convicted: frozenset[str] = frozenset()
    ) -> None:
        """Add up round `number`, which begins from θ_t = `start`; silos hold it against `reference` if not empty.

        Silos that were `convicted` before are left out.
        """
        self._tools = tools
        self._number = number
        self._start = start
        self._reference = reference
        self._refused: dict[str, str] = {}  # in the present attempt: party → code of its reason
        self._reasons: dict[str, str] = {}  # and the reason in words
        self._told: list[_Told] = []  # of each pass
        self._convicted = convicted
        self._agreed: frozenset[str] = frozenset()  # in the present attempt: over whom the sum is to be opened
        self._proofs: list[bytes] = []  # of whom was convicted in this round

    @property
    def convicted(self) -> frozenset[str]:
        """Return who is known by now to have dealt bad shares."""
        return self._convicted

    def run(self, attempts: int, *, moves_on: bool) -> Aggregate:
        """Take each linear pass of the rule, beyond the `attempts` that the log already holds.

        `moves_on`: the server's own steps can take the model on where a sum was opened and lost.
        Raises:
            RefusedByPolicy, RunIncomplete: too few silos. SumLost: see there.
            ProtocolError: a sum that no honest consortium makes (`BadSum`), or a silo that dealt bad shares.
        """
        rule, silos = self._tools.rule, frozenset(self._tools.manifest.cohort)
        asked, counter = Pass(round=self._number), itertools.count(attempts + 1)
        released: list[Released] = []
        try:
            while True:
                released.append(self._insist(silos, asked, counter))
                if len(released) == rule.passes:
                    break
                silos = released[0].contributors
                asked = Pass(round=self._number, number=len(released), basis=rule.basis(released[-1].mean))
        except TooFewSilos as lost:
            if moves_on and (released or SUM_OPENED & set(self._refused.values())):
                raise SumLost("lost_between_passes" if released else "lost_in_a_crash") from lost
            raise self._stopped(lost) from lost
        return self._merged(released, asked)

    def _insist(self, silos: frozenset[str], asked: Pass, counter: Iterator[int]) -> Released:
        """Try a pass, again with fresh keys where an attempt lost too many silos, or convicted one.

        A silo is convicted where a sum could not be opened. The others open it again, over exactly those who were in it
        and are not convicted; what they send is what they sent.
        Raises: TooFewSilos.
        """
        tried = 0
        while True:
            try:
                return self._attempt(silos, asked, next(counter))
            except Guilty as guilty:
                if asked.number:
                    raise TooFewSilos("second pass", needed=len(silos), left=len(silos) - 1, dropped={}) from guilty
                silos = (self._agreed or silos) - self._convicted
            except TooFewSilos:
                tried += 1
                if tried == ATTEMPTS or set(self._refused.values()) - {STALE}:
                    raise  # any other refusal is final: asking again changes nothing

    def _attempt(self, silos: frozenset[str], asked: Pass, attempt: int) -> Released:
        tools = self._tools
        self._refused, self._reasons, self._agreed = {}, {}, frozenset()
        terms = over(tools.manifest, silos - self._convicted)
        self._require_reachable(terms)
        head, views = tools.attestation.show(terms.cohort)
        manifest = replace(
            pass_manifest(terms, self._start, asked, rule=tools.rule, encoding=tools.encoding, attempt=attempt),
            log_checkpoint=head.text,
            prev_result_hash=digest(self._reference) if self._reference.size else "",
        )
        if tools.decryptor:
            tools.attestation.tell(tools.decryptor)
        transcript = self._begin(manifest)
        end = tools.make_end(manifest)
        attempt_log = AttemptLog(
            log=tools.log,
            run=tools.run,
            attestation=tools.attestation,
            decryptor=tools.decryptor,
            manifest=manifest,
            end=end,
            transcript=transcript,
        )
        opening = Opening(
            cohort=manifest.cohort,
            proofs=tuple(self._proofs),
            adapter=self._start,
            basis=asked.basis,
            reference=self._reference,
            views=views,
            greet=tools.attestation.greet,
        )
        exchange = begin_then_step(tools.engine, opening, tools.traffic, self._note, transcript)
        tools.watch(self._number, "silos train and protect their updates" if not asked.number else "second linear pass")
        with tools.stopwatch.measure("aggregate"):
            try:
                summed = aggregate(end, attempt_log.following(exchange), manifest.cohort)
            finally:
                tools.attestation.keep()
                self._agreed = attempt_log.agreed
                attempt_log.close()
                self._log_dropped(end)
                self._log_convicted(manifest, end)
            released = require_all(Released.read(summed, tools.encoding), manifest)
        self._told.append(_Told(attempt=attempt, replies=transcript.digests()))
        return released

    def _require_reachable(self, terms: RoundManifest) -> None:
        """Wait for the silos before an attempt is spent on them. Raises: TooFewSilos."""
        here = self._tools.engine.wait(terms.cohort, terms.floor)
        if len(here) < terms.floor:
            away = dict.fromkeys(sorted(set(terms.cohort) - here), "cannot be reached")
            raise TooFewSilos("reaching the silos", needed=terms.floor, left=len(here), dropped=away)

    def _log_convicted(self, manifest: RoundManifest, end: ServerEnd) -> None:
        """Keep each proof beside the log, which names it."""
        for party, proof in end.convictions.items():
            if party in self._convicted:
                continue
            self._convicted |= {party}
            self._proofs.append(proof)
            event = PartyConvicted(
                round=manifest.round,
                attempt=manifest.attempt,
                party=party,
                fault=BadDealing.decode(proof).fault,
                proof_digest=sha256(proof).hexdigest(),
            )
            self._tools.run.save_proof(event.proof_digest, proof)
            self._tools.log.append(event)

    def _begin(self, manifest: RoundManifest) -> Transcript:
        """Log what every silo of the cohort will be asked to do."""
        tools, name = self._tools, f"{manifest.round}-{manifest.attempt}"
        tools.run.save_manifest(name, manifest)
        tools.log.append(RoundStarted.of(manifest))
        transcript = Transcript(tools.run.archive / name if tools.archive else None)
        transcript.begin(manifest, self._start)
        return transcript

    def _merged(self, released: list[Released], asked: Pass) -> Aggregate:
        merged = merge(self._tools.rule, self._start, released, asked)
        name = digest(merged.adapter)
        mean = released[-1].mean
        is_mean = len(released) == 1 and mean.shape == self._start.shape
        is_mean = is_mean and digest((self._start + mean).astype(np.float32)) == name
        passes = [{"attempt": one.attempt, "replies": dict(one.replies)} for one in self._told]
        facts = {**merged.facts, "averaged_digest": name, "is_mean": is_mean, "passes": passes}
        found = replace(merged, facts=facts)
        self._tools.run.save_aggregate(found)
        return found

    def _note(self, party: str, note: Refusal | Closed | Cosigned | ProtocolError) -> None:
        """Log a silo's refusal, or that its reply was none."""
        if isinstance(note, Refusal):
            self._refuse(party, note.reason_code, note.reason)
        else:
            self._tools.log.append(PartyDropped(round=self._number, party=party, reason_code="malformed_reply"))

    def _log_dropped(self, end: ServerEnd) -> None:
        for party, reason in end.dropped.items():
            if party in end.refused:
                self._refuse(party, end.refused[party], reason)
            elif party not in self._refused:
                self._tools.log.append(PartyDropped(round=self._number, party=party, reason_code="left_the_round"))

    def _refuse(self, party: str, code: str, reason: str) -> None:
        self._refused[party] = code = _code(code)
        self._reasons[party] = reason
        self._tools.log.append(PartyRefused(round=self._number, party=party, reason_code=code))

    def _stopped(self, lost: TooFewSilos) -> FedCoLLMError:
        """Log a clean stop and return the error that ends the run."""
        done = self._number - 1
        exhausted = "budget_exhausted" in self._refused.values()
        self._tools.log.append(
            RunStopped(reason="budget_exhausted" if exhausted else "too_few_silos", rounds_done=done)
        )
        reasons = [f"  {party}: {reason}" for party, reason in self._reasons.items()]
        text = "\n".join([f"round {self._number} did not start: {lost}", *reasons, f"{done} rounds are kept."])
        return RefusedByPolicy(text) if exhausted else RunIncomplete(text)


def _code(text: str) -> str:
    """Return a code that the log can hold, whatever a silo sent."""
    return text if re.fullmatch(r"[a-z][a-z0-9_]{0,63}", text) else "unreadable_reason"
