"""M1–M5: what silos answer. Each is the body of a `Signed` of its kind; `requests` shows what each answers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.canonical import Json
from fedcollm_crypto.derivation import HASH_BYTES
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.fields import Fields, octets
from fedcollm_crypto.hpke import HYBRID_OVERHEAD_BYTES
from fedcollm_crypto.keys import PUBLIC_KEY_BYTES
from fedcollm_crypto.masking.hybrid import KemKeys, SealedSecret
from fedcollm_crypto.sealing import OVERHEAD_BYTES, x25519_key
from fedcollm_crypto.shamir import SHARE_BYTES
from fedcollm_crypto.signed import Signed

NONCE_BYTES = 32
BOX_BYTES = 2 * SHARE_BYTES + OVERHEAD_BYTES
"""Both shares of one silo for another, encrypted."""
HYBRID_BOX_BYTES = 2 * SHARE_BYTES + HYBRID_OVERHEAD_BYTES
"""The same in the post-quantum profile."""


@dataclass(frozen=True, kw_only=True)
class Hello:
    """M1: fresh public keys for this attempt, the commitment to b_i, and what the silo vouches for.

    `mlkem768` is there in the post-quantum profile, and in no other.
    """

    KIND: ClassVar[str] = "hello"
    manifest_hash: bytes
    nonce: bytes
    channel_key: bytes
    mask_key: bytes
    seed_commitment: bytes
    ledger_reservation_hash: str
    cosignature: str
    mlkem768: KemKeys | None = None

    @property
    def public_keys(self) -> tuple[bytes, ...]:
        """Return every fresh key: no two silos may have one in common, and no silo two that are equal."""
        kem_keys = () if self.mlkem768 is None else (self.mlkem768.channel, self.mlkem768.mask)
        return self.channel_key, self.mask_key, *kem_keys

    @property
    def kem_keys(self) -> KemKeys:
        """Return the ML-KEM-768 keys. Raises: ProtocolError for a hello of the classical profile."""
        if self.mlkem768 is None:
            raise ProtocolError("the hello lacks the keys of the post-quantum profile")
        return self.mlkem768

    def to_body(self) -> dict[str, Json]:
        """Return the body as a JSON object."""
        kem_keys: dict[str, Json] = {} if self.mlkem768 is None else {"mlkem768": self.mlkem768.to_body()}
        return kem_keys | {
            "channel_key": self.channel_key.hex(),
            "cosignature": self.cosignature,
            "ledger_reservation_hash": self.ledger_reservation_hash,
            "manifest_hash": self.manifest_hash.hex(),
            "mask_key": self.mask_key.hex(),
            "nonce": self.nonce.hex(),
            "seed_commitment": self.seed_commitment.hex(),
        }

    @classmethod
    def from_body(cls, body: Json) -> Self:
        """Read the body. Raises: ProtocolError."""
        fields = Fields(cls.KIND, body)
        message = cls(
            manifest_hash=fields.octets("manifest_hash", HASH_BYTES),
            nonce=fields.octets("nonce", NONCE_BYTES),
            channel_key=fields.octets("channel_key", PUBLIC_KEY_BYTES),
            mask_key=fields.octets("mask_key", PUBLIC_KEY_BYTES),
            seed_commitment=fields.octets("seed_commitment", HASH_BYTES),
            ledger_reservation_hash=fields.text("ledger_reservation_hash"),
            cosignature=fields.text("cosignature"),
            mlkem768=KemKeys.from_body(fields.members("mlkem768")) if fields.has("mlkem768") else None,
        )
        fields.close()
        for key in (message.channel_key, message.mask_key):
            x25519_key(key, "a hello")  # a twin of another key would pass for a key of its own
        return message


@dataclass(frozen=True, kw_only=True)
class ShareBox:
    """M2, for one recipient: the sender's shares of b and s under encryption, and commitments to both.

    The box opens only beside exactly these fields. The commitments let the server see which silo reveals a wrong share.
    In the post-quantum profile the sender's secret for the mask of the pair is beside it, if the sender comes first.
    """

    KIND: ClassVar[str] = "share-box"
    transcript: bytes
    sender: PartyId
    recipient: PartyId
    box: bytes
    seed_share_commitment: bytes
    key_share_commitment: bytes
    mask_secret: SealedSecret | None = None

    def require_profile(self, *, post_quantum: bool) -> None:
        """Raise ProtocolError unless the box has the form of this profile."""
        wants_secret = post_quantum and self.sender < self.recipient
        box_bytes = HYBRID_BOX_BYTES if post_quantum else BOX_BYTES
        if len(self.box) != box_bytes or (self.mask_secret is not None) != wants_secret:
            raise ProtocolError("a box is not of this round's profile")

    def to_body(self) -> dict[str, Json]:
        """Return the body as a JSON object."""
        mask_secret: dict[str, Json] = {} if self.mask_secret is None else {"mask_secret": self.mask_secret.to_body()}
        return mask_secret | {
            "box": self.box.hex(),
            "key_share_commitment": self.key_share_commitment.hex(),
            "recipient": self.recipient,
            "seed_share_commitment": self.seed_share_commitment.hex(),
            "sender": self.sender,
            "transcript": self.transcript.hex(),
        }

    @classmethod
    def from_body(cls, body: Json) -> Self:
        """Read the body. Raises: ProtocolError."""
        fields = Fields(cls.KIND, body)
        message = cls(
            transcript=fields.octets("transcript", HASH_BYTES),
            sender=fields.text("sender"),
            recipient=fields.text("recipient"),
            box=fields.octets("box", BOX_BYTES, HYBRID_BOX_BYTES),
            seed_share_commitment=fields.octets("seed_share_commitment", HASH_BYTES),
            key_share_commitment=fields.octets("key_share_commitment", HASH_BYTES),
            mask_secret=SealedSecret.from_body(fields.members("mask_secret")) if fields.has("mask_secret") else None,
        )
        fields.close()
        return message


@dataclass(frozen=True, kw_only=True)
class Shares:
    """M2: one signed box for each silo of U1, the sender included."""

    KIND: ClassVar[str] = "shares"
    manifest_hash: bytes
    transcript: bytes
    boxes: tuple[Signed, ...]

    def to_body(self) -> dict[str, Json]:
        """Return the body as a JSON object."""
        return {
            "boxes": [box.to_json() for box in self.boxes],
            "manifest_hash": self.manifest_hash.hex(),
            "transcript": self.transcript.hex(),
        }

    @classmethod
    def from_body(cls, body: Json) -> Self:
        """Read the body. Raises: ProtocolError."""
        fields = Fields(cls.KIND, body)
        message = cls(
            manifest_hash=fields.octets("manifest_hash", HASH_BYTES),
            transcript=fields.octets("transcript", HASH_BYTES),
            boxes=tuple(Signed.from_json(value) for value in fields.items("boxes")),
        )
        fields.close()
        return message


@dataclass(frozen=True, kw_only=True)
class Upload:
    """M3, behind the masked words: their hash, and the hash of U2, over whose masks they were made."""

    KIND: ClassVar[str] = "upload"
    manifest_hash: bytes
    transcript: bytes
    vector_hash: bytes
    cohort_hash: bytes

    def to_body(self) -> dict[str, Json]:
        """Return the body as a JSON object."""
        return {
            "cohort_hash": self.cohort_hash.hex(),
            "manifest_hash": self.manifest_hash.hex(),
            "transcript": self.transcript.hex(),
            "vector_hash": self.vector_hash.hex(),
        }

    @classmethod
    def from_body(cls, body: Json) -> Self:
        """Read the body. Raises: ProtocolError."""
        fields = Fields(cls.KIND, body)
        message = cls(
            manifest_hash=fields.octets("manifest_hash", HASH_BYTES),
            transcript=fields.octets("transcript", HASH_BYTES),
            vector_hash=fields.octets("vector_hash", HASH_BYTES),
            cohort_hash=fields.octets("cohort_hash", HASH_BYTES),
        )
        fields.close()
        return message


@dataclass(frozen=True, kw_only=True)
class Consent:
    """M4: the silo agrees to unmask the sum over U3 and over no other set in this attempt."""

    KIND: ClassVar[str] = "consent"
    manifest_hash: bytes
    transcript: bytes
    survivors_hash: bytes

    def to_body(self) -> dict[str, Json]:
        """Return the body as a JSON object."""
        return {
            "manifest_hash": self.manifest_hash.hex(),
            "survivors_hash": self.survivors_hash.hex(),
            "transcript": self.transcript.hex(),
        }

    @classmethod
    def from_body(cls, body: Json) -> Self:
        """Read the body. Raises: ProtocolError."""
        fields = Fields(cls.KIND, body)
        message = cls(
            manifest_hash=fields.octets("manifest_hash", HASH_BYTES),
            transcript=fields.octets("transcript", HASH_BYTES),
            survivors_hash=fields.octets("survivors_hash", HASH_BYTES),
        )
        fields.close()
        return message


@dataclass(frozen=True, kw_only=True)
class Reveal:
    """M5: shares of b_j for survivors, shares of s_j (or m_j) for those who dropped out; for nobody both."""

    KIND: ClassVar[str] = "reveal"
    manifest_hash: bytes
    transcript: bytes
    seed_shares: Mapping[PartyId, bytes]
    key_shares: Mapping[PartyId, bytes]

    def to_body(self) -> dict[str, Json]:
        """Return the body as a JSON object."""
        return {
            "key_shares": {party: share.hex() for party, share in self.key_shares.items()},
            "manifest_hash": self.manifest_hash.hex(),
            "seed_shares": {party: share.hex() for party, share in self.seed_shares.items()},
            "transcript": self.transcript.hex(),
        }

    @classmethod
    def from_body(cls, body: Json) -> Self:
        """Read the body. Raises: ProtocolError."""
        fields = Fields(cls.KIND, body)
        message = cls(
            manifest_hash=fields.octets("manifest_hash", HASH_BYTES),
            transcript=fields.octets("transcript", HASH_BYTES),
            seed_shares=_shares(fields, "seed_shares"),
            key_shares=_shares(fields, "key_shares"),
        )
        fields.close()
        return message


def _shares(fields: Fields, name: str) -> dict[PartyId, bytes]:
    return {party: octets(f"reveal.{name}", value, SHARE_BYTES) for party, value in fields.members(name).items()}
