"""What the server has gathered in one attempt, and the check that each reply passes before it is let in.

Every check raises ProtocolError; the server then drops the sender. What was let in, anybody can check again.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedcollm_crypto import sealing
from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.masking import transcript as hashes
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.messages import Consent, Hello, Reveal, ShareBox, Shares, Upload
from fedcollm_crypto.masking.unmask import Opening
from fedcollm_crypto.roster import Roster
from fedcollm_crypto.signed import Signed
from fedcollm_crypto.wire import Octets


@dataclass(kw_only=True)
class Gathered:
    """U1, U2, U3 and the quorum, as they come in. The keys of each mapping are the set."""

    manifest: RoundManifest
    roster: Roster
    signed_hellos: dict[PartyId, Signed] = field(default_factory=dict[PartyId, Signed])
    hellos: dict[PartyId, Hello] = field(default_factory=dict[PartyId, Hello])
    transcript: bytes = b""
    signed_boxes: dict[PartyId, Mapping[PartyId, Signed]] = field(
        default_factory=dict[PartyId, Mapping[PartyId, Signed]]
    )
    boxes: dict[PartyId, Mapping[PartyId, ShareBox]] = field(default_factory=dict[PartyId, Mapping[PartyId, ShareBox]])
    cohort_hash: bytes = b""
    signed_uploads: dict[PartyId, Signed] = field(default_factory=dict[PartyId, Signed])
    vector_hashes: dict[PartyId, bytes] = field(default_factory=dict[PartyId, bytes])
    survivors_hash: bytes = b""
    consents: dict[PartyId, Signed] = field(default_factory=dict[PartyId, Signed])
    reveals: dict[PartyId, Reveal] = field(default_factory=dict[PartyId, Reveal])

    def take_hello(self, message: Signed) -> None:
        """(M1) Let in fresh keys of the round's profile that are usable and nobody else's."""
        hello, others = Hello.from_body(message.body), self.hellos.values()
        if (hello.mlkem768 is not None) != self.manifest.post_quantum:
            raise ProtocolError("the hello is of another profile than the manifest")
        for public in (hello.channel_key, hello.mask_key):
            sealing.agree(X25519PrivateKey.generate(), public, message.sender)  # raises for a low-order key
        taken, keys = {key for other in others for key in other.public_keys}, set(hello.public_keys)
        if len(keys) != len(hello.public_keys) or taken & keys:
            raise ProtocolError("a key in the hello is in use already")
        if any(o.nonce == hello.nonce or o.seed_commitment == hello.seed_commitment for o in others):
            raise ProtocolError("the nonce or the commitment in the hello is somebody else's")
        self.signed_hellos[message.sender], self.hellos[message.sender] = message, hello

    def take_shares(self, message: Signed) -> None:
        """(M2) Let in one box for each silo of U1. Their signatures are the recipients' matter, should one not open."""
        shares = Shares.from_body(message.body)
        self._require_transcript(shares.transcript)
        signed = {str(box.body.get("recipient")): box for box in shares.boxes}
        if signed.keys() != self.hellos.keys() or len(shares.boxes) != len(signed):
            raise ProtocolError("one box for each silo of U1 was expected")
        boxes = {recipient: ShareBox.from_body(box.body) for recipient, box in signed.items()}
        for recipient, box in boxes.items():
            if (box.sender, signed[recipient].sender, signed[recipient].kind) != (
                message.sender,
                message.sender,
                ShareBox.KIND,
            ):
                raise ProtocolError("a box names another sender than the one who brought it")
            self._require_transcript(box.transcript)
            box.require_profile(post_quantum=self.manifest.post_quantum)
        self.signed_boxes[message.sender], self.boxes[message.sender] = signed, boxes

    def check_upload(self, message: Signed, vector: Octets) -> None:
        """(M3) Check that a masked vector's bytes are those that were signed, masked over this U2."""
        upload = Upload.from_body(message.body)
        self._require_transcript(upload.transcript)
        if upload.cohort_hash != self.cohort_hash:
            raise ProtocolError("the vector was masked over another set of silos than U2")
        hasher = hashes.vector_hasher()
        hasher.update(vector.data)
        if hasher.finalize() != upload.vector_hash:
            raise ProtocolError("the masked words are not those that were signed")

    def take_upload(self, message: Signed) -> None:
        """(M3) Let in an upload that was checked and added."""
        self.signed_uploads[message.sender] = message
        self.vector_hashes[message.sender] = Upload.from_body(message.body).vector_hash

    def take_consent(self, message: Signed) -> None:
        """(M4) Let in the consent to exactly this U3."""
        consent = Consent.from_body(message.body)
        self._require_transcript(consent.transcript)
        if consent.survivors_hash != self.survivors_hash:
            raise ProtocolError("the consent is to another set of survivors")
        self.consents[message.sender] = message

    def take_reveal(self, message: Signed) -> None:
        """(M5) Let in the right share of each silo of U2, each the one that its dealer committed to."""
        reveal, who = Reveal.from_body(message.body), message.sender
        self._require_transcript(reveal.transcript)
        survivors, lost = set(self.vector_hashes), set(self.boxes) - set(self.vector_hashes)
        if set(reveal.seed_shares) != survivors or set(reveal.key_shares) != lost:
            raise ProtocolError("shares of b for U3 and of s for the rest of U2 were expected")
        for owner, share in reveal.seed_shares.items():
            if hashes.seed_share_commitment(share) != self.boxes[owner][who].seed_share_commitment:
                raise ProtocolError(f"the revealed share of {owner}'s b is not the one that was dealt")
        for owner, share in reveal.key_shares.items():
            if hashes.key_share_commitment(share) != self.boxes[owner][who].key_share_commitment:
                raise ProtocolError(f"the revealed share of {owner}'s s is not the one that was dealt")
        self.reveals[who] = reveal

    def opening(self) -> Opening:
        """Return what unmasking needs."""
        return Opening(
            manifest=self.manifest,
            roster=self.roster,
            transcript=self.transcript,
            hellos=self.hellos,
            members=frozenset(self.boxes),
            survivors=frozenset(self.vector_hashes),
            reveals=self.reveals,
            boxes=self.boxes,
        )

    def _require_transcript(self, transcript: bytes) -> None:
        if transcript != self.transcript:
            raise ProtocolError("the message belongs to another transcript")
