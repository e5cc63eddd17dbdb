"""The post-quantum profile: what one master secret m_i gives, and how a mask secret reaches the other end of a pair.

    m_i ─┬─ s_i            X25519: its half of every pair's secret, as in the classical profile
         ├─ M_i            ML-KEM-768: opens what others sealed for i
         └─ r_{i→j}, i < j: its half of the mask with j, sealed to M_j, with a commitment beside it

s_ij is derived from X25519(s_i, S_j) and r_{i→j}: it stays secret while either X25519 or ML-KEM-768 holds. What is
Shamir-shared is m_i. Whoever has m_i has both halves of every mask of i: r_{i→j} by derivation for j after i, and by
opening what j sent for j before i. ML-KEM encapsulates a secret of its own choosing, and `cryptography` takes no
randomness for it; so r_{i→j} isn't encapsulated but sealed under an encapsulated key (HPKE, RFC 9180).

The commitment joins the three who use one r_{i→j}: i, who derives it, j, who opens it, and the server, who does either
once i or j is lost. Without it, a silo could seal another r than it derives, be lost, and spoil the sum unseen.
"""

import hmac
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Self, TypeAlias

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedcollm_crypto import hpke
from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.declared import Declared
from fedcollm_crypto.derivation import derive_key, digest, labelled
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.kinds import Octets, Sha256

SECRET_BYTES = 32
SEALED_BYTES = SECRET_BYTES + hpke.KEM_OVERHEAD_BYTES
MASTER_X25519_LABEL = b"fedcollm/v1/pq-master-x25519"
MASTER_KEM_LABEL = b"fedcollm/v1/pq-master-mlkem768"
SECRET_LABEL = b"fedcollm/v1/pq-mask-secret"
COMMITMENT_LABEL = b"fedcollm/v1/pq-mask-secret-commitment"
CONTEXT_LABEL = b"fedcollm/v1/pq-mask-secret-context"
PAIR_MASK_LABEL = b"fedcollm/v1/pq-mask"

KemPublic: TypeAlias = Annotated[bytes, Octets(hpke.KEM_KEY_BYTES, check=hpke.kem_key)]


@dataclass(frozen=True, kw_only=True)
class KemKeys(Declared):
    """What a hello adds in this profile: fresh ML-KEM-768 keys for boxes (`channel`) and for mask secrets (`mask`)."""

    NAME: ClassVar[str] = "hello.mlkem768"
    channel: KemPublic
    mask: KemPublic


@dataclass(frozen=True, kw_only=True)
class SealedSecret(Declared):
    """r_{i→j} for silo j alone, and the commitment that holds i to it."""

    sealed: Annotated[bytes, Octets(SEALED_BYTES)]
    commitment: Sha256


@dataclass(frozen=True, kw_only=True)
class MaskKeyPairs:
    """The two key pairs that a master gives: s_i for X25519, M_i for ML-KEM-768."""

    x25519: X25519PrivateKey = field(repr=False)
    mlkem768: MLKEM768PrivateKey = field(repr=False)

    @classmethod
    def derive(cls, master: bytes, manifest_hash: bytes, party: PartyId) -> Self:
        """Derive both from m_i; from either nobody computes m_i back."""
        parts = (party.encode(),)
        scalar = derive_key(master, salt=manifest_hash, label=MASTER_X25519_LABEL, parts=parts)
        seed = derive_key(master, salt=manifest_hash, label=MASTER_KEM_LABEL, parts=parts, length=hpke.KEM_SEED_BYTES)
        return cls(
            x25519=X25519PrivateKey.from_private_bytes(scalar), mlkem768=MLKEM768PrivateKey.from_seed_bytes(seed)
        )

    @property
    def public_keys(self) -> tuple[bytes, bytes]:
        """Return S_i and the public key of M_i, as the hello shows them."""
        return self.x25519.public_key().public_bytes_raw(), self.mlkem768.public_key().public_bytes_raw()


@dataclass(frozen=True, kw_only=True)
class HybridSecrets:
    """What a silo keeps beside its classical secrets: m_i, the ML-KEM key of its boxes, and M_i, which m_i gives."""

    master: bytes = field(repr=False)
    channel: MLKEM768PrivateKey = field(repr=False)
    mask: MLKEM768PrivateKey = field(repr=False)

    @property
    def public_keys(self) -> KemKeys:
        """Return what the hello shows."""
        return KemKeys(
            channel=self.channel.public_key().public_bytes_raw(), mask=self.mask.public_key().public_bytes_raw()
        )


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two silos in one attempt: `low` comes first in the alphabet and chooses r_{low→high}."""

    transcript: bytes
    manifest_hash: bytes
    low: PartyId
    high: PartyId

    def secret(self, master: bytes) -> bytes:
        """Return r_{low→high}, from the master of `low`."""
        return derive_key(master, salt=self.transcript, label=SECRET_LABEL, parts=self._parts)

    def seal(self, master: bytes, mask_key: bytes) -> SealedSecret:
        """Return r_{low→high} sealed to the mask key of `high`. Raises: ProtocolError for a bad key."""
        secret = self.secret(master)
        sealed = hpke.seal_kem(mask_key, secret, labelled(CONTEXT_LABEL, self.transcript, *self._parts), self.high)
        return SealedSecret(sealed=sealed, commitment=commit(secret))

    def open(self, mask: MLKEM768PrivateKey, secret: SealedSecret) -> bytes:
        """Return r_{low→high}, with M of `high`. Raises: ProtocolError when it isn't what `low` committed to."""
        opened = hpke.open_kem(mask, secret.sealed, labelled(CONTEXT_LABEL, self.transcript, *self._parts))
        require_committed(opened, secret)
        return opened

    def mask_key(self, shared: bytes, secret: bytes) -> bytes:
        """Return the stream key of the pair's mask, from X25519(s_i, S_j) and r_{low→high}.

        Guarantee: uniform to whoever lacks either of the two, with HKDF-SHA256 as a random oracle. Both X25519 keys and
        both ML-KEM keys are in the transcript.
        """
        return derive_key(shared + secret, salt=self.transcript, label=PAIR_MASK_LABEL, parts=self._parts)

    @property
    def _parts(self) -> tuple[bytes, bytes, bytes]:
        return self.manifest_hash, self.low.encode(), self.high.encode()


def commit(secret: bytes) -> bytes:
    """Return the commitment to r_{i→j}: hiding, since it is uniform in 256 bits."""
    return digest(COMMITMENT_LABEL, secret)


def require_committed(secret: bytes, to: SealedSecret) -> None:
    """Raise ProtocolError unless this is the mask secret that was committed to."""
    if not hmac.compare_digest(commit(secret), to.commitment):
        raise ProtocolError("a mask secret is another than the one its sender committed to")
