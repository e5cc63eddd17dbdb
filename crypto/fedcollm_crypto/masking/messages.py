"""The messages M1 and M3–M5, which silos answer. Each is the body of a `Signed` of its kind; M2 is in `dealing`.

`requests` shows what each answers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.declared import Declared
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.kinds import Octets, Sha256
from fedcollm_crypto.masking.hybrid import KemKeys
from fedcollm_crypto.sealing import X25519Public
from fedcollm_crypto.shamir import Share

NONCE_BYTES = 32


@dataclass(frozen=True, kw_only=True)
class Hello(Declared):
    """M1: fresh public keys for this attempt, the commitment to b_i, and what the silo vouches for.

    `mlkem768` is there in the post-quantum profile, and in no other.
    """

    KIND: ClassVar[str] = "hello"
    manifest_hash: Sha256
    nonce: Annotated[bytes, Octets(NONCE_BYTES)]
    channel_key: X25519Public  # a twin of another key would pass for a key of its own
    mask_key: X25519Public
    seed_commitment: Sha256
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


@dataclass(frozen=True, kw_only=True)
class Upload(Declared):
    """M3, behind the masked words: their hash, and the hash of U2, over whose masks they were made."""

    KIND: ClassVar[str] = "upload"
    manifest_hash: Sha256
    transcript: Sha256
    vector_hash: Sha256
    cohort_hash: Sha256


@dataclass(frozen=True, kw_only=True)
class Consent(Declared):
    """M4: the silo agrees to unmask the sum over U3 and over no other set in this attempt."""

    KIND: ClassVar[str] = "consent"
    manifest_hash: Sha256
    transcript: Sha256
    survivors_hash: Sha256


@dataclass(frozen=True, kw_only=True)
class Reveal(Declared):
    """M5: shares of b_j for survivors, shares of s_j (or m_j) for those who dropped out; for nobody both."""

    KIND: ClassVar[str] = "reveal"
    manifest_hash: Sha256
    transcript: Sha256
    seed_shares: Mapping[PartyId, Share]
    key_shares: Mapping[PartyId, Share]
