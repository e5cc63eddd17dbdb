"""A silo that trusts the trustee: it commits to its ciphertexts, sees all commitments, then sends them, sealed."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from fedcollm_crypto import hpke
from fedcollm_crypto.aggregation import Chunks, PartyId, Vector
from fedcollm_crypto.errors import ProtocolError, Refused
from fedcollm_crypto.fixedpoint import signed_words
from fedcollm_crypto.homomorphic import commitments as said
from fedcollm_crypto.homomorphic.ciphertext_buffer import Spool
from fedcollm_crypto.homomorphic.commitments import COMMIT_REQUEST, SEND_REQUEST, Commitment, Sent
from fedcollm_crypto.homomorphic.decryptor import decline, server_signed
from fedcollm_crypto.homomorphic.packing import Packing
from fedcollm_crypto.homomorphic.residues import to_wire, wire_bytes
from fedcollm_crypto.homomorphic.silo_key import SiloKey
from fedcollm_crypto.homomorphic.worker import CALL_ROWS, Worker, WorkerFailed, crashed
from fedcollm_crypto.masking import invariant, rules
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.policy import Part
from fedcollm_crypto.masking.requests import MESSAGE_FRAME, VECTOR_FRAME, Relay, sign_message
from fedcollm_crypto.masking.silo_state import SiloSetup
from fedcollm_crypto.masking.stages import Answered, Where
from fedcollm_crypto.signed import Signed


@dataclass(kw_only=True)
class _Progress:
    """One attempt: its ciphertexts, the commitment to them, and which requests were answered."""

    manifest: RoundManifest
    request_hash: str
    ciphertexts: Spool = field(repr=False)
    commitment: Signed
    sent_for: str = ""


class TrustingSilo:
    """Give a vector to a sum that a trustee computes.

    Guarantee: if the trustee is honest, a malicious server with up to n_c silos learns sums over at least
    max(t, k_min) silos. Against the trustee itself: none.
    """

    def __init__(self, *, setup: SiloSetup, part: Part, packing: Packing, worker: Worker) -> None:
        """Take part in one round; what it expects names the trustee and the hash of the packing's scheme."""
        self._setup = setup
        self._part = part
        self._packing = packing
        self._key = SiloKey(setup.roster, packing.scheme, worker)
        self._told = worker.progress
        self._vector: Vector | None = None
        self._progress: _Progress | None = None

    def convict(self, proof: bytes) -> None:
        """Refuse it: nobody deals shares here. Raises: ProtocolError."""
        raise ProtocolError("proof of bad dealing has no place in a sum without shares")

    def handle(self, request: bytes) -> Chunks:
        """Answer one request. Raises: ProtocolError for what the server of the roster did not sign."""
        message = self._key.take(request)
        signed = server_signed(message, self._setup.roster)
        try:
            if signed.kind == COMMIT_REQUEST:
                return self._commit(signed, hashlib.sha256(message).hexdigest())
            if signed.kind == SEND_REQUEST:
                return self._send(signed, hashlib.sha256(message).hexdigest())
            raise ProtocolError("a manifest or all commitments were expected")
        except Refused as refused:
            return decline(self._setup.identity, message, refused)
        except ProtocolError as error:
            return decline(self._setup.identity, message, Refused("malformed", str(error)))
        except WorkerFailed:
            return decline(self._setup.identity, message, crashed())

    def _commit(self, signed: Signed, request_hash: str) -> Chunks:
        progress = self._progress
        if progress is not None and progress.request_hash == request_hash:
            return (MESSAGE_FRAME + progress.commitment.encode(),)
        # (1) The round is the consortium's and the one this silo computed for itself; enough silos; never again.
        manifest, setup = RoundManifest.from_body(signed.body), self._setup
        if manifest.server != signed.sender:
            raise Refused("other_server", "the manifest names another server than the one that signed it")
        expected = self._part.expected(manifest)
        rules.require_my_roster(manifest, setup.roster)
        rules.require_my_plan(manifest, expected)
        rules.require_encryption(manifest, expected)
        rules.require_cohort(manifest, setup.party, setup.roster, setup.policy)
        rules.require_threshold(manifest, setup.roster, setup.policy)
        invariant.require_noise_shares(manifest, expected, setup.policy)
        rules.require_profile(manifest, setup.roster, setup.policy)
        rules.require_new_attempt(manifest, setup.stages.entries())
        # (2) The key is the trustee's for this attempt; ledger and log agree.
        self._key.check(manifest)
        self._part.admit(manifest)
        # (3) Train, encrypt, keep; record; commit.
        ciphertexts, digest = self._encrypt(manifest)
        commitment = sign_message(setup.identity, Commitment(manifest_hash=manifest.hash, ciphertexts_hash=digest))
        self._record(manifest, COMMIT_REQUEST, request_hash, manifest.cohort)
        self._progress = _Progress(
            manifest=manifest, request_hash=request_hash, ciphertexts=ciphertexts, commitment=commitment
        )
        return (MESSAGE_FRAME + commitment.encode(),)

    def _send(self, signed: Signed, request_hash: str) -> Chunks:
        relay, progress = Relay.from_body(signed.body), self._progress
        if progress is None or relay.manifest_hash != progress.manifest.hash:
            raise Refused("unknown_attempt", "this attempt is not under way here: it ended, or this silo restarted")
        if progress.sent_for not in ("", request_hash):
            raise Refused("second_answer", "the ciphertexts were sent for another set of commitments")
        # (4) All commitments are signed, to this manifest, by enough silos of the cohort; this silo's is among them.
        committed = said.commitments_of(relay.messages)
        rules.require_subset(committed, progress.manifest.cohort, "the commitments")
        rules.require_mine(progress.commitment, committed.get(self._setup.party), "commitment")
        rules.require_floor(committed, progress.manifest, "the commitments")
        for party, message in committed.items():
            rules.verify_sender(message, self._setup.roster)
            if Commitment.from_body(message.body).manifest_hash != progress.manifest.hash:
                raise Refused("other_manifest", f"{party} committed under another manifest")
        # (5) Record, then send what was committed to, sealed to the trustee.
        if not progress.sent_for:
            self._record(progress.manifest, SEND_REQUEST, request_hash, committed)
            progress.sent_for = request_hash
        sent = Sent(manifest_hash=progress.manifest.hash, commitments_hash=said.commitments_hash(committed))
        return self._stream(progress, sign_message(self._setup.identity, sent))

    def _stream(self, progress: _Progress, sent: Signed) -> Iterator[bytes]:
        yield VECTOR_FRAME
        each, box_key = wire_bytes(self._key.box.coefficients), self._key.message.box_key
        progress.ciphertexts.rewind()
        for index in range(self._packing.ciphertexts(progress.manifest.quantisation.length)):
            context = said.piece_context(progress.manifest.hash, self._setup.party, index)
            yield hpke.seal_classical(box_key, progress.ciphertexts.read(each), context, "the trustee")
        yield sent.encode()

    def _encrypt(self, manifest: RoundManifest) -> tuple[Spool, bytes]:
        if self._vector is None:
            self._vector = self._part.vector()
        slots = self._packing.pack(signed_words(self._vector, manifest.quantisation.ring_bits))
        kept = Spool()
        hasher = said.ciphertexts_hasher()
        for start in range(0, len(slots), CALL_ROWS):
            for row in self._key.box.encrypt(slots[start : start + CALL_ROWS]).reshape(-1, self._key.box.coefficients):
                data = to_wire(np.ascontiguousarray(row))
                hasher.update(data)
                kept.write(data)
            self._told(min(start + CALL_ROWS, len(slots)), len(slots))
        return kept, hasher.finalize()

    def _record(self, manifest: RoundManifest, stage: str, request_hash: str, members: Iterable[PartyId]) -> None:
        where, parties = Where.of(manifest), tuple(sorted(members))
        self._setup.stages.append(Answered(where=where, stage=stage, request_hash=request_hash, members=parties))
