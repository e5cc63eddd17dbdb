"""Who belongs to the consortium: names, roles, public keys and the common policy, signed before the first round.

The roster is the only place a public identity key comes from; none is ever taken from a message of a round. A new or
revoked key makes a roster of the next epoch; the ends refuse a round of any epoch but their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal, get_args

from fedcollm_crypto import canonical
from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.canonical import MAX_INTEGER, Json
from fedcollm_crypto.derivation import digest
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.fields import Fields, octets
from fedcollm_crypto.keys import (
    HYBRID_SIGNATURE_BYTES,
    MLDSA44_KEY_BYTES,
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
    Identity,
    VerificationKey,
    verification_key,
    verify_signature,
)
from fedcollm_crypto.names import check_distinct, check_name

Role = Literal["silo", "server", "auditor", "decryptor"]
ROSTER_KIND = "roster"
ROSTER_LABEL = b"fedcollm/v1/roster-hash"
POLICY_LABEL = b"fedcollm/v1/policy-hash"


@dataclass(frozen=True, kw_only=True)
class Member:
    """One member: its name, its role, its 32-byte Ed25519 public key, and its ML-DSA-44 key where it has one.

    A member with both keys signs with both, and both signatures must verify.
    """

    id: PartyId
    role: Role
    ed25519: bytes
    mldsa44: bytes = b""

    def __post_init__(self) -> None:
        """Refuse a name that cannot be a folder's, an unknown role and a key of another length."""
        check_name(self.id)
        if self.role not in get_args(Role) or len(self.ed25519) != PUBLIC_KEY_BYTES:
            raise ValueError(f"member {self.id!r}: a role of {get_args(Role)} and 32 key bytes are needed")
        if len(self.mldsa44) not in (0, MLDSA44_KEY_BYTES):
            raise ValueError(f"member {self.id!r}: an ML-DSA-44 key has {MLDSA44_KEY_BYTES} bytes")

    @property
    def public_keys(self) -> tuple[bytes, bytes]:
        """Return both public keys, as `Identity.public_keys` does; the second is empty where there is none."""
        return self.ed25519, self.mldsa44


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
        hybrid = [m.mldsa44 for m in self.members if m.mldsa44]
        if not len(names) == len(keys) == len(self.members) or len(set(hybrid)) != len(hybrid):
            raise ValueError("the members of a roster must have distinct names and distinct keys")
        check_distinct(tuple(m.id for m in self.members))
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

    def key(self, party: PartyId) -> VerificationKey:
        """Return the member's key for `verify_signature`. Raises: ProtocolError for a stranger."""
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
    def _keys(self) -> dict[PartyId, VerificationKey]:
        return {member.id: verification_key(*member.public_keys) for member in self.members}

    def to_body(self) -> dict[str, Json]:
        """Return the roster as a JSON object."""
        return {
            "consortium_id": self.consortium_id,
            "epoch": self.epoch,
            "members": [_member_body(member) for member in self.members],
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


def _member_body(member: Member) -> dict[str, Json]:
    body: dict[str, Json] = {"ed25519": member.ed25519.hex(), "id": member.id, "role": member.role}
    return body | ({"mldsa44": member.mldsa44.hex()} if member.mldsa44 else {})


def _member(value: Json) -> Member:
    fields = Fields("roster.member", value)
    name, role, key = fields.text("id"), fields.text("role"), fields.octets("ed25519", PUBLIC_KEY_BYTES)
    mldsa44 = fields.octets("mldsa44", MLDSA44_KEY_BYTES) if fields.has("mldsa44") else b""
    fields.close()
    for known in get_args(Role):
        if role == known:
            return Member(id=name, role=known, ed25519=key, mldsa44=mldsa44)
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


def read_roster(data: bytes, root_key: bytes, quorum: int, root_mldsa44: bytes = b"") -> Roster:
    """Return a roster that the root and at least `quorum` of its own members signed.

    A root that has an ML-DSA-44 key as well signs with both keys, and so does each member that the roster lists so.

    Raises: ProtocolError when it is malformed, or when any signature fails, even beyond the quorum.
    """
    fields = Fields("signed roster", canonical.decode(data))
    body = fields.members("roster")
    root_signature = fields.octets("root_signature", SIGNATURE_BYTES, HYBRID_SIGNATURE_BYTES)
    countersignatures = fields.members("countersignatures")
    fields.close()
    signed = canonical.encode(body)
    # (1) The root says who the members are.
    root = verification_key(root_key, root_mldsa44)
    verify_signature(root, ROSTER_KIND, signed, root_signature, "the consortium root")
    # (2) Enough of these members agree.
    roster = Roster.from_body(body)
    for signer, value in countersignatures.items():
        signature = octets(f"countersignatures.{signer}", value, SIGNATURE_BYTES, HYBRID_SIGNATURE_BYTES)
        verify_signature(roster.key(signer), ROSTER_KIND, signed, signature, signer)
    if len(countersignatures) < quorum:
        raise ProtocolError(f"the roster has {len(countersignatures)} countersignatures, {quorum} are needed")
    return roster
