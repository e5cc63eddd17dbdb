"""What is hashed and derived in a round, each under its own label: transcripts, commitments and mask keys."""

from collections.abc import Iterable, Mapping

from cryptography.hazmat.primitives.hashes import SHA256, Hash

from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.derivation import derive_key, digest, labelled
from fedcollm_crypto.signed import Signed

TRANSCRIPT_LABEL = b"fedcollm/v1/transcript"
COHORT_LABEL = b"fedcollm/v1/cohort"
SURVIVORS_LABEL = b"fedcollm/v1/survivors"
VECTOR_LABEL = b"fedcollm/v1/masked-vector"
SEED_LABEL = b"fedcollm/v1/seed-commitment"
SEED_SHARE_LABEL = b"fedcollm/v1/seed-share-commitment"
KEY_SHARE_LABEL = b"fedcollm/v1/key-share-commitment"
PAIR_MASK_LABEL = b"fedcollm/v1/mask"
SELF_MASK_LABEL = b"fedcollm/v1/self-mask"


def transcript_hash(hellos: Mapping[PartyId, Signed]) -> bytes:
    """Return T1, the hash of all hellos in order of their senders; every nonce in it makes it fresh."""
    return transcript_of({party: hello.body_hash for party, hello in hellos.items()})


def transcript_of(hello_hashes: Mapping[PartyId, bytes]) -> bytes:
    """Return T1 from the hashes of the hellos' bodies."""
    parts = [part for party in sorted(hello_hashes) for part in (party.encode(), hello_hashes[party])]
    return digest(TRANSCRIPT_LABEL, *parts)


def cohort_hash(parties: Iterable[PartyId]) -> bytes:
    """Return the hash of a set of silos."""
    return digest(COHORT_LABEL, *(party.encode() for party in sorted(parties)))


def survivors_hash(vector_hashes: Mapping[PartyId, bytes]) -> bytes:
    """Return the hash of U3 and of what each of its members uploaded."""
    parts = [part for party in sorted(vector_hashes) for part in (party.encode(), vector_hashes[party])]
    return digest(SURVIVORS_LABEL, *parts)


def vector_hasher() -> Hash:
    """Return a hash object to feed a masked vector's words to."""
    hasher = Hash(SHA256())
    hasher.update(labelled(VECTOR_LABEL))
    return hasher


def seed_commitment(seed: bytes) -> bytes:
    """Return H(b_i): hiding and binding, since b_i is uniform in 256 bits."""
    return digest(SEED_LABEL, seed)


def seed_share_commitment(share: bytes) -> bytes:
    """Return the commitment to a share of b: hiding, since a share is uniform in 521 bits."""
    return digest(SEED_SHARE_LABEL, share)


def key_share_commitment(share: bytes) -> bytes:
    """Return the commitment to a share of s, under a label of its own."""
    return digest(KEY_SHARE_LABEL, share)


def pair_mask_key(shared: bytes, transcript: bytes, manifest_hash: bytes, one: PartyId, other: PartyId) -> bytes:
    """Return the stream key of the mask between two silos, the same whichever of them asks.

    The manifest's hash is in it: silos that were shown different manifests make masks that do not cancel.
    """
    low, high = sorted((one.encode(), other.encode()))
    return derive_key(shared, salt=transcript, label=PAIR_MASK_LABEL, parts=(manifest_hash, low, high))


def self_mask_key(seed: bytes, transcript: bytes, manifest_hash: bytes, party: PartyId) -> bytes:
    """Return the stream key of a silo's own mask, which b_i alone gives."""
    return derive_key(seed, salt=transcript, label=SELF_MASK_LABEL, parts=(manifest_hash, party.encode()))
