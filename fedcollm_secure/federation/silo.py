"""A silo: everything that a client does. It holds records and a ledger; bytes come in, bytes go out.

    Begin → the manifest that the server signed → the protocol's rules and the invariant over all sums (`masking`)
            → check: the adapter, the trust region, the log (only grew, names every sum, holds the ledger's head)
            → act: remember, cosign the log's head, reserve the round in the ledger → first step of the aggregation
    Step  → … the first time the aggregation asks for the vector: train → Δ → integers → record the release
    Close → mark the round done, say where the ledger stands
    Show  → cosign the head once more: the last one, so that nobody can cut the log's tail off

A silo checks for itself and refuses with a reason; it never takes the server's word for a model, a plan or a cohort.
What it does not begin leaves no trace: nothing is cosigned, reserved or journalled.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from decimal import ROUND_CEILING, Decimal
from hashlib import sha256
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto.aggregation import Chunks, SiloEnd, Vector
from fedcollm_crypto.errors import CryptoError, ProtocolError, Refused
from fedcollm_crypto.fixedpoint import FixedPoint
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.policy import Part, Pledge
from fedcollm_privacy.discrete import discrete_gaussian
from fedcollm_privacy.errors import BudgetExhausted, PrivacyError
from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure.audit_log.journal import GENESIS, Journal, RoundEnded, heard_size
from fedcollm_secure.audit_log.witness import View, Witness
from fedcollm_secure.errors import FedCoLLMError, TrainingError
from fedcollm_secure.federation.admission import Admission, cosignature, pass_of, require_nothing_sent
from fedcollm_secure.federation.messages import Begin, Close, Show, Step, decode
from fedcollm_secure.federation.open_round import Kept, Pending
from fedcollm_secure.federation.replies import (
    Closed,
    Cosigned,
    Refusal,
    declined_reply,
    greeting_reply,
    note_reply,
    payload_reply,
)
from fedcollm_secure.federation.stopwatch import Stopwatch
from fedcollm_secure.learning.factors import Pass, Rule
from fedcollm_secure.learning.training import Learner
from fedcollm_secure.learning.vectors import Float32

MakeEnd = Callable[[Part], SiloEnd]
"""Make the aggregation's end of this silo for one attempt."""


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
        admission: Admission,
        make_end: MakeEnd,
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
        self._admission = admission
        self._budget = admission.budget
        self._make_end = make_end
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
                return self._begin(request)
            case Step():
                return payload_reply(self._aggregate(request.payload))
            case Close():
                return self._close(request)
            case Show():
                return self._show(request.view)

    def _begin(self, request: Begin) -> Iterator[bytes]:
        """Open an attempt, if everything holds; return the cosignature of its head and the first answer."""
        lines: list[str] = []
        joined: list[RoundManifest] = []

        def admit(manifest: RoundManifest) -> Pledge:
            if joined:
                raise ProtocolError("step: a manifest begins an attempt, and belongs in Begin")
            if manifest.round <= self._last_closed:
                raise ProtocolError(f"manifest: round {manifest.round} is over; expected a later one")
            told = self._admission.check(manifest, request)
            lines.append(self._admission.act(manifest, request, told))
            joined.append(manifest)
            return self._admission.pledge()

        def vector() -> Vector:
            return self._vector(joined[0], request)

        end = self._make_end(
            Part(expected=lambda manifest: self._admission.expect(manifest, request), admit=admit, vector=vector)
        )
        for proof in request.proofs:
            end.convict(proof)
        answer = self._ask(end, request.payload)
        if not lines:  # the end signed a refusal, and nothing was begun
            return declined_reply(b"".join(answer))
        self._end = end
        return greeting_reply(lines[0], answer)

    def _show(self, view: View | None) -> Iterator[bytes]:
        lines = cosignature(self._witness, view) if view else ""
        heard = heard_size(self._journal)
        return note_reply(Cosigned(lines=lines, size=self._witness.head.size, heard=heard))

    def _aggregate(self, payload: bytes) -> Iterator[bytes]:
        if self._end is None:
            raise ProtocolError("step: no round was begun")
        return self._ask(self._end, payload)

    def _ask(self, end: SiloEnd, payload: bytes) -> Iterator[bytes]:
        with self._stopwatch.measure("protect"):
            chunks = iter(end.handle(payload))
            first = next(chunks, b"")  # whatever can be refused is refused before the first byte leaves
        return itertools.chain((first,), self._stopwatch.measured("protect", chunks))

    def _vector(self, manifest: RoundManifest, request: Begin) -> Vector:
        """Return what the pass asks for, as integers: trained once per round, and recorded before it can leave."""
        asked = pass_of(manifest, request)
        kept = self._pending.read(_version(manifest))
        if kept is None:
            require_nothing_sent(self._admission.stages.entries(), manifest)
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
        if request.session != self._admission.expected.session_id:
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
