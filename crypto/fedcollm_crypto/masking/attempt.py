"""What a silo does in one attempt, as verbs without I/O or state: each takes what it needs and returns what it says.

The numbers are those of the README and of `protocol.run_masking`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedcollm_crypto import sealing, shamir
from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.derivation import labelled
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import Randomness
from fedcollm_crypto.masking import transcript as hashes
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.masks import MaskKeys
from fedcollm_crypto.masking.messages import NONCE_BYTES, Hello, ShareBox
from fedcollm_crypto.masking.policy import Pledge
from fedcollm_crypto.roster import Roster

BOX_CONTEXT_LABEL = b"fedcollm/v1/share-box-context"


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """One silo's ephemeral secrets: drawn for an attempt, gone after it."""

    channel: X25519PrivateKey = field(repr=False)
    mask: X25519PrivateKey = field(repr=False)
    seed: bytes = field(repr=False)
    nonce: bytes

    @classmethod
    def draw(cls, randomness: Randomness) -> "Secrets":
        """Draw c_i, s_i, b_i and the nonce, in this order."""
        return cls(
            channel=X25519PrivateKey.from_private_bytes(randomness(32)),
            mask=X25519PrivateKey.from_private_bytes(randomness(32)),
            seed=randomness(shamir.SECRET_BYTES),
            nonce=randomness(NONCE_BYTES),
        )


@dataclass(frozen=True, kw_only=True)
class OpenedShares:
    """What a silo holds of another: one share of b_j and one of s_j. It will reveal one of them at most."""

    seed_share: bytes = field(repr=False)
    key_share: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an attempt stands: who speaks, under which manifest, in which transcript, among whom (U1)."""

    me: PartyId
    manifest: RoundManifest
    roster: Roster
    transcript: bytes
    hellos: Mapping[PartyId, Hello]


def say_hello(manifest: RoundManifest, secrets: Secrets, pledge: Pledge) -> Hello:
    """(M1) Publish the two fresh keys and the commitment to b_i."""
    return Hello(
        manifest_hash=manifest.hash,
        nonce=secrets.nonce,
        channel_key=secrets.channel.public_key().public_bytes_raw(),
        mask_key=secrets.mask.public_key().public_bytes_raw(),
        seed_commitment=hashes.seed_commitment(secrets.seed),
        ledger_reservation_hash=pledge.ledger_reservation_hash,
        cosignature=pledge.cosignature,
    )


def agree_channels(place: Place, secrets: Secrets) -> dict[PartyId, bytes]:
    """(M2) Agree with each silo of U1, oneself included, on the secret that both directions' box keys come from."""
    return {party: sealing.agree(secrets.channel, hello.channel_key, party) for party, hello in place.hellos.items()}


def deal_shares(
    place: Place, secrets: Secrets, channels: Mapping[PartyId, bytes], randomness: Randomness
) -> list[ShareBox]:
    """(M2) Split b_i and s_i among U1 and box one share of each for every silo, the dealer included.

    The dealer's own shares travel to the server and back in a box like any other: no case is special.
    """
    points = {party: place.roster.point(party) for party in place.hellos}
    t = place.manifest.threshold
    seed_shares = shamir.split(secrets.seed, t, tuple(points.values()), randomness)
    key_shares = shamir.split(secrets.mask.private_bytes_raw(), t, tuple(points.values()), randomness)
    return [
        _box(place, recipient, channels[recipient], (seed_shares[point], key_shares[point]), randomness)
        for recipient, point in sorted(points.items())
    ]


def _box(
    place: Place, recipient: PartyId, channel: bytes, shares: tuple[bytes, bytes], randomness: Randomness
) -> ShareBox:
    seed_share, key_share = shares
    key = sealing.box_key(channel, place.transcript, place.me, recipient)
    seed_commitment = hashes.seed_share_commitment(seed_share)
    key_commitment = hashes.key_share_commitment(key_share)
    context = _context(place.transcript, place.me, recipient, seed_commitment, key_commitment)
    return ShareBox(
        transcript=place.transcript,
        sender=place.me,
        recipient=recipient,
        box=sealing.seal(key, seed_share + key_share, context, randomness),
        seed_share_commitment=seed_commitment,
        key_share_commitment=key_commitment,
    )


def open_box(place: Place, channel: bytes, box: ShareBox) -> OpenedShares:
    """(M3) Open a box for this silo. Raises: ProtocolError when it was not made, or not filled, as M2 says."""
    key = sealing.box_key(channel, place.transcript, box.sender, place.me)
    context = _context(place.transcript, box.sender, place.me, box.seed_share_commitment, box.key_share_commitment)
    plaintext = sealing.unseal(key, box.box, context)
    opened = OpenedShares(seed_share=plaintext[: shamir.SHARE_BYTES], key_share=plaintext[shamir.SHARE_BYTES :])
    if (
        hashes.seed_share_commitment(opened.seed_share) != box.seed_share_commitment
        or hashes.key_share_commitment(opened.key_share) != box.key_share_commitment
    ):
        raise ProtocolError("a box holds other shares than those its sender committed to")
    return opened


def _context(transcript: bytes, sender: PartyId, recipient: PartyId, *commitments: bytes) -> bytes:
    return labelled(BOX_CONTEXT_LABEL, transcript, sender.encode(), recipient.encode(), *commitments)


def choose_masks(place: Place, secrets: Secrets, members: frozenset[PartyId]) -> MaskKeys:
    """(M3) Derive PRG(b_i) to add, and PRG(s_ij) for each j of U2: to add where j comes after i, else to subtract."""
    plus = [hashes.self_mask_key(secrets.seed, place.transcript, place.manifest.hash, place.me)]
    minus: list[bytes] = []
    for party in sorted(members - {place.me}):
        shared = sealing.agree(secrets.mask, place.hellos[party].mask_key, party)
        key = hashes.pair_mask_key(shared, place.transcript, place.manifest.hash, place.me, party)
        (plus if party > place.me else minus).append(key)
    return MaskKeys(plus=plus, minus=minus)
