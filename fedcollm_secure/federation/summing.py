"""Steps 1 to 3 of a round: name it in a manifest, ask the cohort, add up; again, with fresh keys, if silos are lost."""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto.aggregation import ServerEnd, Sum, aggregate
from fedcollm_crypto.errors import ProtocolError, TooFewSilos
from fedcollm_crypto.fixedpoint import FixedPoint
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_secure.audit.events import PartyDropped, PartyRefused, RoundStarted, RunStopped
from fedcollm_secure.audit.log import AuditLog
from fedcollm_secure.engines.engine import Engine
from fedcollm_secure.errors import FedCoLLMError, RefusedByPolicy, RunIncomplete
from fedcollm_secure.federation.attestation import Attestation
from fedcollm_secure.federation.exchange import Opening, Traffic, begin_then_step
from fedcollm_secure.federation.messages import Closed, Cosigned, Refusal
from fedcollm_secure.federation.rundir import Aggregate, RunDirectory
from fedcollm_secure.federation.stopwatch import Stopwatch
from fedcollm_secure.federation.transcript import Transcript
from fedcollm_secure.learning.vectors import digest

SUM_OPENED = "released"  # a silo's reason: it helped to open a sum for this model version, and opens no second one
STALE = "stale_head"  # a silo's reason: the proof it was shown does not begin where its memory of the log ends
ATTEMPTS = 3  # a round that lost too many silos is tried again with fresh keys and the same updates

Float32 = NDArray[np.float32]
Watch = Callable[[int, str], None]
"""Told (round, what is happening) for a person to see; never given a private value."""


class SumLost(Exception):
    """The round's sum was opened and lost in a crash; silos rightly open no second one."""


@dataclass(frozen=True, kw_only=True)
class Tools:
    """What adding up needs, the same for every round. `archive`: keep every byte that the silos sent."""

    manifest: RoundManifest  # of no round yet: round 0, attempt 0, no adapter
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


class Summing:
    """The sum of one round."""

    def __init__(self, tools: Tools, number: int, start: Float32, reference: Float32) -> None:
        """Add up round `number`, which begins from θ_t = `start`; silos hold it against `reference` if not empty."""
        self._tools = tools
        self._number = number
        self._start = start
        self._reference = reference
        self._refused: dict[str, str] = {}  # party → code of its reason
        self._reasons: dict[str, str] = {}  # and the reason in words

    def run(self, attempts: int) -> Aggregate:
        """Run up to `ATTEMPTS` attempts beyond the `attempts` that the log already holds.

        Raises:
            RefusedByPolicy, RunIncomplete: too few silos. SumLost: see there.
            ProtocolError: a sum that no honest consortium makes (`BadSum`), or a silo that dealt bad shares.
        """
        lost: TooFewSilos | None = None
        for attempt in range(attempts + 1, attempts + ATTEMPTS + 1):
            try:
                return self._attempt(attempt)
            except TooFewSilos as error:
                lost = error
                if set(self._refused.values()) - {STALE}:  # a refusal is final: asking again changes nothing
                    break
        if SUM_OPENED in self._refused.values():
            raise SumLost
        raise self._stopped(lost)

    def _attempt(self, attempt: int) -> Aggregate:
        tools = self._tools
        self._refused, self._reasons = {}, {}
        head, views = tools.attestation.show(tools.manifest.cohort)
        manifest = replace(
            tools.manifest,
            round=self._number,
            attempt=attempt,
            adapter_hash=digest(self._start),
            log_checkpoint=head.text,
            prev_result_hash=digest(self._reference) if self._reference.size else "",
        )
        transcript = self._begin(manifest)
        end = tools.make_end(manifest)
        opening = Opening(
            manifest=manifest,
            adapter=self._start,
            reference=self._reference,
            views=views,
            greet=tools.attestation.greet,
        )
        exchange = begin_then_step(tools.engine, opening, tools.traffic, self._note, transcript)
        tools.watch(self._number, "silos train and protect their updates")
        with tools.stopwatch.measure("aggregate"):
            try:
                summed = aggregate(end, exchange, manifest.cohort)
            finally:
                tools.attestation.keep()
                self._log_dropped(end)
        return self._decoded(summed, attempt, transcript)

    def _begin(self, manifest: RoundManifest) -> Transcript:
        """Log what every silo of the cohort will be asked to do."""
        tools, name = self._tools, f"{manifest.round}-{manifest.attempt}"
        tools.run.save_manifest(name, manifest)
        tools.log.append(
            RoundStarted(
                round=manifest.round,
                attempt=manifest.attempt,
                cohort=manifest.cohort,
                adapter_digest=manifest.adapter_hash,
                plan_digest=manifest.train_cfg_hash,
                manifest_digest=manifest.hash.hex(),
            )
        )
        transcript = Transcript(tools.run.archive / name if tools.archive else None)
        transcript.begin(manifest, self._start)
        return transcript

    def _decoded(self, summed: Sum, attempt: int, transcript: Transcript) -> Aggregate:
        decoded = self._tools.encoding.decode(summed)
        averaged = (self._start + decoded.mean).astype(np.float32)
        found = Aggregate(
            round=self._number,
            adapter=averaged,
            facts={
                "attempt": attempt,
                "contributors": sorted(summed.contributors),
                "total_weight": decoded.total_weight,
                "sum_digest": sha256(summed.total.tobytes()).hexdigest(),
                "averaged_digest": digest(averaged),
                "replies": transcript.digests(),
            },
        )
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

    def _stopped(self, lost: TooFewSilos | None) -> FedCoLLMError:
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
