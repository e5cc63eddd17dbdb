"""M2, how a silo deals its shares, and what happens where a box does not open: all of it before anybody trains.

    M2   dealer → S     shares: one signature, over the Merkle root of its boxes; the boxes beside it
         S → silo       a parcel from each dealer: the signed root, the silo's own box, the path between them
    M2a  silo → S       checked: which dealers' boxes do not open for it (`complaints`), usually none
    M2b  S → dealer     the complaints about it, signed by who made them
         dealer → S     disclosure: the shares in those boxes, for all to see
         S → silo       the disclosures, with the request of M3

A dealer that discloses what fits its commitments is in; one that doesn't is left out, and U2 is fixed without it. A box
between two honest silos always opens, so what is disclosed is known to somebody in league already.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, ClassVar, Self

from fedcollm_crypto import canonical
from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.canonical import Json
from fedcollm_crypto.containers import Items
from fedcollm_crypto.declared import SPARSE, Declared, Listed, Nested
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.hpke import HYBRID_OVERHEAD_BYTES
from fedcollm_crypto.kinds import Octets, Sha256, mistyped
from fedcollm_crypto.masking.hybrid import SECRET_BYTES, SealedSecret
from fedcollm_crypto.merkle import Proof, Tree, leaf_hash, verify_inclusion
from fedcollm_crypto.sealing import OVERHEAD_BYTES
from fedcollm_crypto.shamir import SHARE_BYTES, Share
from fedcollm_crypto.signed import Carried

BOX_BYTES = 2 * SHARE_BYTES + OVERHEAD_BYTES
"""Both shares of one silo for another, encrypted."""
HYBRID_BOX_BYTES = 2 * SHARE_BYTES + HYBRID_OVERHEAD_BYTES
"""The same in the post-quantum profile."""


@dataclass(frozen=True, kw_only=True)
class ShareBox(Declared):
    """The sender's shares of b and s for one recipient, under encryption, and commitments to both.

    The box opens only beside exactly these fields. The commitments let the server see which silo reveals a wrong share.
    In the post-quantum profile the sender's secret for the mask of the pair is beside it, if the sender comes first.
    """

    transcript: Sha256
    sender: PartyId
    recipient: PartyId
    box: Annotated[bytes, Octets(BOX_BYTES, HYBRID_BOX_BYTES)]
    seed_share_commitment: Sha256
    key_share_commitment: Sha256
    mask_secret: SealedSecret | None = None

    @cached_property
    def leaf(self) -> bytes:
        """Return the hash that stands for this box under its dealer's root."""
        return leaf_hash(canonical.encode(self.to_body()))

    def require_profile(self, *, post_quantum: bool) -> None:
        """Raise ProtocolError unless the box has the form of this profile."""
        wants_secret = post_quantum and self.sender < self.recipient
        box_bytes = HYBRID_BOX_BYTES if post_quantum else BOX_BYTES
        if len(self.box) != box_bytes or (self.mask_secret is not None) != wants_secret:
            raise ProtocolError("a box is not of this round's profile")


def box_tree(boxes: Mapping[PartyId, ShareBox]) -> Tree:
    """Return the Merkle tree (RFC 9162) over one dealer's boxes, in order of their recipients."""
    return Tree(boxes[recipient].leaf for recipient in sorted(boxes))


@dataclass(frozen=True, kw_only=True)
class Shares(Declared):
    """M2, signed: the root over the dealer's boxes, one for each silo of U1, itself included."""

    KIND: ClassVar[str] = "shares"
    manifest_hash: Sha256
    transcript: Sha256
    root: Sha256


class _ByRecipient:
    """Boxes as a list on the wire, in order of their recipients, one for each."""

    _list = Items(Nested(ShareBox))

    def read(self, where: str, value: Json) -> dict[PartyId, ShareBox]:
        boxes = [box for box in self._list.read(where, value) if isinstance(box, ShareBox)]
        by_recipient = {box.recipient: box for box in boxes}
        if list(by_recipient) != sorted(by_recipient) or len(by_recipient) != len(boxes):
            raise ProtocolError(f"{where}: one box for each recipient, in order of their names, was expected")
        return by_recipient

    def write(self, value: object) -> list[Json]:
        if not isinstance(value, Mapping):
            raise mistyped("boxes by recipient", value)
        return self._list.write(tuple(box for _, box in sorted(value.items())))


@dataclass(frozen=True, kw_only=True)
class Dealing(Declared):
    """What a dealer sends: its signed root, and all its boxes by recipient."""

    shares: Carried
    boxes: Annotated[Mapping[PartyId, ShareBox], _ByRecipient()]

    def encode(self) -> bytes:
        """Return the bytes on the wire."""
        return canonical.encode(self.to_body())

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read them. Raises: ProtocolError, also for boxes that are not those under the root."""
        dealing = cls.from_body(canonical.decode(data))
        shares = dealing.shares
        if shares.kind != Shares.KIND or Shares.from_body(shares.body).root != box_tree(dealing.boxes).root():
            raise ProtocolError("dealing: the boxes are not those under the root that was signed")
        return dealing

    def parcels(self) -> dict[PartyId, "Parcel"]:
        """Return what each recipient gets."""
        tree, size = box_tree(self.boxes), len(self.boxes)
        return {
            recipient: Parcel(
                shares=self.shares, box=self.boxes[recipient], path=tuple(tree.inclusion_proof(index, size))
            )
            for index, recipient in enumerate(sorted(self.boxes))
        }


@dataclass(frozen=True, kw_only=True)
class Parcel(Declared):
    """One box on its way: with the root that its dealer signed, and the path from the box to the root."""

    shares: Carried
    box: ShareBox
    path: Proof

    def require_dealt(self, transcript: bytes, manifest_hash: bytes, recipients: Sequence[PartyId]) -> None:
        """Raise ProtocolError unless the box stands under the root; whether the root is signed is another question."""
        named = Shares.from_body(self.shares.body)
        if self.shares.kind != Shares.KIND or (named.transcript, named.manifest_hash) != (transcript, manifest_hash):
            raise ProtocolError("a parcel belongs to another attempt")
        if self.box.sender != self.shares.sender or self.box.transcript != transcript:
            raise ProtocolError("a box is from another sender or transcript than its root")
        order = sorted(recipients)
        if self.box.recipient not in order:
            raise ProtocolError("a box is for nobody in this attempt")
        verify_inclusion(self.box.leaf, order.index(self.box.recipient), len(order), self.path, named.root)


@dataclass(frozen=True, kw_only=True)
class Checked(Declared):
    """M2a, signed: the silo has opened its boxes; those of `complaints` did not open, or not to what was committed."""

    KIND: ClassVar[str] = "checked"
    manifest_hash: Sha256
    transcript: Sha256
    complaints: Annotated[tuple[PartyId, ...], Listed(ascending=True)]


@dataclass(frozen=True, kw_only=True)
class Contents(Declared):
    """What one box holds, in the open. `mask_secret` is r_{j→i} where the box has one; else empty."""

    seed_share: Share = field(repr=False)
    key_share: Share = field(repr=False)
    mask_secret: Annotated[bytes, Octets(SECRET_BYTES), SPARSE] = field(default=b"", repr=False)


@dataclass(frozen=True, kw_only=True)
class Disclosure(Declared):
    """M2b, signed: what the dealer had put into the boxes of those who complained."""

    KIND: ClassVar[str] = "disclosure"
    manifest_hash: Sha256
    transcript: Sha256
    contents: Mapping[PartyId, Contents]
