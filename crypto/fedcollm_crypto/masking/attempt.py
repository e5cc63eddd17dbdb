"""What a silo does in one attempt, as verbs without I/O or state: each takes what it needs and returns what it says.

The numbers are those of the README and of `protocol.run_masking`.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedcollm_crypto import hpke, sealing, shamir
from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.derivation import labelled
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import Randomness
from fedcollm_crypto.masking import transcript as hashes
from fedcollm_crypto.masking.dealing import Contents, ShareBox
from fedcollm_crypto.masking.hybrid import HybridSecrets, MaskKeyPairs, Pair, require_committed
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.masks import MaskKeys
from fedcollm_crypto.masking.messages import NONCE_BYTES, Hello
from fedcollm_crypto.masking.policy import Pledge
from fedcollm_crypto.roster import Roster

BOX_CONTEXT_LABEL = b"fedcollm/v1/share-box-context"
HYBRID_BOX_CONTEXT_LABEL = b"fedcollm/v1/pq-share-box-context"


@dataclass(frozen=True, kw_only=True)
class Secrets:
    """One silo's ephemeral secrets: drawn for an attempt, gone after it. `hybrid` is for the post-quantum profile."""

    channel: X25519PrivateKey = field(repr=False)
    mask: X25519PrivateKey = field(repr=False)
    seed: bytes = field(repr=False)
    nonce: bytes
    hybrid: HybridSecrets | None = field(default=None, repr=False)

    @classmethod
    def draw(cls, randomness: Randomness) -> "Secrets":
        """Draw c_i, s_i, b_i and the nonce, in this order."""
        return cls(
            channel=X25519PrivateKey.from_private_bytes(randomness(32)),
            mask=X25519PrivateKey.from_private_bytes(randomness(32)),
            seed=randomness(shamir.SECRET_BYTES),
            nonce=randomness(NONCE_BYTES),
        )

    @classmethod
    def draw_hybrid(cls, manifest: RoundManifest, party: PartyId, randomness: Randomness) -> "Secrets":
        """Draw c_i, the ML-KEM key beside it, m_i, b_i and the nonce, in this order; s_i and M_i come from m_i."""
        channel, kem_seed = randomness(32), randomness(hpke.KEM_SEED_BYTES)
        master = randomness(shamir.SECRET_BYTES)
        mask = MaskKeyPairs.derive(master, manifest.hash, party)
        kem_channel = MLKEM768PrivateKey.from_seed_bytes(kem_seed)
        return cls(
            channel=X25519PrivateKey.from_private_bytes(channel),
            mask=mask.x25519,
            seed=randomness(shamir.SECRET_BYTES),
            nonce=randomness(NONCE_BYTES),
            hybrid=HybridSecrets(master=master, channel=kem_channel, mask=mask.mlkem768),
        )

    @property
    def recoverable(self) -> bytes:
        """Return what others must be able to combine if this silo is lost: s_i, or m_i."""
        return self.mask.private_bytes_raw() if self.hybrid is None else self.hybrid.master


@dataclass(frozen=True, kw_only=True)
class OpenedShares:
    """What a silo holds of another: one share of b_j and one of s_j or m_j. It will reveal one of them at most.

    `mask_secret` is r_{j→i}, in the post-quantum profile and of a silo j that comes before this one; else empty.
    """

    seed_share: bytes = field(repr=False)
    key_share: bytes = field(repr=False)
    mask_secret: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where an attempt stands: who speaks, under which manifest, in which transcript, among whom (U1)."""

    me: PartyId
    manifest: RoundManifest
    roster: Roster
    transcript: bytes
    hellos: Mapping[PartyId, Hello]

    def pair(self, one: PartyId, other: PartyId) -> Pair:
        """Return a pair of silos in this attempt."""
        low, high = sorted((one, other))
        return Pair(transcript=self.transcript, manifest_hash=self.manifest.hash, low=low, high=high)


def draw_secrets(manifest: RoundManifest, party: PartyId, randomness: Randomness) -> Secrets:
    """(M1) Draw what the manifest's profile needs."""
    return Secrets.draw_hybrid(manifest, party, randomness) if manifest.post_quantum else Secrets.draw(randomness)


def say_hello(manifest: RoundManifest, secrets: Secrets, pledge: Pledge) -> Hello:
    """(M1) Publish the fresh keys and the commitment to b_i."""
    return Hello(
        manifest_hash=manifest.hash,
        nonce=secrets.nonce,
        channel_key=secrets.channel.public_key().public_bytes_raw(),
        mask_key=secrets.mask.public_key().public_bytes_raw(),
        seed_commitment=hashes.seed_commitment(secrets.seed),
        ledger_reservation_hash=pledge.ledger_reservation_hash,
        cosignature=pledge.cosignature,
        mlkem768=None if secrets.hybrid is None else secrets.hybrid.public_keys,
    )


def agree_channels(place: Place, secrets: Secrets) -> dict[PartyId, bytes]:
    """(M2) Agree with each silo of U1, oneself included, on the secret that both directions' box keys come from.

    In the post-quantum profile there is none: each box brings its own.
    """
    if secrets.hybrid is not None:
        return {}
    return {party: sealing.agree(secrets.channel, hello.channel_key, party) for party, hello in place.hellos.items()}


@dataclass(frozen=True, kw_only=True)
class Dealt:
    """One silo's boxes by recipient, and what it put into each: to be disclosed where a box does not open."""

    boxes: Mapping[PartyId, ShareBox]
    contents: Mapping[PartyId, Contents] = field(repr=False)


def deal_shares(place: Place, secrets: Secrets, channels: Mapping[PartyId, bytes], randomness: Randomness) -> Dealt:
    """(M2) Split b_i and s_i (or m_i) among U1 and box one share of each for every silo, the dealer included.

    The dealer's own shares travel to the server and back in a box like any other: no case is special.
    """
    points = {party: place.roster.point(party) for party in place.hellos}
    t = place.manifest.threshold
    seed_shares = shamir.split(secrets.seed, t, tuple(points.values()), randomness)
    key_shares = shamir.split(secrets.recoverable, t, tuple(points.values()), randomness)
    boxes: dict[PartyId, ShareBox] = {}
    contents: dict[PartyId, Contents] = {}
    for recipient, point in sorted(points.items()):
        shares, secret = (seed_shares[point], key_shares[point]), b""
        if secrets.hybrid is None:
            boxes[recipient] = _box(place, recipient, channels[recipient], shares, randomness)
        else:
            boxes[recipient] = _hybrid_box(place, recipient, secrets.hybrid, shares)
            secret = place.pair(place.me, recipient).secret(secrets.hybrid.master) if place.me < recipient else b""
        contents[recipient] = Contents(seed_share=shares[0], key_share=shares[1], mask_secret=secret)
    return Dealt(boxes=boxes, contents=contents)


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


def _hybrid_box(place: Place, recipient: PartyId, secrets: HybridSecrets, shares: tuple[bytes, bytes]) -> ShareBox:
    seed_share, key_share = shares
    hello = place.hellos[recipient]
    # r_{i→j}, for the mask alone: it must open with m_j, which the server may get, and never with the key of the box.
    mask_secret = (
        place.pair(place.me, recipient).seal(secrets.master, hello.kem_keys.mask) if place.me < recipient else None
    )
    unsealed = ShareBox(
        transcript=place.transcript,
        sender=place.me,
        recipient=recipient,
        box=b"",
        seed_share_commitment=hashes.seed_share_commitment(seed_share),
        key_share_commitment=hashes.key_share_commitment(key_share),
        mask_secret=mask_secret,
    )
    keys = hello.kem_keys.channel, hello.channel_key
    return replace(unsealed, box=hpke.seal_hybrid(keys, seed_share + key_share, _hybrid_context(unsealed), recipient))


def open_any_box(place: Place, secrets: Secrets, channels: Mapping[PartyId, bytes], box: ShareBox) -> OpenedShares:
    """(M3) Open a box by the profile's rules. Raises: ProtocolError."""
    box.require_profile(post_quantum=place.manifest.post_quantum)
    if secrets.hybrid is None:
        return open_box(place, channels[box.sender], box)
    return open_hybrid_box(place, secrets, secrets.hybrid, box)


def open_box(place: Place, channel: bytes, box: ShareBox) -> OpenedShares:
    """(M3) Open a box for this silo. Raises: ProtocolError when it was not made, or not filled, as M2 says."""
    key = sealing.box_key(channel, place.transcript, box.sender, place.me)
    context = _context(place.transcript, box.sender, place.me, box.seed_share_commitment, box.key_share_commitment)
    plaintext = sealing.unseal(key, box.box, context)
    return _committed(box, plaintext)


def open_hybrid_box(place: Place, secrets: Secrets, hybrid: HybridSecrets, box: ShareBox) -> OpenedShares:
    """(M3) Open a box of the post-quantum profile whose sender's signature was checked. Raises: ProtocolError."""
    plaintext = hpke.open_hybrid((hybrid.channel, secrets.channel), box.box, _hybrid_context(box))
    opened = _committed(box, plaintext)
    if box.mask_secret is None:
        return opened
    return replace(opened, mask_secret=place.pair(box.sender, place.me).open(hybrid.mask, box.mask_secret))


def accept_disclosed(box: ShareBox, contents: Contents) -> OpenedShares:
    """(M3) Take what a dealer disclosed of a box. Raises: ProtocolError unless the box is committed to just that."""
    opened = _committed(box, contents.seed_share + contents.key_share)
    if box.mask_secret is None:
        if contents.mask_secret:
            raise ProtocolError("a mask secret was disclosed of a box that has none")
        return opened
    require_committed(contents.mask_secret, box.mask_secret)
    return replace(opened, mask_secret=contents.mask_secret)


def _committed(box: ShareBox, plaintext: bytes) -> OpenedShares:
    """Return the shares in a box. Raises: ProtocolError unless they are those that were committed to."""
    opened = OpenedShares(seed_share=plaintext[: shamir.SHARE_BYTES], key_share=plaintext[shamir.SHARE_BYTES :])
    if (
        hashes.seed_share_commitment(opened.seed_share) != box.seed_share_commitment
        or hashes.key_share_commitment(opened.key_share) != box.key_share_commitment
    ):
        raise ProtocolError("a box holds other shares than those its sender committed to")
    return opened


def _context(transcript: bytes, sender: PartyId, recipient: PartyId, *commitments: bytes) -> bytes:
    return labelled(BOX_CONTEXT_LABEL, transcript, sender.encode(), recipient.encode(), *commitments)


def _hybrid_context(box: ShareBox) -> bytes:
    """Return everything in the message but the box."""
    secret = box.mask_secret
    return labelled(
        HYBRID_BOX_CONTEXT_LABEL,
        box.transcript,
        box.sender.encode(),
        box.recipient.encode(),
        box.seed_share_commitment,
        box.key_share_commitment,
        *(() if secret is None else (secret.sealed, secret.commitment)),
    )


def choose_masks(
    place: Place,
    secrets: Secrets,
    members: frozenset[PartyId],
    shares: Mapping[PartyId, OpenedShares] = MappingProxyType({}),
) -> MaskKeys:
    """(M3) Derive PRG(b_i) to add, and PRG(s_ij) for each j of U2: to add where j comes after i, else to subtract.

    `shares` brings the mask secrets of those before i, in the post-quantum profile.
    """
    plus = [hashes.self_mask_key(secrets.seed, place.transcript, place.manifest.hash, place.me)]
    minus: list[bytes] = []
    for party in sorted(members - {place.me}):
        shared = sealing.agree(secrets.mask, place.hellos[party].mask_key, party)
        if secrets.hybrid is None:
            key = hashes.pair_mask_key(shared, place.transcript, place.manifest.hash, place.me, party)
        else:
            pair = place.pair(place.me, party)
            chosen_here = pair.low == place.me
            secret = pair.secret(secrets.hybrid.master) if chosen_here else shares[party].mask_secret
            key = pair.mask_key(shared, secret)
        (plus if party > place.me else minus).append(key)
    return MaskKeys(plus=plus, minus=minus)
