"""A silo whose secrets the attacker knows: one in league with the server, or one that the server made up.

It speaks the real protocol, verb by verb, so that honest silos cannot tell; what it signs, it signs with `signer`. The
signer of a silo in league is its own key; of a made-up one, a key of the attacker's under somebody else's name.
"""

import secrets as system
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

import numpy as np

from fedcollm_crypto.aggregation import Chunks, PartyId, Vector
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking import attempt, requests
from fedcollm_crypto.masking import transcript as hashes
from fedcollm_crypto.masking.attempt import OpenedShares, Place, Secrets
from fedcollm_crypto.masking.dealing import Checked, Dealing, Parcel, ShareBox, Shares, box_tree
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.masks import MaskKeys, masked_chunks
from fedcollm_crypto.masking.messages import Consent, Hello, Reveal, Upload
from fedcollm_crypto.masking.policy import Pledge
from fedcollm_crypto.masking.requests import (
    DEALING_FRAME,
    MESSAGE_FRAME,
    VECTOR_FRAME,
    Delivery,
    Relay,
    VectorRequest,
    sign_message,
)
from fedcollm_crypto.masking.ring_carriers import RingSilo, SiloCarrier
from fedcollm_crypto.roster import Roster
from fedcollm_crypto.signed import Signed


def draw_secrets() -> Secrets:
    """Draw ephemeral secrets as a silo does."""
    return Secrets.draw(system.token_bytes)


@dataclass(frozen=True, kw_only=True)
class Puppet:
    """One silo of the attacker's; `vector` is what it adds to the sum."""

    signer: Identity
    vector: Vector = field(repr=False)
    secrets: Secrets = field(default_factory=draw_secrets, repr=False)

    def hello(self, manifest: RoundManifest) -> Signed:
        """(M1) Greet like anybody."""
        return sign_message(self.signer, attempt.say_hello(manifest, self.secrets, Pledge()))

    def parcels(self, place: Place) -> dict[PartyId, Parcel]:
        """(M2) Deal real shares."""
        return self.dealing(place).parcels()

    def dealing(self, place: Place) -> Dealing:
        """(M2) Deal real shares."""
        channels = attempt.agree_channels(place, self.secrets)
        dealt = attempt.deal_shares(place, self.secrets, channels, system.token_bytes)
        return self.sign_dealing(place, dealt.boxes)

    def sign_dealing(self, place: Place, boxes: Mapping[PartyId, ShareBox]) -> Dealing:
        """(M2) Sign any boxes, real or not, as this silo's."""
        root = Shares(manifest_hash=place.manifest.hash, transcript=place.transcript, root=box_tree(boxes).root())
        return Dealing(shares=sign_message(self.signer, root), boxes=boxes)

    def checked(self, place: Place, complaints: tuple[PartyId, ...] = ()) -> Signed:
        """(M2a) Complain about anybody, or nobody."""
        message = Checked(manifest_hash=place.manifest.hash, transcript=place.transcript, complaints=complaints)
        return sign_message(self.signer, message)

    def open(self, place: Place, parcel: Parcel) -> OpenedShares:
        """Open a box that was dealt to it: the attacker may use both shares."""
        channels = attempt.agree_channels(place, self.secrets)
        return attempt.open_any_box(place, self.secrets, channels, parcel.box)

    def masks(
        self, place: Place, members: frozenset[PartyId], parcels: Mapping[PartyId, Parcel] = MappingProxyType({})
    ) -> MaskKeys:
        """(M3) Choose masks over U2. In the post-quantum profile half of their secrets come in the `parcels`."""
        brought = parcels if place.manifest.post_quantum else {}
        opened = {party: self.open(place, parcel) for party, parcel in brought.items() if party in members}
        return attempt.choose_masks(place, self.secrets, members, opened)

    def upload(self, place: Place, members: frozenset[PartyId]) -> tuple[Vector, Signed]:
        """(M3) Mask and sign."""
        keys = self.masks(place, members)
        words = np.concatenate(list(masked_chunks(self.vector, place.manifest.quantisation.ring_bits, keys)))
        return words.astype(np.uint64), self.sign_upload(place, members, words.tobytes())

    def sign_upload(self, place: Place, members: frozenset[PartyId], wire: bytes) -> Signed:
        """(M3) Sign what travels."""
        hasher = hashes.vector_hasher()
        hasher.update(wire)
        message = Upload(
            manifest_hash=place.manifest.hash,
            transcript=place.transcript,
            vector_hash=hasher.finalize(),
            cohort_hash=hashes.cohort_hash(members),
        )
        return sign_message(self.signer, message)

    def consent(self, place: Place, uploads: Mapping[PartyId, Upload]) -> Signed:
        """(M4) Agree to any set, as often as asked."""
        survivors_hash = hashes.survivors_hash({party: upload.vector_hash for party, upload in uploads.items()})
        message = Consent(manifest_hash=place.manifest.hash, transcript=place.transcript, survivors_hash=survivors_hash)
        return sign_message(self.signer, message)

    def reveal(
        self,
        place: Place,
        parcels: Mapping[PartyId, Parcel],
        members: frozenset[PartyId],
        survivors: frozenset[PartyId],
    ) -> Signed:
        """(M5) Reveal what an honest silo would."""
        opened = {party: self.open(place, parcel) for party, parcel in parcels.items()}
        message = Reveal(
            manifest_hash=place.manifest.hash,
            transcript=place.transcript,
            seed_shares={party: opened[party].seed_share for party in survivors},
            key_shares={party: opened[party].key_share for party in members - survivors},
        )
        return sign_message(self.signer, message)


Deal = Callable[[Puppet, Place], Dealing]
"""What a puppet deals in an attempt."""


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """An attempt that a puppet is in."""

    manifest: RoundManifest
    puppet: Puppet
    carrier: SiloCarrier


class PuppetEnd:
    """A puppet that answers requests as a silo does, but refuses none and checks none: what a colluder may do."""

    def __init__(
        self,
        *,
        signer: Identity,
        roster: Roster,
        vector: Vector,
        deal: "Deal | None" = None,
        take: Callable[[bytes], bytes] = bytes,
        carrier: Callable[[RoundManifest], SiloCarrier] = RingSilo,
    ) -> None:
        """Serve one attempt. `deal` makes what it deals, honest shares by default.

        `take` takes a decryptor's key off a request, `carrier` the masked vector to the wire: as in a silo.
        """
        self._roster, self._signer, self._vector = roster, signer, vector
        self._deal = deal or Puppet.dealing
        self._take, self._new_carrier = take, carrier
        self._begun: _Begun | None = None
        self._place: Place | None = None
        self._parcels: Mapping[PartyId, Parcel] = {}
        self._members: frozenset[PartyId] = frozenset()
        self._survivors: frozenset[PartyId] = frozenset()

    def handle(self, request: bytes) -> Chunks:
        """Answer whatever the server asks."""
        message = Signed.decode(self._take(request))
        if message.kind == requests.MANIFEST:
            manifest = RoundManifest.from_body(message.body)
            secrets = attempt.draw_secrets(manifest, self._signer.party, system.token_bytes)
            puppet = Puppet(signer=self._signer, vector=self._vector, secrets=secrets)
            self._begun = _Begun(manifest=manifest, puppet=puppet, carrier=self._new_carrier(manifest))
            return (MESSAGE_FRAME + puppet.hello(manifest).encode(),)
        if self._begun is None:
            raise ProtocolError("nothing was begun")
        return self._follow(message, self._begun)

    def _follow(self, message: Signed, begun: "_Begun") -> Chunks:
        if message.kind == requests.ASK_SHARES:
            hellos = {each.sender: each for each in Relay.from_body(message.body).messages}
            self._place = Place(
                me=self._signer.party,
                manifest=begun.manifest,
                roster=self._roster,
                transcript=hashes.transcript_hash(hellos),
                hellos={party: Hello.from_body(each.body) for party, each in hellos.items()},
            )
            return (DEALING_FRAME + self._deal(begun.puppet, self._place).encode(),)
        if self._place is None:
            raise ProtocolError("nothing was dealt")
        return self._speak(message, begun, self._place)

    def _speak(self, message: Signed, begun: "_Begun", place: Place) -> Chunks:
        puppet = begun.puppet
        match message.kind:
            case requests.ASK_CHECK:
                self._parcels = {each.shares.sender: each for each in Delivery.from_body(message.body).parcels}
                reply = puppet.checked(place)
            case requests.ASK_VECTOR:
                self._members = frozenset(VectorRequest.from_body(message.body).members)
                keys = puppet.masks(place, self._members, self._parcels)
                wire = b"".join(begun.carrier.chunks(puppet.vector, keys))
                return (VECTOR_FRAME, wire, puppet.sign_upload(place, self._members, wire).encode())
            case requests.ASK_CONSENT:
                uploads = {each.sender: Upload.from_body(each.body) for each in Relay.from_body(message.body).messages}
                self._survivors = frozenset(uploads)
                reply = puppet.consent(place, uploads)
            case requests.ASK_REVEAL:
                reply = puppet.reveal(place, self._parcels, self._members, self._survivors)
            case _:
                raise ProtocolError("a puppet does not know this request")
        return (MESSAGE_FRAME + reply.encode(),)
