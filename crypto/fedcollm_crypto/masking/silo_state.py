"""What a silo brings to an attempt, and what it holds after each of its stages: data alone; `silo_stages` makes it."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeAlias

from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.keys import Identity, Randomness
from fedcollm_crypto.masking.attempt import OpenedShares, Place, Secrets
from fedcollm_crypto.masking.dealing import Contents, ShareBox
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.masks import MaskKeys
from fedcollm_crypto.masking.policy import SiloPolicy
from fedcollm_crypto.masking.ring_carriers import SiloCarrier
from fedcollm_crypto.masking.stages import Answered, StageJournal, Where
from fedcollm_crypto.roster import Roster
from fedcollm_crypto.signed import Signed


@dataclass(frozen=True, kw_only=True)
class SiloSetup:
    """What a silo brings along: who it is, whom it knows, what it insists on, what it remembers."""

    identity: Identity
    roster: Roster
    policy: SiloPolicy
    stages: StageJournal
    randomness: Randomness = secrets.token_bytes

    def __post_init__(self) -> None:
        """Refuse an identity that the roster lists with another key."""
        if self.roster.member(self.party).public_keys != self.identity.public_keys:
            raise ValueError(f"the key of {self.party} is not the one in the roster")

    @property
    def party(self) -> PartyId:
        """Return the silo's name."""
        return self.identity.party


@dataclass(frozen=True, kw_only=True)
class Greeted:
    """After M1."""

    manifest: RoundManifest
    secrets: Secrets = field(repr=False)
    hello: Signed


@dataclass(frozen=True, kw_only=True)
class Dealt:
    """After M2: the transcript is fixed."""

    place: Place
    secrets: Secrets = field(repr=False)
    channels: Mapping[PartyId, bytes] = field(repr=False)
    contents: Mapping[PartyId, Contents] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Examined:
    """After M2a: the shares in the boxes that opened, and the boxes that didn't."""

    dealt: Dealt
    shares: Mapping[PartyId, OpenedShares] = field(repr=False)
    disputed: Mapping[PartyId, ShareBox] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Masking:
    """In M3: U2, the masks, and the shares that others dealt to this silo."""

    place: Place
    members: frozenset[PartyId]
    masks: MaskKeys = field(repr=False)
    shares: Mapping[PartyId, OpenedShares] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Consented:
    """After M4: U3, for good."""

    masking: Masking
    survivors_hash: bytes
    survivors: frozenset[PartyId]


State: TypeAlias = Greeted | Dealt | Examined | Masking | Consented


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """A request that the server signed, and the signed refusal it got."""

    reason_code: str
    accused: PartyId
    request: bytes
    refusal: bytes


@dataclass(kw_only=True)
class Progress:
    """One attempt: where it stands, what was answered, and with what. Dropped with its secrets when the next begins."""

    manifest: RoundManifest
    carrier: SiloCarrier
    states: dict[str, State] = field(repr=False)
    answered: dict[str, Answered] = field(default_factory=dict[str, Answered])
    replies: dict[str, bytes] = field(default_factory=dict[str, bytes], repr=False)
    upload: Signed | None = None

    @property
    def where(self) -> Where:
        """Return which attempt this is."""
        return Where.of(self.manifest)
