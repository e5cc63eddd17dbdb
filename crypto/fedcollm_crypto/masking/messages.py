"""The messages M1 and M3–M5, which silos answer. Each is the body of a `Signed` of its kind; M2 is in `dealing`.

`requests` shows what each answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.canonical import Json
from fedcollm_crypto.derivation import HASH_BYTES
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.fields import Fields, octets
from fedcollm_crypto.keys import PUBLIC_KEY_BYTES
from fedcollm_crypto.masking.hybrid import KemKeys
from fedcollm_crypto.sealing import x25519_key
from fedcollm_crypto.shamir import SHARE_BYTES

NONCE_BYTES = 32


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
