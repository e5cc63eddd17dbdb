"""A silo of a run: it holds records and a ledger; bytes come in, bytes go out.

    Begin   1. the manifest that the server signed: the protocol's rules, the invariant over all sums (`masking`)
            2. check: the adapter, the trust region, the log (only grew, names every sum, holds the ledger's head)
            3. act: reserve the round in the ledger, remember, cosign the log's head; first step of the aggregation
    Step    4. … the first time the aggregation asks for the vector: train → Δ → integers → record the release
            5. … say what the aggregation says
    Close   6. mark the round done, say where the ledger stands
    Show       check the log as in 2, and cosign the head: one that names a sum, for a decryptor that will open it; the
               last one, so that nobody can cut the log's tail off

A silo checks for itself and refuses with a reason; it never takes the server's word for a model, a plan or a cohort.
What it does not begin leaves no trace: nothing is cosigned, reserved or journalled.
"""

import itertools
import math
from collections.abc import Callable, Iterator
from decimal import ROUND_CEILING, Decimal

from fedcollm_crypto.aggregation import Chunks, SiloEnd, Vector
from fedcollm_crypto.errors import CryptoError, ProtocolError, Refused
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.policy import Part, Pledge
from fedcollm_privacy.errors import BudgetExhausted, PrivacyError
from fedcollm_secure.audit_log.journal import GENESIS, RoundEnded
from fedcollm_secure.audit_log.witness import View
from fedcollm_secure.errors import FedCoLLMError
from fedcollm_secure.federation.admission import Admission
from fedcollm_secure.federation.contribution import Contribution
from fedcollm_secure.federation.messages import Begin, Close, Show, Step, decode
from fedcollm_secure.federation.replies import (
    Closed,
    Cosigned,
    Refusal,
    declined_reply,
    disk_refusal,
    greeting_reply,
    note_reply,
    payload_reply,
)
from fedcollm_secure.federation.silo_setup import Learning, SiloMemory, SiloTerms
from fedcollm_secure.federation.stopwatch import Stopwatch

MakeEnd = Callable[[Part], SiloEnd]
"""Make this silo's end of the aggregation for one attempt."""


class Silo:
    """One silo of one run."""

    def __init__(
        self,
        *,
        name: str,
        terms: SiloTerms,
        learning: Learning,
        memory: SiloMemory,
        make_end: MakeEnd,
        stopwatch: Stopwatch,
    ) -> None:
        """Take everything that a round needs."""
        self._terms = terms
        self._memory = memory
        self._make_end = make_end
        self._stopwatch = stopwatch
        self._admission = Admission(name=name, terms=terms, learning=learning, memory=memory)
        self._contribution = Contribution(
            name=name, learning=learning, memory=memory, budget=terms.budget, stopwatch=stopwatch
        )
        self._end: SiloEnd | None = None
        self._last_closed = 0

    def handle(self, message: bytes) -> Chunks:
        """Answer one message; what goes wrong, a disk that fails too, becomes a refusal that says nothing private.

        Guarantee: no vector leaves before the round stands reserved and its release stands recorded in the ledger,
        and a round's vector is computed once: a repeated attempt sends the same integers.
        """
        try:
            return self.answer(message)
        except OSError as error:
            return note_reply(disk_refusal(error))

    def answer(self, message: bytes) -> Chunks:
        """Answer as `handle` does, but for a disk that fails: in a simulation it is everybody's. Raises: OSError."""
        try:
            return self._answer(message)
        except (CryptoError, PrivacyError, FedCoLLMError) as error:
            return note_reply(_refusal(error))

    def _answer(self, message: bytes) -> Iterator[bytes]:
        match request := decode(message):
            case Begin():
                return self._begin(request)
            case Step():
                return self._step(request.payload)
            case Close():
                return self._close(request)
            case Show():
                return self._show(request.view)

    def _begin(self, request: Begin) -> Iterator[bytes]:
        """Open an attempt, if everything holds; return the cosignature of its head and the first answer."""
        joined: list[tuple[RoundManifest, str]] = []  # with the cosignature under the head that it names

        def admit(manifest: RoundManifest) -> Pledge:
            if joined:
                raise ProtocolError("step: a manifest begins an attempt, and belongs in Begin")
            if manifest.round <= self._last_closed:
                raise ProtocolError(f"manifest: round {manifest.round} is over; expected a later one")
            told = self._admission.check(manifest, request)  # (2)
            joined.append((manifest, self._admission.act(manifest, request, told)))  # (3)
            return self._admission.pledge()

        def vector() -> Vector:
            return self._contribution.vector(joined[0][0], request)  # (4)

        part = Part(expected=lambda manifest: self._admission.expect(manifest, request), admit=admit, vector=vector)
        end = self._make_end(part)
        for proof in request.proofs:
            end.convict(proof)
        answer = self._ask(end, request.payload)  # (1), and in it (2) and (3)
        if not joined:  # the end signed a refusal, and nothing was begun
            return declined_reply(b"".join(answer))
        self._end = end
        return greeting_reply(joined[0][1], answer)

    def _step(self, payload: bytes) -> Iterator[bytes]:
        if self._end is None:
            raise ProtocolError("step: no round was begun")
        return payload_reply(self._ask(self._end, payload))

    def _ask(self, end: SiloEnd, payload: bytes) -> Iterator[bytes]:
        with self._stopwatch.measure("protect"):
            chunks = iter(end.handle(payload))
            first = next(chunks, b"")  # whatever can be refused is refused before the first byte leaves
        return itertools.chain((first,), self._stopwatch.measured("protect", chunks))  # (5)

    def _close(self, request: Close) -> Iterator[bytes]:
        if request.session != self._terms.expected.session_id:
            raise ProtocolError("close: another session than this silo's")
        if not self._memory.journal.joined(request.round):
            raise ProtocolError(f"close: this silo joined no attempt of round {request.round}")
        note = Closed(ledger="", epsilon="")
        if self._terms.budget is not None:  # (6)
            ledger = self._terms.budget.ledger
            ledger.done(session=request.session, round=request.round)  # refuses a round in which nothing left
            note = Closed(ledger=ledger.head, epsilon=_rounded_up(ledger.epsilon_spent()))
        self._last_closed = max(self._last_closed, request.round)
        self._end = None
        self._memory.pending.forget()
        self._memory.journal.append(
            RoundEnded(round=request.round, adapter_digest=request.adapter, ledger=note.ledger or GENESIS)
        )
        return note_reply(note)

    def _show(self, view: View | None) -> Iterator[bytes]:
        lines = self._admission.cosign(view) if view else ""
        size, heard = self._memory.witness.head.size, self._memory.journal.heard_size
        return note_reply(Cosigned(lines=lines, size=size, heard=heard))


def _refusal(error: CryptoError | PrivacyError | FedCoLLMError) -> Refusal:
    """Return what the coordinator is told of an error: a code for the log and a sentence for people."""
    match error:
        case BudgetExhausted():
            return Refusal(reason_code="budget_exhausted", reason=error.diagnostics())
        case PrivacyError():
            return Refusal(reason_code="ledger_refused", reason=error.diagnostics())
        case ProtocolError():
            return Refusal(reason_code="protocol_violation", reason=str(error))
        case Refused():
            return Refusal(reason_code=error.reason_code, reason=str(error))
        case CryptoError():
            return Refusal(reason_code="policy_refused", reason=str(error))
        case FedCoLLMError():
            return Refusal(reason_code="training_failed", reason=error.diagnostics())


def _rounded_up(epsilon: float) -> str:
    """Return ε with six decimals, never less than was spent."""
    if not math.isfinite(epsilon):
        return "inf"
    return f"{Decimal(str(epsilon)).quantize(Decimal('0.000001'), rounding=ROUND_CEILING):f}"
