"""The decryptor where no masks are inside: a trusted aggregator. It recomputes the sum, and rounds before it speaks.

    he-key-request → fresh key     he-deposit, one for each silo → (1) – (4), added     he-open-request → (5) – (9), sum

CKKS has no ring to mask in, so this party could read any silo's update if it wished to: who runs it must be trusted by
all. It is not trusted to believe the server: what it opens is a sum over silos that all committed before any sent.
"""

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto import hpke
from fedcollm_crypto.aggregation import Chunks, PartyId
from fedcollm_crypto.errors import ProtocolError, Refused
from fedcollm_crypto.homomorphic import commitments as said
from fedcollm_crypto.homomorphic import messages
from fedcollm_crypto.homomorphic.ciphertext_carriers import CiphertextSum
from fedcollm_crypto.homomorphic.commitments import Commitment, Deposit, Received, Sent
from fedcollm_crypto.homomorphic.custody import Custody, DecryptorSetup, Held
from fedcollm_crypto.homomorphic.decryptor import decline, server_signed
from fedcollm_crypto.homomorphic.messages import KeyRequest, Opened, OpenRequest
from fedcollm_crypto.homomorphic.packing import Packing
from fedcollm_crypto.homomorphic.residues import split, wire_bytes
from fedcollm_crypto.homomorphic.worker import WorkerFailed, crashed, opened
from fedcollm_crypto.masking import invariant, rules
from fedcollm_crypto.masking.invariant import Memory
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.requests import MESSAGE_FRAME, VECTOR_FRAME, sign_message
from fedcollm_crypto.masking.stages import Released, Where
from fedcollm_crypto.signed import Signed

LARGEST_ROUNDING = 0.25
"""A decoded value further from an integer than this was not made by these rules, or the noise has grown: no release."""


class Trustee:
    """Add up what silos sealed to it, and open that sum once for each model version and pass.

    Guarantee: if this party is honest, server and up to n_c silos learn sums over at least max(t, k_min) silos that
    all committed before any ciphertext was sent, rounded to integers: no noise of a decryption is ever released
    (Li and Micciancio, Eurocrypt 2021). This party itself could read every silo's update.
    """

    def __init__(self, *, setup: DecryptorSetup, packing: Packing) -> None:
        """Open sums of vectors packed like this."""
        if packing.scheme != setup.scheme:
            raise ValueError("the trustee, its packing and its key must have the same parameters")
        self._setup = setup
        self._packing = packing
        self._custody = Custody(setup)
        self._total: CiphertextSum | None = None
        self._manifest: RoundManifest | None = None
        self._deposits: dict[PartyId, tuple[Signed, Signed]] = {}

    def handle(self, request: bytes) -> Chunks:
        """Answer a request that the server of the roster signed, with a signed refusal where the rules forbid it.

        Raises: ProtocolError for anybody else's.
        """
        message, attachment = messages.detach(request)
        signed = server_signed(message, self._setup.roster)
        try:
            return self._answer(signed, attachment)
        except Refused as refused:
            return decline(self._setup.identity, message, refused)
        except ProtocolError as error:
            return decline(self._setup.identity, message, Refused("malformed", str(error)))
        except WorkerFailed:
            return decline(self._setup.identity, message, crashed())

    def _answer(self, signed: Signed, attachment: memoryview) -> Chunks:
        if signed.kind == KeyRequest.KIND:
            issued = self._custody.issue(KeyRequest.from_body(signed.body))
            self._total, self._manifest, self._deposits = None, None, {}  # with the key that they were sealed for
            return issued
        if signed.kind == Deposit.KIND:
            return self._take(Deposit.from_body(signed.body), attachment)
        if signed.kind == OpenRequest.KIND:
            return self._open(signed, OpenRequest.from_body(signed.body))
        raise ProtocolError("a request for a key, a deposit or a request for an opening was expected")

    def _take(self, deposit: Deposit, sealed: memoryview) -> Chunks:
        # (1) The deposit is for the attempt under way, from a silo of its cohort that has made none yet.
        manifest, party = deposit.manifest, deposit.commitment.sender
        held = self._custody.held_for(manifest)
        if self._manifest not in (None, manifest) or party in self._deposits:
            raise Refused("second_answer", "another manifest, or a second deposit of one silo, in one attempt")
        rules.require_subset([party], manifest.cohort, "the deposit")
        # (2) The silo signed both its commitment and, later, what it sent.
        for message in (deposit.commitment, deposit.sent):
            rules.verify_sender(message, self._setup.roster)
        commitment = self._commitment(deposit.commitment, manifest)
        sent = Sent.from_body(deposit.sent.body)
        if deposit.sent.kind != Sent.KIND or deposit.sent.sender != party or sent.manifest_hash != manifest.hash:
            raise ProtocolError("the deposit's second message is not that silo's for this round")
        # (3) The sealed ciphertexts open, and are those committed to.
        ciphertexts = self._unseal(sealed, held, manifest, party)
        require_committed(ciphertexts, commitment, party)
        # (4) Each coefficient is below q; the sum grows by them.
        total = self._total or CiphertextSum(self._packing, manifest.quantisation.length, held.box.prime)
        total.add(ciphertexts)
        self._total, self._manifest = total, manifest
        self._deposits[party] = deposit.commitment, deposit.sent
        reply = Received(manifest_hash=manifest.hash, silo=party)
        return (MESSAGE_FRAME + sign_message(self._setup.identity, reply).encode(),)

    def _open(self, signed: Signed, request: OpenRequest) -> Chunks:
        manifest, total = request.manifest, self._total
        self._custody.held_for(manifest)
        if total is None or manifest != self._manifest:
            raise Refused("too_few", "no silo's ciphertexts were deposited under this manifest")
        # (5) Enough silos, and every depositor committed before it, or anybody, had sent.
        rules.require_floor(self._deposits, manifest, "the deposits")
        self._require_committed_first(manifest, said.commitments_of(request.messages))
        # (6) The log names the attempt, and the sum over these silos.
        survivors = tuple(sorted(self._deposits))
        self._setup.require_logged(manifest, survivors)
        # (7) With this sum, too, the invariant over all sums holds; on disk before the key is used.
        memory = Memory.of(self._setup.stages.entries())
        invariant.require_unreleased(manifest, memory)
        invariant.require_pass_cohort(manifest, survivors)
        invariant.require_one_dimension(manifest, survivors, memory)
        invariant.limit_exposure(manifest, survivors, self._setup.policy, memory)
        self._setup.stages.append(
            Released(
                where=Where.of(manifest),
                model_version=manifest.adapter_hash,
                survivors=survivors,
                dp_plan_hash=manifest.dp_plan_hash,
            )
        )
        # (8) Open the sum that was computed here.
        with opened(self._custody.use(manifest, signed.body_hash)) as box:
            decoded = box.decrypt(total.residues())
        # (9) Integers in range, or nothing.
        values = self._packing.unpack(exact_integers(decoded), manifest.quantisation.length)
        words = values.astype("<i8").tobytes()
        reply = Opened(manifest_hash=manifest.hash, sum_hash=request.sum_hash, opened_hash=messages.opened_hash(words))
        return VECTOR_FRAME, words, sign_message(self._setup.identity, reply).encode()

    def _require_committed_first(self, manifest: RoundManifest, committed: dict[PartyId, Signed]) -> None:
        """Stop a silo that chose its ciphertexts after it had seen another's."""
        for message in committed.values():
            rules.verify_sender(message, self._setup.roster)
            self._commitment(message, manifest)
        rules.require_subset(committed, manifest.cohort, "the commitments")
        rules.require_subset(self._deposits, committed, "the deposits")
        agreed = said.commitments_hash(committed)
        for party, (commitment, sent) in self._deposits.items():
            if commitment.body_hash != committed[party].body_hash:
                raise Refused("other_commitment", f"{party} made two commitments", accused=party)
            if Sent.from_body(sent.body).commitments_hash != agreed:
                raise Refused("other_commitments", f"{party} sent after other commitments than these")

    def _commitment(self, message: Signed, manifest: RoundManifest) -> Commitment:
        commitment = Commitment.from_body(message.body)
        if message.kind != Commitment.KIND or commitment.manifest_hash != manifest.hash:
            raise ProtocolError("a commitment of this round was expected")
        return commitment

    def _unseal(self, sealed: memoryview, held: Held, manifest: RoundManifest, party: PartyId) -> bytes:
        each = wire_bytes(held.box.coefficients) + hpke.CLASSICAL_OVERHEAD_BYTES
        pieces = list(split(sealed, each))
        if len(pieces) != self._packing.ciphertexts(manifest.quantisation.length):
            raise ProtocolError("another number of sealed ciphertexts than this round's vectors have")
        contexts = (said.piece_context(manifest.hash, party, index) for index in range(len(pieces)))
        return b"".join(
            hpke.open_classical(held.box_key, bytes(piece), context)
            for piece, context in zip(pieces, contexts, strict=True)
        )


def require_committed(ciphertexts: bytes, commitment: Commitment, party: PartyId) -> None:
    """Stop a silo that made its ciphertexts of others', which it could see only after it had committed."""
    hasher = said.ciphertexts_hasher()
    hasher.update(ciphertexts)
    if hasher.finalize() != commitment.ciphertexts_hash:
        raise Refused("other_ciphertexts", f"{party} sent other ciphertexts than it committed to", accused=party)


def exact_integers(decoded: NDArray[np.float64] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the integers that decoded values stand for.

    Guarantee: what leaves depends on the noise of the decryption only if one of them is off by more than 1/4.

    Raises: ProtocolError when one is, or is no number; which one is not said.
    """
    values = np.asarray(decoded, dtype=np.float64)
    rounded = np.rint(values)
    if not np.isfinite(values).all() or np.abs(values - rounded).max(initial=0.0) > LARGEST_ROUNDING:
        raise ProtocolError(
            f"a decrypted value is further than {LARGEST_ROUNDING} from an integer: nothing is released"
        )
    return rounded.astype(np.int64)
