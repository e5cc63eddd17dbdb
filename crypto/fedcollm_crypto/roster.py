"""Who belongs to the consortium: names, roles, public keys and the common policy, signed before the first round.

The roster is the only place a public identity key comes from; none is ever taken from a message of a round. A new or
revoked key makes a roster of the next epoch; the ends refuse a round of any epoch but their own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Literal, TypeAlias, get_args

from fedcollm_crypto import canonical
from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.canonical import MAX_INTEGER, Json
from fedcollm_crypto.containers import Free
from fedcollm_crypto.declared import SPARSE, Declared
from fedcollm_crypto.derivation import digest
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import (
    HYBRID_SIGNATURE_BYTES,
    MLDSA44_KEY_BYTES,
    PUBLIC_KEY_BYTES,
    SIGNATURE_BYTES,
    Identity,
    VerificationKey,
    check_ed25519,
    verification_key,
    verify_signature,
)
from fedcollm_crypto.kinds import Octets, Whole
from fedcollm_crypto.names import check_distinct, check_name

Role = Literal["silo", "server", "auditor", "decryptor"]
ROSTER_KIND = "roster"
POSSESSION_KIND = "roster-possession"
ROSTER_LABEL = b"fedcollm/v1/roster-hash"
POLICY_LABEL = b"fedcollm/v1/policy-hash"

Signature: TypeAlias = Annotated[bytes, Octets(SIGNATURE_BYTES, HYBRID_SIGNATURE_BYTES)]


@dataclass(frozen=True, kw_only=True)
class Member(Declared):
    """One member: its name, its role, its 32-byte Ed25519 public key, and its ML-DSA-44 key where it has one.

    A member with both keys signs with both, and both signatures must verify.
    """

    id: PartyId
    role: Role
    ed25519: Annotated[bytes, Octets(PUBLIC_KEY_BYTES)]
    mldsa44: Annotated[bytes, Octets(MLDSA44_KEY_BYTES), SPARSE] = b""

    def __post_init__(self) -> None:
        """Refuse a name that cannot be a folder's, an unknown role and a key of another length."""
        check_name(self.id)
        if self.role not in get_args(Role):
            raise ValueError(f"member {self.id!r}: a role of {get_args(Role)} is needed")
        try:
            check_ed25519(self.ed25519)
        except ValueError as error:
            raise ValueError(f"member {self.id!r}: {error}") from None
        if len(self.mldsa44) not in (0, MLDSA44_KEY_BYTES):
            raise ValueError(f"member {self.id!r}: an ML-DSA-44 key has {MLDSA44_KEY_BYTES} bytes")

    @property
    def public_keys(self) -> tuple[bytes, bytes]:
        """Return both public keys, as `Identity.public_keys` does; the second is empty where there is none."""
        return self.ed25519, self.mldsa44


@dataclass(frozen=True, kw_only=True)
class Roster(Declared):
    """The members of one epoch, in a fixed order, and the policy they all signed."""

    consortium_id: str
    epoch: Annotated[int, Whole(1)]
    members: tuple[Member, ...]
    policy: Annotated[Mapping[str, Json], Free()]

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


@dataclass(frozen=True, kw_only=True)
class SignedRoster(Declared):
    """A roster's body with the root's signature over it, its members', and each member's over its own line of it."""

    countersignatures: Mapping[PartyId, Signature]
    possession: Mapping[PartyId, Signature]
    root_signature: Signature
    roster: Annotated[Mapping[str, Json], Free()]


def sign_roster(
    roster: Roster, root: Identity, countersigners: Sequence[Identity], others: Sequence[Identity] = ()
) -> bytes:
    """Return the roster with the consortium root's signature and those of members, ready for a file.

    Each member proves that it has its keys: the countersigners, the root where it is a member, and `others`.
    """
    body = roster.to_body()
    data, listed = canonical.encode(body), {member.id for member in roster.members}
    proving = {who.party: who for who in (*others, root, *countersigners) if who.party in listed}
    signed = SignedRoster(
        countersignatures={who.party: who.sign(ROSTER_KIND, data) for who in countersigners},
        possession={party: prove_possession(roster, who) for party, who in proving.items()},
        root_signature=root.sign(ROSTER_KIND, data),
        roster=body,
    )
    return canonical.encode(signed.to_body())


def prove_possession(roster: Roster, who: Identity) -> bytes:
    """Return a member's signature, with its own keys, over its own line of this roster."""
    return who.sign(POSSESSION_KIND, _own_line(roster, who.party))


def own_quorum(roster: Roster) -> int:
    """Return how many silos must countersign: as many as the policy states, at least more than half of them."""
    silos = len(roster.of_role("silo"))
    stated = roster.policy.get("countersignatures", 0)
    if isinstance(stated, bool) or not isinstance(stated, int) or not 0 <= stated <= silos:
        raise ProtocolError(f"roster: the policy's countersignatures must be a number up to {silos}, that of its silos")
    return max(stated, silos // 2 + 1)


def read_roster(data: bytes, root_key: bytes, quorum: int | None = None, root_mldsa44: bytes = b"") -> Roster:
    """Return a roster that the root and at least `quorum` of its own silos signed; by default `own_quorum`.

    A root that has an ML-DSA-44 key as well signs with both keys, and so does each member that the roster lists so.

    Guarantee: every key in it is one whose private half a party used to claim this name, role and epoch: nobody can
    be listed with a key of somebody else, or of nobody. Assumes that the root's key is genuine.
    Raises: ProtocolError when it is malformed, or when any signature fails, even beyond the quorum.
    """
    read = SignedRoster.from_body(canonical.decode(data))
    signed = canonical.encode(read.roster)
    # (1) The root says who the members are.
    root = _root_key(root_key, root_mldsa44)
    verify_signature(root, ROSTER_KIND, signed, read.root_signature, "the consortium root")
    # (2) Each member has the keys that it is listed with.
    roster = Roster.from_body(read.roster)
    if missing := sorted(member.id for member in roster.members if member.id not in read.possession):
        raise ProtocolError(f"the roster lacks a proof that {', '.join(missing)} has the key that it lists")
    for party, signature in read.possession.items():
        verify_signature(roster.key(party), POSSESSION_KIND, _own_line(roster, party), signature, party)
    # (3) Enough of them agree.
    for signer, signature in read.countersignatures.items():
        verify_signature(roster.key(signer), ROSTER_KIND, signed, signature, signer)
    needed, found = (
        own_quorum(roster) if quorum is None else quorum,
        roster.of_role("silo") & read.countersignatures.keys(),
    )
    if len(found) < needed:
        raise ProtocolError(f"the roster has {len(found)} countersignatures, {needed} are needed")
    return roster


def _root_key(ed25519: bytes, mldsa44: bytes) -> VerificationKey:
    try:
        return verification_key(ed25519, mldsa44)
    except ValueError as error:
        raise ProtocolError(f"the key of the consortium root: {error}") from None


def _own_line(roster: Roster, party: PartyId) -> bytes:
    own = roster.member(party).to_body()
    return canonical.encode({**own, "consortium_id": roster.consortium_id, "epoch": roster.epoch})
