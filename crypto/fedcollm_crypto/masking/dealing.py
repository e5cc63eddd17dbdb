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
from typing import ClassVar, Self

from fedcollm_crypto import canonical
from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.canonical import Json
from fedcollm_crypto.derivation import HASH_BYTES
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.fields import Fields, octets
from fedcollm_crypto.hpke import HYBRID_OVERHEAD_BYTES
from fedcollm_crypto.masking.hybrid import SECRET_BYTES, SealedSecret
from fedcollm_crypto.merkle import MAX_PROOF_HASHES, Tree, leaf_hash, verify_inclusion
from fedcollm_crypto.sealing import OVERHEAD_BYTES
from fedcollm_crypto.shamir import SHARE_BYTES
from fedcollm_crypto.signed import Signed

BOX_BYTES = 2 * SHARE_BYTES + OVERHEAD_BYTES
"""Both shares of one silo for another, encrypted."""
HYBRID_BOX_BYTES = 2 * SHARE_BYTES + HYBRID_OVERHEAD_BYTES
"""The same in the post-quantum profile."""


@dataclass(frozen=True, kw_only=True)
class ShareBox:
    """The sender's shares of b and s for one recipient, under encryption, and commitments to both.

    The box opens only beside exactly these fields. The commitments let the server see which silo reveals a wrong share.
    In the post-quantum profile the sender's secret for the mask of the pair is beside it, if the sender comes first.
    """

    transcript: bytes
    sender: PartyId
    recipient: PartyId
    box: bytes
    seed_share_commitment: bytes
    key_share_commitment: bytes
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

    def to_body(self) -> dict[str, Json]:
        """Return it as a JSON object."""
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
        """Read it. Raises: ProtocolError."""
        fields = Fields("share-box", body)
        box = cls(
            transcript=fields.octets("transcript", HASH_BYTES),
            sender=fields.text("sender"),
            recipient=fields.text("recipient"),
            box=fields.octets("box", BOX_BYTES, HYBRID_BOX_BYTES),
            seed_share_commitment=fields.octets("seed_share_commitment", HASH_BYTES),
            key_share_commitment=fields.octets("key_share_commitment", HASH_BYTES),
            mask_secret=SealedSecret.from_body(fields.members("mask_secret")) if fields.has("mask_secret") else None,
        )
        fields.close()
        return box


def box_tree(boxes: Mapping[PartyId, ShareBox]) -> Tree:
    """Return the Merkle tree (RFC 9162) over one dealer's boxes, in order of their recipients."""
    return Tree(boxes[recipient].leaf for recipient in sorted(boxes))


@dataclass(frozen=True, kw_only=True)
class Shares:
    """M2, signed: the root over the dealer's boxes, one for each silo of U1, itself included."""

    KIND: ClassVar[str] = "shares"
    manifest_hash: bytes
    transcript: bytes
    root: bytes

    def to_body(self) -> dict[str, Json]:
        """Return the body as a JSON object."""
        return {
            "manifest_hash": self.manifest_hash.hex(),
            "root": self.root.hex(),
            "transcript": self.transcript.hex(),
        }

    @classmethod
    def from_body(cls, body: Json) -> Self:
        """Read the body. Raises: ProtocolError."""
        fields = Fields(cls.KIND, body)
        message = cls(
            manifest_hash=fields.octets("manifest_hash", HASH_BYTES),
            transcript=fields.octets("transcript", HASH_BYTES),
            root=fields.octets("root", HASH_BYTES),
        )
        fields.close()
        return message


@dataclass(frozen=True, kw_only=True)
class Dealing:
    """What a dealer sends: its signed root, and all its boxes by recipient."""

    shares: Signed
    boxes: Mapping[PartyId, ShareBox]

    def encode(self) -> bytes:
        """Return the bytes on the wire."""
        boxes: list[Json] = [self.boxes[recipient].to_body() for recipient in sorted(self.boxes)]
        return canonical.encode({"boxes": boxes, "shares": self.shares.to_json()})

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read them. Raises: ProtocolError, also for boxes that are not those under the root."""
        fields = Fields("dealing", canonical.decode(data))
        boxes = [ShareBox.from_body(value) for value in fields.items("boxes")]
        shares = Signed.from_json(fields.members("shares"))
        fields.close()
        dealing = cls(shares=shares, boxes={box.recipient: box for box in boxes})
        if list(dealing.boxes) != sorted(dealing.boxes) or len(dealing.boxes) != len(boxes):
            raise ProtocolError("dealing: one box for each recipient, in order of their names, was expected")
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
class Parcel:
    """One box on its way: with the root that its dealer signed, and the path from the box to the root."""

    shares: Signed
    box: ShareBox
    path: tuple[bytes, ...]

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

    def to_body(self) -> dict[str, Json]:
        """Return it as a JSON object."""
        return {
            "box": self.box.to_body(),
            "path": [one.hex() for one in self.path],
            "shares": self.shares.to_json(),
        }

    @classmethod
    def from_body(cls, body: Json) -> Self:
        """Read it. Raises: ProtocolError."""
        fields = Fields("parcel", body)
        parcel = cls(
            box=ShareBox.from_body(fields.members("box")),
            path=read_path(fields),
            shares=Signed.from_json(fields.members("shares")),
        )
        fields.close()
        return parcel


def read_path(fields: Fields) -> tuple[bytes, ...]:
    """Take the path of a Merkle proof. Raises: ProtocolError."""
    path = fields.items("path")
    if len(path) > MAX_PROOF_HASHES:
        raise ProtocolError(f"path: at most {MAX_PROOF_HASHES} hashes were expected")
    return tuple(octets("path", one, HASH_BYTES) for one in path)


@dataclass(frozen=True, kw_only=True)
class Checked:
    """M2a, signed: the silo has opened its boxes; those of `complaints` did not open, or not to what was committed."""

    KIND: ClassVar[str] = "checked"
    manifest_hash: bytes
    transcript: bytes
    complaints: tuple[PartyId, ...]

    def to_body(self) -> dict[str, Json]:
        """Return the body as a JSON object."""
        return {
            "complaints": list(self.complaints),
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
            complaints=fields.sorted_names("complaints"),
        )
        fields.close()
        return message


@dataclass(frozen=True, kw_only=True)
class Contents:
    """What one box holds, in the open. `mask_secret` is r_{j→i} where the box has one; else empty."""

    seed_share: bytes = field(repr=False)
    key_share: bytes = field(repr=False)
    mask_secret: bytes = field(default=b"", repr=False)

    def to_body(self) -> dict[str, Json]:
        """Return it as a JSON object."""
        secret: dict[str, Json] = {"mask_secret": self.mask_secret.hex()} if self.mask_secret else {}
        return secret | {"key_share": self.key_share.hex(), "seed_share": self.seed_share.hex()}

    @classmethod
    def from_body(cls, body: Json) -> Self:
        """Read it. Raises: ProtocolError."""
        fields = Fields("contents", body)
        contents = cls(
            seed_share=fields.octets("seed_share", SHARE_BYTES),
            key_share=fields.octets("key_share", SHARE_BYTES),
            mask_secret=fields.octets("mask_secret", SECRET_BYTES) if fields.has("mask_secret") else b"",
        )
        fields.close()
        return contents


@dataclass(frozen=True, kw_only=True)
class Disclosure:
    """M2b, signed: what the dealer had put into the boxes of those who complained."""

    KIND: ClassVar[str] = "disclosure"
    manifest_hash: bytes
    transcript: bytes
    contents: Mapping[PartyId, Contents]

    def to_body(self) -> dict[str, Json]:
        """Return the body as a JSON object."""
        return {
            "contents": {party: each.to_body() for party, each in self.contents.items()},
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
            contents={party: Contents.from_body(value) for party, value in fields.members("contents").items()},
        )
        fields.close()
        return message
