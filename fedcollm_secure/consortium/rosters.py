"""The roster of a consortium: drafted out of cards, signed by every silo, closed by the coordinator. Files alone.

    cards ──▶ draft ──▶ each member looks at it and signs ──▶ closed roster

Its policy holds every member's certificate, and that all silos must have signed: the coordinator, whose key is also the
root's, can put nobody into it, or leave anybody out, behind the back of one silo.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, cast

from fedcollm_crypto import canonical
from fedcollm_crypto.declared import Declared
from fedcollm_crypto.derivation import HASH_BYTES
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.kinds import HexText
from fedcollm_crypto.roster import (
    ROSTER_KIND,
    Roster,
    Signature,
    SignedRoster,
    prove_possession,
    read_roster,
)
from fedcollm_secure.consortium.cards import Card
from fedcollm_secure.consortium.certificates import to_der
from fedcollm_secure.consortium.folder import not_one, read_file
from fedcollm_secure.errors import ConfigError

LINKS, ALL_SIGN = "links", "countersignatures"


@dataclass(frozen=True, kw_only=True)
class RosterSignature(Declared):
    """What a member hands back: under the whole roster, and, with its own keys, under its own line of it."""

    member: str
    roster: Annotated[str, HexText(HASH_BYTES)]
    countersignature: Signature
    possession: Signature


def draft(consortium: str, epoch: int, cards: Sequence[Card], *, post_quantum: bool) -> Roster:
    """Return the roster of these members. Raises: ConfigError for two of one name or key, or fewer than two silos."""
    silos = [card for card in cards if card.role == "silo"]
    policy: dict[str, canonical.Json] = {
        ALL_SIGN: len(silos),
        LINKS: {card.name: card.certificate for card in cards},
    }
    if post_quantum:
        policy["profile"] = "post_quantum"
    try:
        return Roster(
            consortium_id=consortium, epoch=epoch, members=tuple(card.member for card in cards), policy=policy
        )
    except ValueError as error:
        raise ConfigError("roster", str(error)) from error


def read_draft(path: Path) -> Roster:
    """Read a draft. Raises: ConfigError."""
    try:
        return Roster.from_body(canonical.decode(read_file(path, "a roster's draft")))
    except ProtocolError as error:
        raise not_one(path, "a roster's draft", error) from error


def sign_draft(roster: Roster, own: Card, coordinator: Card, identity: Identity) -> RosterSignature:
    """Sign a draft, if it says of this member and of the coordinator what this member knows of them.

    Guarantee: nobody is listed in this member's name with another key or certificate, and its coordinator is the one
    that invited it. Who the others are, their fingerprints tell.
    Raises: ConfigError.
    """
    for card in (own, coordinator):
        if card.member not in roster.members or links_of(roster).get(card.name) != card.certificate:
            raise ConfigError(
                "roster",
                f"the draft lists {card.name} with another key or certificate, or not at all, and is not signed: ask "
                "the coordinator for another, by telephone",
            )
    silos = len(roster.of_role("silo"))
    if roster.consortium_id != own.consortium or roster.policy.get(ALL_SIGN) != silos:
        raise ConfigError(
            "roster", f"expected a draft of {own.consortium} that all its {silos} silos must sign; it is not signed"
        )
    return RosterSignature(
        member=identity.party,
        roster=roster.hash,
        countersignature=identity.sign(ROSTER_KIND, canonical.encode(roster.to_body())),
        possession=prove_possession(roster, identity),
    )


def read_signature(path: Path) -> RosterSignature:
    """Read what a member handed back. Raises: ConfigError."""
    try:
        return RosterSignature.from_body(canonical.decode(read_file(path, "a member's signature under the roster")))
    except ProtocolError as error:
        raise not_one(path, "a member's signature under the roster", error) from error


def close(roster: Roster, root: Identity, signatures: Sequence[RosterSignature]) -> bytes:
    """Return the roster with everybody's signatures. Raises: ConfigError where one is missing or does not verify."""
    body = roster.to_body()
    found = {one.member: one for one in signatures if one.roster == roster.hash}
    missing = sorted({member.id for member in roster.members} - found.keys() - {root.party})
    if missing:
        raise ConfigError("roster", f"signatures under this draft are missing, of {', '.join(missing)}")
    signed = SignedRoster(
        countersignatures={name: one.countersignature for name, one in found.items()},
        possession={
            **{name: one.possession for name, one in found.items()},
            root.party: prove_possession(roster, root),
        },
        root_signature=root.sign(ROSTER_KIND, canonical.encode(body)),
        roster=body,
    )
    data = canonical.encode(signed.to_body())
    read_closed(data, root.public_keys)
    return data


def read_closed(data: bytes, root: tuple[bytes, bytes], known_hash: str | None = None) -> Roster:
    """Return a closed roster; `known_hash` is that of the one that this member signed.

    Raises: ConfigError for one that not all of its silos signed, or that is not the one that is known.
    """
    try:
        roster = read_roster(data, root[0], root_mldsa44=root[1])
    except ProtocolError as error:
        raise ConfigError("roster", f"it does not verify: {error}") from error
    if roster.policy.get(ALL_SIGN) != len(roster.of_role("silo")):
        raise ConfigError("roster", "it could be closed without the signature of each silo, and is not believed")
    if known_hash is not None and roster.hash != known_hash:
        raise ConfigError("roster", f"it is not the one that this member signed ({known_hash[:16]}…)")
    return roster


def links_of(roster: Roster) -> Mapping[str, str]:
    """Return each member's certificate, PEM, by name."""
    links = roster.policy.get(LINKS)
    return cast(Mapping[str, str], links) if isinstance(links, Mapping) else {}


def certificates_of(roster: Roster, *roles: str) -> dict[str, bytes]:
    """Return the certificates, DER by name, of all members with one of these roles."""
    wanted = {member.id for member in roster.members if member.role in roles}
    return {name: to_der(text) for name, text in links_of(roster).items() if name in wanted}
