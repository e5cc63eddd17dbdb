"""The decryptor of masked sums: it opens what t silos agreed to, and what it opens is uniform to it.

he-key-request → a fresh key pair, the public half signed        he-open-request → (1) – (6), slots, key gone
"""

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from fedcollm_crypto.aggregation import Chunks, PartyId
from fedcollm_crypto.bounds import MAX_TEXT
from fedcollm_crypto.derivation import HASH_BYTES
from fedcollm_crypto.errors import ProtocolError, Refused
from fedcollm_crypto.homomorphic import messages
from fedcollm_crypto.homomorphic.ciphertext_carriers import read_ciphertexts
from fedcollm_crypto.homomorphic.custody import Custody, DecryptorSetup
from fedcollm_crypto.homomorphic.messages import KeyRequest, Opened, OpenRequest
from fedcollm_crypto.homomorphic.packing import Packing
from fedcollm_crypto.homomorphic.parameters import Bfv
from fedcollm_crypto.homomorphic.worker import WorkerFailed, crashed, opened
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking import rules
from fedcollm_crypto.masking import transcript as hashes
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.messages import Consent, Upload
from fedcollm_crypto.masking.requests import MESSAGE_FRAME, VECTOR_FRAME, Refusal, sign_message
from fedcollm_crypto.roster import Roster
from fedcollm_crypto.signed import Signed


class Decryptor:
    """Open one sum of masked vectors for each attempt.

    Guarantee: one opening for each attempt, after t silos consented and the log named it. This party alone sees
    nothing: an honest sum is uniform to it as long as one pairwise mask of each silo in it is unknown. It cannot tell
    an honest sum from a ciphertext that the server made, one that opens to the attempt's key for example, for both
    look uniform: against such a server the masking protocol's own guarantee is what remains, which holds without this
    party.
    """

    def __init__(self, *, setup: DecryptorSetup, packing: Packing, scheme: Bfv) -> None:
        """Open sums of vectors packed like this."""
        if scheme != setup.scheme or scheme != packing.scheme:
            raise ValueError("the decryptor, its packing and its key must have the same parameters")
        self._setup = setup
        self._packing = packing
        self._modulus = scheme.modulus
        self._custody = Custody(setup)

    def handle(self, request: bytes) -> Chunks:
        """Answer a request that the server of the roster signed, with a signed refusal where the rules forbid it.

        Raises: ProtocolError for anybody else's.
        """
        message, attachment = messages.detach(request)
        signed = server_signed(message, self._setup.roster)
        try:
            if signed.kind == KeyRequest.KIND:
                return self._custody.issue(KeyRequest.from_body(signed.body))
            if signed.kind == OpenRequest.KIND:
                return self._open(signed, OpenRequest.from_body(signed.body), attachment)
            raise ProtocolError("a request for a key or for an opening was expected")
        except Refused as refused:
            return decline(self._setup.identity, message, refused)
        except ProtocolError as error:
            return decline(self._setup.identity, message, Refused("malformed", str(error)))
        except WorkerFailed:
            return decline(self._setup.identity, message, crashed())

    def _open(self, signed: Signed, request: OpenRequest, attachment: memoryview) -> Chunks:
        # (1) The attempt is the one this key was made for, under the consortium's roster, with enough silos.
        manifest = request.manifest
        held = self._custody.held_for(manifest)
        # (2) t silos consented to this U3, all in one transcript.
        require_agreement(manifest, request.messages, self._setup.roster)
        # (3) The log names the attempt, and the sum over U3: nobody opens what others could not learn of.
        self._setup.require_logged(manifest, {one.sender for one in request.messages if one.kind == Upload.KIND})
        # (4) What is to be opened is what the request names, and as many polynomials below q as a sum has.
        if messages.sum_hash(attachment) != request.sum_hash:
            raise ProtocolError("the ciphertexts are not those that the request names")
        ciphertexts = read_ciphertexts(attachment, held.box.prime, held.box.coefficients)
        expected = self._packing.ciphertexts(manifest.quantisation.length) * held.box.coefficients
        if len(ciphertexts) != expected:
            raise ProtocolError(f"{expected} coefficients were expected, got {len(ciphertexts)}")
        # (5) Once for each attempt, on disk before the key is used.
        with opened(self._custody.use(manifest, signed.body_hash)) as box:
            # (6) Open; the key goes; say what was opened.
            slots = box.decrypt(ciphertexts).astype(np.int64)
        words = np.remainder(slots, self._modulus).astype("<u8").tobytes()
        reply = Opened(manifest_hash=manifest.hash, sum_hash=request.sum_hash, opened_hash=messages.opened_hash(words))
        return VECTOR_FRAME, words, sign_message(self._setup.identity, reply).encode()


def require_agreement(manifest: RoundManifest, signed: Sequence[Signed], roster: Roster) -> None:
    """Raise ProtocolError unless the messages are signed uploads of one U3 and at least t consents to it."""
    uploads, consents = _by_sender(signed, Upload.KIND), _by_sender(signed, Consent.KIND)
    if len(uploads) + len(consents) != len(signed):
        raise ProtocolError("uploads and consents were expected, one of each for a silo at most")
    for message in signed:
        rules.verify_sender(message, roster)
    rules.require_subset(uploads, manifest.cohort, "U3")
    rules.require_floor(uploads, manifest, "U3")
    rules.require_subset(consents, uploads, "the quorum")
    bodies = {party: Upload.from_body(message.body) for party, message in uploads.items()}
    if len({body.transcript for body in bodies.values()}) != 1:
        raise ProtocolError("the uploads are not all of one transcript")
    said = [Consent.from_body(message.body) for message in consents.values()]
    named = [body.manifest_hash for body in bodies.values()] + [consent.manifest_hash for consent in said]
    if any(manifest_hash != manifest.hash for manifest_hash in named):
        raise ProtocolError("an upload or a consent is of another manifest")
    agreed = hashes.survivors_hash({party: body.vector_hash for party, body in bodies.items()})
    rules.require_consents([consent.survivors_hash for consent in said], agreed, manifest)


def server_signed(message: bytes, roster: Roster) -> Signed:
    """Return a message that the server of the roster signed. Raises: ProtocolError: to strangers there is no answer."""
    signed = Signed.decode(message)
    if roster.member(signed.sender).role != "server":
        raise ProtocolError("a request from the server of the roster was expected")
    rules.verify_sender(signed, roster)
    return signed


def decline(identity: Identity, message: bytes, refused: Refused) -> Chunks:
    """Return a signed refusal of a request."""
    refusal = Refusal(
        manifest_hash=bytes(HASH_BYTES),
        request_hash=hashlib.sha256(message).digest(),
        reason_code=refused.reason_code,
        reason=str(refused)[:MAX_TEXT],
        accused=refused.accused,
    )
    return (MESSAGE_FRAME + sign_message(identity, refusal).encode(),)


def _by_sender(signed: Sequence[Signed], kind: str) -> Mapping[PartyId, Signed]:
    return {message.sender: message for message in signed if message.kind == kind}
