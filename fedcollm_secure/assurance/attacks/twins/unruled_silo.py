"""Double masking as it is commonly written down: the arithmetic is right, and no rule says when to refuse.

The flaws, each the entrance of one attack: keys that nobody signed are accepted (A4); signed keys name no round, so
old ones are accepted (A5); masks hang on keys alone, not on the model (A2); a request may name a silo both active and
dead (A3); a second sum over other silos is given like the first (A11).
"""

import hashlib
import secrets as system
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedcollm_crypto import sealing, shamir
from fedcollm_crypto.aggregation import PartyId, Vector
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking.masks import MaskKeys, masked_chunks

RING_BITS = 64


@dataclass(frozen=True, kw_only=True)
class TwinHello:
    """Public keys, with a signature that names neither round nor model."""

    sender: PartyId
    channel_key: bytes
    mask_key: bytes
    signature: bytes


@dataclass(frozen=True, kw_only=True)
class TwinShares:
    """What a silo reveals: its shares of b of the active, of s of the dead."""

    seeds: Mapping[PartyId, bytes] = field(repr=False)
    keys: Mapping[PartyId, bytes] = field(repr=False)


class TwinSilo:
    """One silo. `trusted`: the keys that hellos are checked against; None checks nothing."""

    def __init__(
        self,
        identity: Identity,
        points: Mapping[PartyId, int],
        threshold: int,
        trusted: Mapping[PartyId, Ed25519PublicKey] | None = None,
    ) -> None:
        """Draw a channel key; `points` are everybody's x-coordinates for Shamir."""
        self.name = identity.party
        self._identity, self._points, self._threshold, self._trusted = identity, dict(points), threshold, trusted
        self._channel = X25519PrivateKey.generate()  # lives as long as the silo
        self._begin()

    def hello(self) -> TwinHello:
        """(M1) Begin a round with a fresh mask key."""
        self._begin()
        channel, mask = self._channel.public_key().public_bytes_raw(), self._mask.public_key().public_bytes_raw()
        signature = self._identity.key.sign(channel + mask)
        return TwinHello(sender=self.name, channel_key=channel, mask_key=mask, signature=signature)

    def deal(self, hellos: Mapping[PartyId, TwinHello]) -> dict[PartyId, bytes]:
        """(M2) Box shares of b and s for everyone."""
        for party, hello in hellos.items():
            if self._trusted is not None:
                self._trusted[party].verify(hello.signature, hello.channel_key + hello.mask_key)
        self._hellos = dict(hellos)
        points = tuple(self._points[party] for party in hellos)
        seeds = shamir.split(self._seed, self._threshold, points, system.token_bytes)
        keys = shamir.split(self._mask.private_bytes_raw(), self._threshold, points, system.token_bytes)
        boxes: dict[PartyId, bytes] = {}
        for party, hello in hellos.items():
            point, key = self._points[party], box_key(self._channel, hello.channel_key, self.name, party)
            boxes[party] = sealing.seal(key, seeds[point] + keys[point], b"", system.token_bytes)
        return boxes

    def upload(self, boxes: Mapping[PartyId, bytes], vector: Vector) -> Vector:
        """(M3) Keep the shares that others dealt; return the masked vector."""
        self._boxes = dict(boxes)
        private = self._mask.private_bytes_raw()
        plus, minus = twin_pair_masks(self.name, private, {p: self._hellos[p] for p in boxes if p != self.name})
        keys = MaskKeys(plus=[twin_self_mask(self._seed), *plus], minus=minus)
        return np.concatenate(list(masked_chunks(vector, RING_BITS, keys))).astype(np.uint64)

    def unmask(self, active: Collection[PartyId], dead: Collection[PartyId]) -> TwinShares:
        """(M5) Reveal whatever is asked for."""
        opened = {party: self._open(party) for party in {*active, *dead}}
        return TwinShares(
            seeds={party: opened[party][: shamir.SHARE_BYTES] for party in active},
            keys={party: opened[party][shamir.SHARE_BYTES :] for party in dead},
        )

    def _begin(self) -> None:
        self._mask, self._seed = X25519PrivateKey.generate(), system.token_bytes(shamir.SECRET_BYTES)

    def _open(self, dealer: PartyId) -> bytes:
        channel_key = self._hellos[dealer].channel_key
        return sealing.unseal(box_key(self._channel, channel_key, dealer, self.name), self._boxes[dealer], b"")


def box_key(private: X25519PrivateKey, public: bytes, sender: PartyId, recipient: PartyId) -> bytes:
    """Return the key of boxes from sender to recipient."""
    shared = sealing.agree(private, public, recipient)
    return hashlib.sha256(b"twin box" + shared + f"{sender}>{recipient}".encode()).digest()


def twin_self_mask(seed: bytes) -> bytes:
    """Return the stream key of a silo's own mask."""
    return hashlib.sha256(b"twin self" + seed).digest()


def twin_pair_masks(
    party: PartyId, private: bytes, others: Mapping[PartyId, TwinHello]
) -> tuple[list[bytes], list[bytes]]:
    """Return the stream keys that a silo adds and subtracts for others."""
    plus, minus = list[bytes](), list[bytes]()
    for other, hello in others.items():
        shared = sealing.agree(X25519PrivateKey.from_private_bytes(private), hello.mask_key, other)
        (plus if other > party else minus).append(hashlib.sha256(b"twin pair" + shared).digest())
    return plus, minus
