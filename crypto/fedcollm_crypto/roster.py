"""Who belongs to the consortium: names, roles, public keys and the common policy, signed before the first round.

The roster is the only place a public identity key comes from; none is ever taken from a message of a round. A new or
revoked key makes a roster of the next epoch; the ends refuse a round of any epoch but their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from fedcollm_crypto import canonical
from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.canonical import MAX_INTEGER, Json
from fedcollm_crypto.derivation import digest
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.fields import Fields, octets
from fedcollm_crypto.keys import PUBLIC_KEY_BYTES, SIGNATURE_BYTES, Identity, verify_signature

Role = Literal["silo", "server", "auditor", "decryptor"]
ROSTER_KIND = "roster"
ROSTER_LABEL = b"fedcollm/v1/roster-hash"
POLICY_LABEL = b"fedcollm/v1/policy-hash"


@dataclass(frozen=True, kw_only=True)
class Member:
    """One member: its name, its role, its 32-byte Ed25519 public key."""

    id: PartyId
    role: Role
    ed25519: bytes

    def __post_init__(self) -> None:
        """Refuse an empty name, an unknown role and a key of another length."""
        if not self.id or self.role not in get_args(Role) or len(self.ed25519) != PUBLIC_KEY_BYTES:
            raise ValueError(f"member {self.id!r}: a name, a role of {get_args(Role)} and 32 key bytes are needed")


@dataclass(frozen=True, kw_only=True)
class Roster:
    """The members of one epoch, in a fixed order, and the policy they all signed."""

    consortium_id: str
    epoch: int
    members: tuple[Member, ...]
    policy: Mapping[str, Json]

    def __post_init__(self) -> None:
        """Refuse two members with one name or one key: a signature must point at exactly one of them."""
        names, keys = {m.id for m in self.members}, {m.ed25519 for m in self.members}
        if len(names) != len(self.members) or len(keys) != len(self.members):
            raise ValueError("the members of a roster must have distinct names and distinct keys")
        if not 1 <= self.epoch <= MAX_INTEGER:
            raise ValueError(f"epochs start at 1, got {self.epoch}")

    def member(self, party: PartyId) -> Member:
        """Return the member of this name. Raises: ProtocolError for a stranger."""
        return self.members[self.point(party) - 1]

    def point(self, party: PartyId) -> int:
        """Return the member's x-coordinate for Shamir: its place in the roster, from 1. Raises: ProtocolError."""
        if party not in self._points:
            raise ProtocolError("a message names a party that is not in the roster")
        return self._points[party]

    def key(self, party: PartyId) -> Ed25519PublicKey:
        """Return the member's verification key. Raises: ProtocolError for a stranger."""
        self.point(party)
        return self._keys[party]

    def of_role(self, role: Role) -> frozenset[PartyId]:
        """Return the names of all members with this role."""
        return frozenset(member.id for member in self.members if member.role == role)

    @cached_property
    def hash(self) -> str:
        """Return the hash that every manifest names, in hex."""
        return digest(ROSTER_LABEL, canonical.encode(self.to_body())).hex()

    @cached_property
    def policy_hash(self) -> str:
        """Return the hash of the common policy, in hex."""
        return digest(POLICY_LABEL, canonical.encode(self.policy)).hex()

    @cached_property
    def _points(self) -> dict[PartyId, int]:
        return {member.id: index + 1 for index, member in enumerate(self.members)}

    @cached_property
    def _keys(self) -> dict[PartyId, Ed25519PublicKey]:
        return {member.id: Ed25519PublicKey.from_public_bytes(member.ed25519) for member in self.members}

    def to_body(self) -> dict[str, Json]:
        """Return the roster as a JSON object."""
        members: list[Json] = [{"ed25519": m.ed25519.hex(), "id": m.id, "role": m.role} for m in self.members]
        return {
            "consortium_id": self.consortium_id,
            "epoch": self.epoch,
            "members": members,
            "policy": self.policy,
        }

    @classmethod
    def from_body(cls, body: Json) -> "Roster":
        """Read a roster. Raises: ProtocolError."""
        fields = Fields("roster", body)
        try:
            roster = cls(
                consortium_id=fields.text("consortium_id"),
                epoch=fields.integer("epoch", 1, MAX_INTEGER),
                members=tuple(_member(value) for value in fields.items("members")),
                policy=fields.members("policy"),
            )
        except ValueError as error:
            raise ProtocolError(f"roster: {error}") from None
        fields.close()
        return roster


def _member(value: Json) -> Member:
    fields = Fields("roster.member", value)
    name, role, key = fields.text("id"), fields.text("role"), fields.octets("ed25519", PUBLIC_KEY_BYTES)
    fields.close()
    for known in get_args(Role):
        if role == known:
            return Member(id=name, role=known, ed25519=key)
    raise ProtocolError(f"roster.member: the role must be one of {get_args(Role)}")


def sign_roster(roster: Roster, root: Identity, countersigners: Sequence[Identity]) -> bytes:
    """Return the roster with the consortium root's signature and those of members, ready for a file."""
    body = roster.to_body()
    data = canonical.encode(body)
    return canonical.encode(
        {
            "countersignatures": {who.party: who.sign(ROSTER_KIND, data).hex() for who in countersigners},
            "root_signature": root.sign(ROSTER_KIND, data).hex(),
            "roster": body,
        }
    )


def read_roster(data: bytes, root_key: bytes, quorum: int) -> Roster:
    """Return a roster that the root and at least `quorum` of its own members signed.

    Raises: ProtocolError when it is malformed, or when any signature fails, even beyond the quorum.
    """
    fields = Fields("signed roster", canonical.decode(data))
    body = fields.members("roster")
    root_signature = fields.octets("root_signature", SIGNATURE_BYTES)
    countersignatures = fields.members("countersignatures")
    fields.close()
    signed = canonical.encode(body)
    # (1) The root says who the members are.
    root = Ed25519PublicKey.from_public_bytes(root_key)
    verify_signature(root, ROSTER_KIND, signed, root_signature, "the consortium root")
    # (2) Enough of these members agree.
    roster = Roster.from_body(body)
    for signer, value in countersignatures.items():
        signature = octets(f"countersignatures.{signer}", value, SIGNATURE_BYTES)
        verify_signature(roster.key(signer), ROSTER_KIND, signed, signature, signer)
    if len(countersignatures) < quorum:
        raise ProtocolError(f"the roster has {len(countersignatures)} countersignatures, {quorum} are needed")
    return roster
