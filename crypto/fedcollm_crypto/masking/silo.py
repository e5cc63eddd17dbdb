"""The silo's end: authenticates each request, answers each stage once, and records that before it answers.

The rules of an attempt are in `rules`, what holds over all attempts is in `invariant`, the stages are in `silo_stages`,
what is written down is in `silo_record`; this file is the once-per-stage discipline around them.
A silo that restarts has lost its ephemeral secrets on purpose: it refuses the attempt it was in and joins the next.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator

import numpy as np

from fedcollm_crypto.aggregation import Chunks, PartyId, Vector
from fedcollm_crypto.bounds import MAX_TEXT
from fedcollm_crypto.derivation import HASH_BYTES
from fedcollm_crypto.errors import ProtocolError, Refused
from fedcollm_crypto.masking import requests, rules, silo_stages
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.policy import Part
from fedcollm_crypto.masking.requests import (
    DEALING_FRAME,
    MESSAGE_FRAME,
    STAGES,
    VECTOR_FRAME,
    Body,
    Delivery,
    Refusal,
    Relay,
    VectorRequest,
    read_body,
    sign_message,
)
from fedcollm_crypto.masking.ring_carriers import RingSilo, SiloCarrier
from fedcollm_crypto.masking.silo_record import Asked, SiloRecord
from fedcollm_crypto.masking.silo_state import (
    Consented,
    Dealt,
    Evidence,
    Examined,
    Greeted,
    Masking,
    Progress,
    SiloSetup,
    State,
)
from fedcollm_crypto.masking.transcript import vector_hasher
from fedcollm_crypto.signed import Signed

MAX_EVIDENCE = 32
"""Refusals kept and journalled for one attempt: a hostile server must not fill the silo's disk."""


class MaskedSilo:
    """Give a vector to a sum without showing it to anyone.

    Guarantee: a server that does anything at all, with up to n_c other silos, learns of this silo's vector no more
    than sums over at least max(t, k_min) silos, for which the invariant holds (see `invariant`), if the roster is
    genuine, the journal, one for all sessions over these records, is never rolled back, and Ed25519, X25519,
    HKDF-SHA256, AES-256 and ChaCha20-Poly1305 are what they claim.
    In the post-quantum profile ML-KEM-768 may stand in for X25519, and ML-DSA-44 for Ed25519: one of each is enough.
    """

    def __init__(
        self, *, setup: SiloSetup, part: Part, carrier: Callable[[RoundManifest], SiloCarrier] = RingSilo
    ) -> None:
        """Take part in one round, in as many attempts as it takes.

        `carrier` makes what takes the masked vector to the wire, once for each attempt.
        """
        self._setup = setup
        self._part = part
        self._new_carrier = carrier
        self._record = SiloRecord(setup)
        self._vector: tuple[tuple[str, int, int], Vector] | None = None
        self._progress: Progress | None = None
        self._evidence: list[Evidence] = []

    @property
    def evidence(self) -> tuple[Evidence, ...]:
        """Return what was refused in this attempt, with the server's own signature under it."""
        return tuple(self._evidence)

    def convict(self, proof: bytes) -> None:
        """Take in proof that a silo dealt bad shares; it is remembered once an attempt is begun with it.

        A sum may be opened anew for it only where this silo was in the attempt itself, under the very hellos of the
        proof: who is guilty could make proofs for attempts that never were. Raises: ProtocolError for proof of nothing.
        """
        self._record.convict(proof)

    def handle(self, request: bytes) -> Chunks:
        """Answer one request, with a signed refusal where the rules forbid what it asks for.

        Raises: ProtocolError for what the server of the roster did not sign: to strangers there is no answer.
        """
        message = self._authentic(request)
        request_hash = hashlib.sha256(request).digest()
        try:
            return self._answer(message, request_hash.hex())
        except Refused as refused:
            return self._decline(request, message, request_hash, refused)
        except ProtocolError as error:
            return self._decline(request, message, request_hash, Refused("malformed", str(error)))

    def _authentic(self, request: bytes) -> Signed:
        message = Signed.decode(request)
        if message.kind not in STAGES or self._setup.roster.member(message.sender).role != "server":
            raise ProtocolError("a request of one of the known kinds, from the server of the roster, was expected")
        rules.verify_sender(message, self._setup.roster)
        return message

    def _answer(self, message: Signed, request_hash: str) -> Chunks:
        # (1) To which attempt does it belong? A new manifest starts one; all else must name the one under way.
        if message.kind == requests.MANIFEST:
            return self._greet(message, request_hash)
        body, progress = read_body(message), self._progress
        if progress is None or body.manifest_hash != progress.manifest.hash:
            raise Refused("unknown_attempt", "this attempt is not under way here: it ended, or this silo restarted")
        # (2) Each stage once: the same request gets the same bytes, any other is refused.
        answered = progress.answered.get(message.kind)
        rules.refuse_second_answer(answered, request_hash)
        if answered is not None and answered.request_hash == request_hash:
            return self._again(progress, message.kind)
        # (3) In order.
        rules.require_order(message.kind, list(progress.answered))
        return self._advance(progress, body, (message.kind, request_hash))

    def _greet(self, message: Signed, request_hash: str) -> Chunks:
        progress = self._progress
        if progress is not None and progress.answered[message.kind].request_hash == request_hash:
            return self._again(progress, message.kind)
        manifest = RoundManifest.from_body(message.body)
        if manifest.server != message.sender:
            raise Refused("other_server", "the manifest names another server than the one that signed it")
        greeted = silo_stages.greet(manifest, self._setup, self._part, self._record.memory)
        begun = Progress(manifest=manifest, carrier=self._new_carrier(manifest), states={})
        self._record.enrol(manifest)
        self._follow(begun, greeted, (message.kind, request_hash), manifest.cohort)
        # From here on the former attempt is over, and its secrets are gone.
        self._progress, self._evidence = begun, []
        return self._say(begun, message.kind, greeted.hello)

    def _advance(self, progress: Progress, body: Body, asked: Asked) -> Chunks:
        """Run one stage on the state that it builds on; record it; only then answer."""
        kind = asked[0]
        match progress.states.get(rules.BUILDS_ON[kind]), body:
            case Greeted() as before, Relay():
                dealt, dealing = silo_stages.deal(before, body, self._setup)
                self._follow(progress, dealt, asked, dealt.place.hellos)
                return self._say(progress, kind, dealing.shares, DEALING_FRAME + dealing.encode())
            case Dealt() as before, Delivery():
                examined, reply = silo_stages.check(before, body, self._setup)
                self._follow(progress, examined, asked, {*examined.shares, *examined.disputed})
                return self._say(progress, kind, reply)
            case Examined() as before, Relay():
                reply = silo_stages.disclose(before, body, self._setup)
                self._answered(progress, asked, (complaint.sender for complaint in body.messages))
                return self._say(progress, kind, reply)
            case Examined() as before, VectorRequest():
                masking = silo_stages.mask(before, body, self._setup)
                vector = self._vector_once(progress.manifest)  # training may happen here
                progress.upload = None
                self._follow(progress, masking, asked, masking.members)
                return self._stream(progress, masking, vector)
            case Masking() as before, Relay():
                consented, reply = silo_stages.consent(before, progress.upload, body, self._setup, self._record.memory)
                self._follow(progress, consented, asked, consented.survivors)
                return self._say(progress, kind, reply)
            case Consented() as before, Relay():
                reply = silo_stages.reveal(before, body, self._setup, self._record.memory)
                return self._release(progress, before, asked, reply)
            case _:
                raise Refused("closed", "the secrets of this attempt are deleted")

    def _follow(self, progress: Progress, state: State, asked: Asked, members: Iterable[PartyId]) -> None:
        """Record that a stage is answered, durably, and step on."""
        self._answered(progress, asked, members)
        progress.states[asked[0]] = state

    def _answered(self, progress: Progress, asked: Asked, members: Iterable[PartyId]) -> None:
        progress.answered[asked[0]] = self._record.answered(progress.where, asked, members)

    def _say(self, progress: Progress, kind: str, reply: Signed, wire: bytes = b"") -> Chunks:
        """Record what is said, then say it; `wire` is the reply's bytes where it is more than its signed message."""
        data = progress.replies[kind] = wire or MESSAGE_FRAME + reply.encode()
        self._record.replied(progress.where, kind, reply)
        return (data,)

    def _stream(self, progress: Progress, state: Masking, vector: Vector) -> Iterator[bytes]:
        """Yield the masked words, then the signed upload, without which they count for nothing."""
        yield VECTOR_FRAME
        hasher = vector_hasher()
        for data in progress.carrier.chunks(vector, state.masks):
            hasher.update(data)
            yield data
        signed = progress.upload
        if signed is None:  # signed once: ML-DSA-44 would give other bytes the second time
            signed = sign_message(self._setup.identity, silo_stages.upload(state, hasher.finalize()))
            self._record.replied(progress.where, requests.ASK_VECTOR, signed)
            progress.upload = signed
        yield signed.encode()

    def _again(self, progress: Progress, kind: str) -> Chunks:
        """Repeat an answer byte for byte; the masked words are made anew from the vector that was kept."""
        if kind != requests.ASK_VECTOR:
            return (progress.replies[kind],)
        masking = progress.states.get(kind)
        if not isinstance(masking, Masking):
            raise Refused("closed", "the secrets of this attempt are deleted: its words can't be made again")
        return self._stream(progress, masking, self._vector_once(progress.manifest))

    def _release(self, progress: Progress, before: Consented, asked: Asked, reply: Signed) -> Chunks:
        """Record that a sum over this model version is out; answer; forget every secret of the attempt."""
        self._record.released(progress.manifest, before.survivors)
        self._answered(progress, asked, before.survivors)
        said = self._say(progress, asked[0], reply)
        progress.states, self._vector = {}, None
        return said

    def _vector_once(self, manifest: RoundManifest) -> Vector:
        """Return the vector of this round and pass: computed once, so that a retry sends the same."""
        what = (manifest.session_id, manifest.round, manifest.linear_pass)
        if self._vector is None or self._vector[0] != what:
            vector, length = self._part.vector(), manifest.quantisation.length
            if vector.dtype != np.uint64 or vector.shape != (length,):
                raise ValueError(f"the vector must be uint64[{length}], got {vector.dtype}{list(vector.shape)}")
            vector.setflags(write=False)  # two vectors under one mask would tell their difference
            self._vector = what, vector
        return self._vector[1]

    def _decline(self, request: bytes, message: Signed, request_hash: bytes, refused: Refused) -> Chunks:
        """Sign a refusal; keep it with the request as evidence. Nothing else changes: no answer was given."""
        progress = self._progress
        refusal = Refusal(
            manifest_hash=bytes(HASH_BYTES) if progress is None else progress.manifest.hash,
            request_hash=request_hash,
            reason_code=refused.reason_code,
            reason=str(refused)[:MAX_TEXT],
            accused=refused.accused,
        )
        data = MESSAGE_FRAME + sign_message(self._setup.identity, refusal).encode()
        if len(self._evidence) < MAX_EVIDENCE:
            where = None if progress is None else progress.where
            self._record.declined(where, (message.kind, request_hash.hex()), refused.reason_code)
            self._evidence.append(
                Evidence(reason_code=refused.reason_code, accused=refused.accused, request=request, refusal=data)
            )
        return (data,)
