"""A silo: everything that a client does. It holds records and a ledger; bytes come in, bytes go out.

    Begin → check the manifest → cosign the log's head, if the log only grew → hold the ledger against the last round
            that the log closed → reserve the round in the ledger → first step of the aggregation
    Step  → … the first time the aggregation asks for the vector: train → Δ → integers → record the release
    Close → mark the round done, say where the ledger stands
    Show  → cosign the head once more: the last one, so that nobody can cut the log's tail off

A silo checks for itself and refuses with a reason; it never takes the server's word for a model, a plan or a cohort.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from decimal import ROUND_CEILING, Decimal
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto.aggregation import Chunks, SiloEnd, Vector
from fedcollm_crypto.errors import CryptoError, ProtocolError, Refused
from fedcollm_crypto.fixedpoint import FixedPoint
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.note import Note
from fedcollm_privacy.discrete import discrete_gaussian
from fedcollm_privacy.errors import BudgetExhausted, PrivacyError
from fedcollm_privacy.ledger import Ledger
from fedcollm_privacy.plans import TrainingPlan
from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure.audit.journal import GENESIS, AttemptJoined, Journal, RoundEnded, last_ledger
from fedcollm_secure.audit.recent import hold_ledger
from fedcollm_secure.audit.witness import View, Witness
from fedcollm_secure.errors import FedCoLLMError, TrainingError
from fedcollm_secure.federation.gates import TrustRegion
from fedcollm_secure.federation.messages import (
    Begin,
    Close,
    Closed,
    Cosigned,
    Refusal,
    Show,
    Step,
    decode,
    greeting_reply,
    note_reply,
    payload_reply,
)
from fedcollm_secure.federation.pending import Kept, Pending
from fedcollm_secure.federation.stopwatch import Stopwatch
from fedcollm_secure.learning.factors import Pass, Rule
from fedcollm_secure.learning.training import Learner
from fedcollm_secure.learning.vectors import Float32, digest

MakeEnd = Callable[[RoundManifest, Callable[[], Vector]], SiloEnd]
"""Make the aggregation's silo end for one attempt; the second argument computes the vector when first asked."""


@dataclass(frozen=True, kw_only=True)
class Budget:
    """A silo's privacy: the plan it trains under, and the ledger that enforces it."""

    plan: TrainingPlan
    ledger: Ledger = field(repr=False)


DEMANDED = ("session_id", "roster_hash", "base_model_hash", "lora_schema_hash", "train_cfg_hash", "dp_plan_hash")
"""What a manifest must hold exactly as the silo holds it."""


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What this silo holds itself, and therefore demands of every manifest."""

    session_id: str
    roster_hash: str
    base_model_hash: str
    lora_schema_hash: str
    train_cfg_hash: str
    dp_plan_hash: str
    min_cohort: int


class Silo:
    """One silo of one run."""

    def __init__(
        self,
        *,
        name: str,
        learner: Learner,
        rule: Rule,
        encoding: FixedPoint,
        weight: int,
        expected: Expected,
        budget: Budget | None,
        make_end: MakeEnd,
        trust_region: TrustRegion | None,
        witness: Witness,
        journal: Journal,
        folder: Path,
        stopwatch: Stopwatch,
    ) -> None:
        """Hold `folder` for what must survive a crash: the update of a round that is not closed yet."""
        self.name = name
        self._learner = learner
        self._rule = rule
        self._encoding = encoding
        self._weight = weight
        self._expected = expected
        self._budget = budget
        self._make_end = make_end
        self._trust_region = trust_region
        self._witness = witness
        self._journal = journal
        self._pending = Pending(folder / "pending.npz")
        self._stopwatch = stopwatch
        self._end: SiloEnd | None = None
        self._last_closed = 0

    def handle(self, message: bytes) -> Chunks:
        """Answer one message; what goes wrong becomes a refusal that says why and nothing private.

        Guarantee: no vector leaves before the round stands reserved and its release stands recorded in the ledger,
        and a round's vector is computed once: a repeated attempt sends the same integers.
        """
        try:
            return self._answer(message)
        except BudgetExhausted as error:
            return note_reply(Refusal(reason_code="budget_exhausted", reason=error.diagnostics()))
        except PrivacyError as error:
            return note_reply(Refusal(reason_code="ledger_refused", reason=error.diagnostics()))
        except ProtocolError as error:
            return note_reply(Refusal(reason_code="protocol_violation", reason=str(error)))
        except Refused as error:
            return note_reply(Refusal(reason_code=error.reason_code, reason=str(error)))
        except CryptoError as error:
            return note_reply(Refusal(reason_code="policy_refused", reason=str(error)))
        except FedCoLLMError as error:
            return note_reply(Refusal(reason_code="training_failed", reason=error.diagnostics()))

    def _answer(self, message: bytes) -> Iterator[bytes]:
        match request := decode(message):
            case Begin():
                lines = self._begin(request)
                return greeting_reply(lines, self._aggregate(request.payload))
            case Step():
                return payload_reply(self._aggregate(request.payload))
            case Close():
                return self._close(request)
            case Show():
                return self._show(request.view)

    def _begin(self, request: Begin) -> str:
        """Open an attempt and return the cosignature of the head that it came with."""
        manifest = request.manifest
        self._check(request)
        lines = self._cosign(request.view)
        self._journal.append(
            AttemptJoined(round=manifest.round, attempt=manifest.attempt, manifest_digest=manifest.hash.hex())
        )
        if self._budget is not None:
            ledger, head = self._budget.ledger, self._witness.head
            last = last_ledger(self._journal)
            hold_ledger(ledger, self.name, request.view.recent, head, beginning=manifest.round, remembered=last)
            ledger.reserve(session=self._expected.session_id, round=manifest.round, plan=self._budget.plan)
        self._end = self._make_end(request.manifest, lambda: self._vector(request))
        return lines

    def _cosign(self, view: View) -> str:
        return "".join(line.encode() for line in self._witness.cosign(view))

    def _show(self, view: View | None) -> Iterator[bytes]:
        lines = self._cosign(view) if view else ""
        return note_reply(Cosigned(lines=lines, size=self._witness.head.size))

    def _check(self, request: Begin) -> None:
        """Refuse a manifest that differs from what this silo holds, or a round that is over."""
        manifest, asked = request.manifest, _pass(request)
        if not self._rule.fits(asked):
            raise ProtocolError(
                f"manifest: pass {asked.number} with {asked.basis.size} entries of a basis: no such pass"
            )
        schema = asked.schema_digest(self._expected.lora_schema_hash)
        expected = replace(self._expected, lora_schema_hash=schema)
        for what in DEMANDED:
            if getattr(manifest, what) != getattr(expected, what):
                raise ProtocolError(
                    f"manifest: another {what} than this silo's (expected {getattr(expected, what)[:16]}, got "
                    f"{getattr(manifest, what)[:16]}); nothing was trained"
                )
        if manifest.adapter_hash != digest(request.adapter):
            raise ProtocolError("manifest: the adapter that came is not the one it names")
        length = self._learner.adapter.schema.length
        if len(request.adapter) != length or not (
            np.isfinite(request.adapter).all() and np.isfinite(asked.basis).all()
        ):
            raise ProtocolError(f"manifest: expected an adapter of {length} values and a basis, all of them finite")
        if self._trust_region is not None:
            self._trust_region.check(manifest, request.adapter, request.reference)
        if manifest.log_checkpoint != Note.decode(request.view.note).text:
            raise ProtocolError("manifest: it names another head of the log than the one that came")
        if manifest.round <= self._last_closed:
            raise ProtocolError(f"manifest: round {manifest.round} is over; expected a later one")
        if self.name not in manifest.cohort or len(manifest.cohort) < expected.min_cohort:
            raise ProtocolError(
                f"manifest: expected a cohort of at least {expected.min_cohort} with {self.name} in it, got "
                f"{len(manifest.cohort)}"
            )

    def _aggregate(self, payload: bytes) -> Iterator[bytes]:
        if self._end is None:
            raise ProtocolError("step: no round was begun")
        with self._stopwatch.measure("protect"):
            chunks = iter(self._end.handle(payload))
            first = next(chunks, b"")  # whatever can be refused is refused before the first byte leaves
        return itertools.chain((first,), self._stopwatch.measured("protect", chunks))

    def _vector(self, request: Begin) -> Vector:
        """Return what the pass asks for, as integers: trained once per round, and recorded before it can leave."""
        manifest, asked = request.manifest, _pass(request)
        kept = self._pending.read(_version(manifest))
        if kept is None:
            kept = Kept(change=self._trained(request, asked), vectors={})
        vector = kept.vectors.get(asked.number)
        if vector is None:
            share = self._rule.share(request.adapter, kept.change, asked)
            vector = self._encoding.encode(share, self._weight, self._noise(len(share)))
            kept = replace(kept, vectors={**kept.vectors, asked.number: vector})
            self._pending.write(_version(manifest), kept)
        if self._budget is not None:  # every pass is made from one result, which the first pass's digest stands for
            self._budget.ledger.release(
                session=manifest.session_id, round=manifest.round, digest=sha256(kept.vectors[0].tobytes()).hexdigest()
            )
        return vector

    def _noise(self, length: int) -> NDArray[np.int64] | None:
        """Return this silo's share of the noise, where the silos share one: drawn once a round, and kept with it."""
        if self._budget is None or not isinstance(self._budget.plan, SharedPlan):
            return None
        return discrete_gaussian(length, self._budget.plan.share_variance)

    def _trained(self, request: Begin, asked: Pass) -> Float32:
        """Return Δ, float32[d]."""
        if asked.number:
            raise TrainingError(
                f"silo {self.name}: the result of round {asked.round} is gone, of which a first pass was sent; another "
                "one would not fit to it, so the round is void"
            )
        with self._stopwatch.measure("train"):
            return self._learner.update(request.adapter, asked.round)

    def _close(self, request: Close) -> Iterator[bytes]:
        if request.session != self._expected.session_id:
            raise ProtocolError("close: another session than this silo's")
        note = Closed(ledger="", epsilon="")
        if self._budget is not None:
            ledger = self._budget.ledger
            ledger.done(session=request.session, round=request.round)  # refuses a round in which nothing left
            note = Closed(ledger=ledger.head, epsilon=_rounded_up(ledger.epsilon_spent()))
        self._last_closed = max(self._last_closed, request.round)
        self._end = None
        self._pending.forget()
        self._journal.append(
            RoundEnded(round=request.round, adapter_digest=request.adapter, ledger=note.ledger or GENESIS)
        )
        return note_reply(note)


def _rounded_up(epsilon: float) -> str:
    """Return ε with six decimals, never less than was spent."""
    if not math.isfinite(epsilon):
        return "inf"
    return f"{Decimal(str(epsilon)).quantize(Decimal('0.000001'), rounding=ROUND_CEILING):f}"


def _version(manifest: RoundManifest) -> str:
    """Name the model version that an update belongs to: two attempts of one round share it."""
    return f"{manifest.session_id}/{manifest.round}/{manifest.adapter_hash}"


def _pass(request: Begin) -> Pass:
    manifest = request.manifest
    return Pass(round=manifest.round, number=manifest.linear_pass, basis=request.basis)
