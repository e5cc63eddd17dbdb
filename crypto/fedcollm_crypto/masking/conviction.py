"""Proof that a silo dealt bad shares, which anybody can check who has the roster: what the log keeps of it.

    fault         proved by
    seed          t shares of b that the accused committed to; together they are not what its hello commits to
    key           t shares of s (or m) that it committed to; together they are not behind the keys of its hello
    mask_secret   post-quantum: the secret that it sealed for a pair is not the one that it committed to, or derives
    disclosure    what it disclosed of a box is not what the box commits to

Guarantee: no honest silo can be convicted, whoever else is in league: it signs one hello and one root in an attempt,
commits to the shares that it dealt, and shares the secret that its hello is about. The proof holds no share of anybody
else, and nothing of a vector.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Self

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedcollm_crypto import canonical, shamir
from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.declared import Declared
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.kinds import Sha256
from fedcollm_crypto.masking import transcript as hashes
from fedcollm_crypto.masking.attempt import accept_disclosed
from fedcollm_crypto.masking.dealing import Disclosure, Parcel, ShareBox, Shares
from fedcollm_crypto.masking.hybrid import MaskKeyPairs, Pair, require_committed
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.messages import Hello
from fedcollm_crypto.roster import Roster
from fedcollm_crypto.shamir import Share
from fedcollm_crypto.signed import Carried

FAULTS = ("seed", "key", "mask_secret", "disclosure")
SPOILING = ("seed", "key", "mask_secret")
"""Faults that come out at the opening, when t silos have revealed their shares and no sum can be had from them."""


@dataclass(frozen=True, kw_only=True)
class Fault:
    """Who is at fault in what: `owner` is whose secret does not come out, `other` the second silo of a pair, if any."""

    accused: PartyId
    kind: str
    owner: PartyId
    other: PartyId = ""


class Guilty(ProtocolError):
    """A silo dealt shares that do not give what it committed to."""

    def __init__(self, fault: Fault) -> None:
        """Name the silo, and what is wrong."""
        super().__init__(
            f"{fault.accused} dealt shares that do not give the secret it committed to ({fault.kind}). The next "
            "attempt goes on without it, and the proof stands in the log"
        )
        self.fault = fault


@dataclass(frozen=True, kw_only=True)
class Dealt(Declared):
    """What one dealer signed, and some of its boxes with their paths; `shares` by recipient, as they were revealed."""

    hello: Carried
    parcels: tuple[Parcel, ...]
    shares: Mapping[PartyId, Share] = field(default_factory=dict[PartyId, bytes])

    @property
    def dealer(self) -> PartyId:
        """Return whose it is."""
        return self.hello.sender


@dataclass(frozen=True, kw_only=True)
class BadDealing(Declared):
    """The proof that `accused` is at `fault`. `hellos` are the hashes of all hellos of U1, from which T1 follows."""

    KIND: ClassVar[str] = "bad-dealing"
    manifest: RoundManifest
    accused: PartyId
    fault: str
    other: PartyId
    hellos: Mapping[PartyId, Sha256]
    owner: Dealt
    sealer: Dealt | None = None
    disclosure: Carried | None = None

    def verify(self, roster: Roster) -> None:
        """Raise ProtocolError unless this proves, to anybody who trusts the roster, that the accused dealt badly."""
        if self.manifest.roster_hash != roster.hash:
            raise ProtocolError("the proof is of another roster")
        if not set(self.hellos) <= set(self.manifest.cohort):
            raise ProtocolError("the proof has hellos of silos that were not asked")
        transcript = hashes.transcript_of(self.hellos)
        for dealt in (self.owner, *([] if self.sealer is None else [self.sealer])):
            self._require_signed(dealt, transcript, roster)
        self._require_about_accused()
        if not self._is_guilty(transcript, roster):
            raise ProtocolError(f"the proof proves nothing against {self.accused}")

    def encode(self) -> bytes:
        """Return the bytes that the log names by their hash."""
        return canonical.encode(self.to_body())

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read it. Raises: ProtocolError."""
        return cls.from_body(canonical.decode(data))

    def _require_signed(self, dealt: Dealt, transcript: bytes, roster: Roster) -> None:
        """Check that the hello is the one in T1, and that each box stands under the root of the same dealer."""
        key = roster.key(dealt.dealer)
        dealt.hello.verify(key)
        if dealt.hello.kind != Hello.KIND or dealt.hello.body_hash != self.hellos.get(dealt.dealer):
            raise ProtocolError("the hello is not the one of this transcript")
        if Hello.from_body(dealt.hello.body).manifest_hash != self.manifest.hash:
            raise ProtocolError("the hello is of another manifest")
        for parcel in dealt.parcels:
            if parcel.shares.sender != dealt.dealer or parcel.shares.kind != Shares.KIND:
                raise ProtocolError("a parcel is another dealer's")
            parcel.shares.verify(key)
            parcel.require_dealt(transcript, self.manifest.hash, list(self.hellos))

    def _require_about_accused(self) -> None:
        """Check that the accused itself dealt what the fault lies in: nobody answers for the dealing of another."""
        sealed_by_another = self.fault == "mask_secret" and self.accused != self.owner.dealer
        disclosed = self.fault == "disclosure"
        if (self.sealer is not None) != sealed_by_another or (self.disclosure is not None) != disclosed:
            raise ProtocolError("the proof holds more, or less, than its fault needs")
        signer = self.owner if self.sealer is None else self.sealer
        if self.accused != signer.dealer:
            raise ProtocolError("the proof is about another silo than the accused")

    def _is_guilty(self, transcript: bytes, roster: Roster) -> bool:
        hello = Hello.from_body(self.owner.hello.body)
        match self.fault:
            case "seed":
                seed = self._combined(roster, hashes.seed_share_commitment, "seed_share_commitment")
                return seed is None or hashes.seed_commitment(seed) != hello.seed_commitment
            case "key":
                secret = self._combined(roster, hashes.key_share_commitment, "key_share_commitment")
                return secret is None or not owns_keys(secret, hello, self.manifest, self.owner.dealer)
            case "mask_secret":
                master = self._combined(roster, hashes.key_share_commitment, "key_share_commitment")
                if master is None or not owns_keys(master, hello, self.manifest, self.owner.dealer):
                    raise ProtocolError("the proof lacks the secret that it rests on")
                low, high = sorted((self.owner.dealer, self.other))
                if not self.manifest.post_quantum or self.accused != low or low == high:
                    raise ProtocolError("only a pair of this profile has a secret, chosen by the silo that comes first")
                pair = Pair(transcript=transcript, manifest_hash=self.manifest.hash, low=low, high=high)
                box = _box_for(self.sealer or self.owner, high)
                return not sealed_well(box, pair, self.owner.dealer, master, self.manifest)
            case "disclosure":
                return self._disclosed_badly(transcript, roster)
            case _:
                raise ProtocolError(f"the fault is none of {', '.join(FAULTS)}")

    def _combined(self, roster: Roster, commit: Callable[[bytes], bytes], name: str) -> bytes | None:
        """Return the secret behind the shares, None where they belong to none. Raises: ProtocolError."""
        by_point: dict[int, bytes] = {}
        for recipient, share in self.owner.shares.items():
            if commit(share) != getattr(_box_for(self.owner, recipient), name):
                raise ProtocolError("a share is not the one that was dealt")
            by_point[roster.point(recipient)] = share
        if len(by_point) < self.manifest.threshold:
            raise ProtocolError(f"{self.manifest.threshold} shares are needed")
        try:
            return shamir.combine(by_point, self.manifest.threshold)
        except ProtocolError:
            return None

    def _disclosed_badly(self, transcript: bytes, roster: Roster) -> bool:
        if self.disclosure is None or self.disclosure.sender != self.accused:
            raise ProtocolError("the proof lacks the disclosure")
        self.disclosure.verify(roster.key(self.accused))
        if self.disclosure.kind != Disclosure.KIND:
            raise ProtocolError("the proof lacks the disclosure")
        said = Disclosure.from_body(self.disclosure.body)
        if said.transcript != transcript or self.other not in said.contents:
            raise ProtocolError("the disclosure is of another transcript, or for others")
        try:
            accept_disclosed(_box_for(self.owner, self.other), said.contents[self.other])
        except ProtocolError:
            return True
        return False


def owns_keys(secret: bytes, hello: Hello, manifest: RoundManifest, party: PartyId) -> bool:
    """Say whether s_i (or m_i) is behind the mask keys that a hello shows."""
    if not manifest.post_quantum:
        return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw() == hello.mask_key
    return MaskKeyPairs.derive(secret, manifest.hash, party).public_keys == (hello.mask_key, hello.kem_keys.mask)


def sealed_well(box: ShareBox, pair: Pair, owner: PartyId, master: bytes, manifest: RoundManifest) -> bool:
    """Say whether the secret sealed for a pair is the one committed to: opened or derived with the owner's m."""
    if box.mask_secret is None:
        return False
    try:
        if pair.low == owner:
            require_committed(pair.secret(master), box.mask_secret)
        else:
            pair.open(MaskKeyPairs.derive(master, manifest.hash, owner).mlkem768, box.mask_secret)
    except ProtocolError:
        return False
    return True


def _box_for(dealt: Dealt, recipient: PartyId) -> ShareBox:
    for parcel in dealt.parcels:
        if parcel.box.recipient == recipient:
            return parcel.box
    raise ProtocolError("the proof lacks a box")
