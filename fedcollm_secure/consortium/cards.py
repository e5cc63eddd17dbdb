"""An invitation, which a coordinator signs, and its answer, a member's card. Both are public; both go by any way.

Whoever compares the fingerprints on both screens, over the telephone, knows that nobody swapped a card on its way.
"""

from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Annotated, ClassVar, Literal

from fedcollm_crypto.declared import SPARSE, Declared
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import (
    MLDSA44_KEY_BYTES,
    PUBLIC_KEY_BYTES,
    Identity,
    VerificationKey,
    verification_key,
)
from fedcollm_crypto.kinds import Octets, Text
from fedcollm_crypto.names import check_name
from fedcollm_crypto.roster import Member
from fedcollm_crypto.signed import Signed, sign
from fedcollm_secure.consortium.certificates import is_certificate_of
from fedcollm_secure.consortium.folder import not_one, read_file

CERTIFICATE_LETTERS = 4096


@dataclass(frozen=True, kw_only=True)
class Card(Declared):
    """A member's name, role, public keys and certificate, in its consortium."""

    KIND: ClassVar[str] = "member-card"
    consortium: str
    name: str
    role: Literal["silo", "server"]
    ed25519: Annotated[bytes, Octets(PUBLIC_KEY_BYTES)]
    certificate: Annotated[str, Text(CERTIFICATE_LETTERS)]
    mldsa44: Annotated[bytes, Octets(MLDSA44_KEY_BYTES), SPARSE] = b""

    def __post_init__(self) -> None:
        """Refuse a name that is no folder's, and a certificate in another's name."""
        check_name(self.name)
        check_name(self.consortium)
        if not is_certificate_of(self.certificate, self.name):
            raise ValueError(f"the certificate is not one in the name {self.name!r}, signed by its own key")

    @classmethod
    def of(cls, identity: Identity, consortium: str, role: Literal["silo", "server"], certificate: Path) -> "Card":
        """Return a party's own card."""
        return cls(
            consortium=consortium,
            name=identity.party,
            role=role,
            ed25519=identity.public_key,
            mldsa44=identity.mldsa44_key,
            certificate=certificate.read_text(encoding="ascii"),
        )

    @property
    def key(self) -> VerificationKey:
        """Return the key for `Signed.verify`. Raises: ValueError for what is no key."""
        return verification_key(self.ed25519, self.mldsa44)

    @property
    def member(self) -> Member:
        """Return its line of the roster."""
        return Member(id=self.name, role=self.role, ed25519=self.ed25519, mldsa44=self.mldsa44)

    @property
    def fingerprint(self) -> str:
        """Return what is compared by telephone: 40 digits over all that the card says."""
        number = int.from_bytes(sha256(b"fedcollm/v1/fingerprint\0" + repr(self.to_body()).encode()).digest(), "big")
        digits = f"{number % 10**40:040d}"
        return " ".join(digits[start : start + 5] for start in range(0, 40, 5))


@dataclass(frozen=True, kw_only=True)
class Invitation(Declared):
    """Who is invited, as what, and to whom it answers: the coordinator's own card and address."""

    KIND: ClassVar[str] = "invitation"
    name: str
    address: str
    post_quantum: bool
    coordinator: Card

    def __post_init__(self) -> None:
        """Refuse a name that is no folder's (`ValueError`)."""
        check_name(self.name)


def write_card(identity: Identity, card: Card) -> bytes:
    """Return a card that its owner signed: nobody can hand in another's key as its own."""
    return sign(identity, Card.KIND, card.to_body()).encode()


def read_card(path: Path) -> Card:
    """Read a card. Raises: ConfigError where it is none, or is not signed by the key that it shows."""
    try:
        signed = Signed.decode(read_file(path, "a member's card, as consortium join writes it"))
        if signed.kind != Card.KIND:
            raise ProtocolError(f"it is a {signed.kind}")
        card = Card.from_body(signed.body)
        signed.verify(card.key)
    except (ProtocolError, ValueError) as error:
        raise not_one(path, "a member's card", error) from error
    return card


def write_invitation(identity: Identity, invitation: Invitation) -> bytes:
    """Return an invitation that the coordinator signed."""
    return sign(identity, Invitation.KIND, invitation.to_body()).encode()


def read_invitation(path: Path) -> Invitation:
    """Read an invitation. Raises: ConfigError where it is none, or not signed by the coordinator that it shows."""
    try:
        signed = Signed.decode(read_file(path, "an invitation, as consortium invite writes it"))
        if signed.kind != Invitation.KIND:
            raise ProtocolError(f"it is a {signed.kind}")
        invitation = Invitation.from_body(signed.body)
        signed.verify(invitation.coordinator.key)
    except (ProtocolError, ValueError) as error:
        raise not_one(path, "an invitation", error) from error
    return invitation
