"""A malicious server: Mallory holds its key and signs whatever she likes; honest silos answer or refuse.

She can also play a whole attempt correctly (`open_honestly`); if she could not, a refusal would prove nothing.
"""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedcollm_crypto import sealing, shamir
from fedcollm_crypto.aggregation import PartyId, Vector
from fedcollm_crypto.canonical import Json
from fedcollm_crypto.masking import requests
from fedcollm_crypto.masking import transcript as hashes
from fedcollm_crypto.masking.attempt import OpenedShares, Place
from fedcollm_crypto.masking.dealing import Dealing, Parcel
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.masks import MaskKeys, remove_masks
from fedcollm_crypto.masking.messages import Hello, Reveal, Upload
from fedcollm_crypto.masking.requests import DEALING_FRAME, VECTOR_FRAME, Delivery, Refusal, Relay, VectorRequest
from fedcollm_crypto.signed import Signed, sign
from fedcollm_secure.assurance.attacks.attack_consortium import SERVER, Consortium, Silos
from fedcollm_secure.assurance.attacks.colluding_silo import Puppet

RING_BITS = 64


class Blocked(Exception):
    """A silo refused; the message is its reason code."""


class Mallory:
    """One attempt under Mallory's hand. What she gathers stays in its attributes.

    `shown`: silos that are shown another manifest than everybody else. `puppets`: silos whose secrets she knows.
    `silos`: the running silos of an earlier attempt; fresh ones without it.
    """

    def __init__(
        self,
        consortium: Consortium,
        manifest: RoundManifest,
        *,
        shown: Mapping[PartyId, RoundManifest] | None = None,
        puppets: Mapping[PartyId, Puppet] | None = None,
        silos: Silos | None = None,
    ) -> None:
        """Start the attempt of this manifest; nothing is sent yet."""
        self.consortium, self.manifest, self.names = consortium, manifest, manifest.cohort
        self.manifests = dict.fromkeys(manifest.cohort, manifest) | dict(shown or {})
        self.puppets = dict(puppets or {})
        self.silos = silos or {party: consortium.silo(party, self.manifests[party]) for party in self.names}
        self.hellos: dict[PartyId, Signed] = {}
        self.transcript = b""
        self.parcels: dict[PartyId, dict[PartyId, Parcel]] = {}  # by recipient, then dealer
        self.checked: dict[PartyId, Signed] = {}
        self.words: dict[PartyId, Vector] = {}
        self.uploads: dict[PartyId, Signed] = {}

    def greet(self, party: PartyId) -> Signed:
        """(M0, M1) Show a silo its manifest. Raises: Blocked."""
        manifest = self.manifests[party]
        if party in self.puppets:
            return self.puppets[party].hello(manifest)
        return self.send(party, requests.MANIFEST, manifest.to_body())[1]

    def meet(self) -> None:
        """Gather everybody's hello. Raises: Blocked."""
        self.know({party: self.greet(party) for party in self.names})

    def know(self, hellos: Mapping[PartyId, Signed]) -> None:
        """Take these hellos for U1."""
        self.hellos = dict(hellos)
        self.transcript = hashes.transcript_hash(self.hellos)

    def deal(self, dealers: Iterable[PartyId] | None = None) -> None:
        """(M2) Gather the boxes of some silos, or of all. Raises: Blocked."""
        for dealer in self.names if dealers is None else dealers:
            for recipient, parcel in self._parcels_of(dealer).items():
                self.parcels.setdefault(recipient, {})[dealer] = parcel

    def check(self, party: PartyId) -> Signed:
        """(M2a) Hand a silo the boxes that were dealt to it, once. Raises: Blocked."""
        if party not in self.checked:
            if party in self.puppets:
                self.checked[party] = self.puppets[party].checked(self.place(party))
            else:
                dealt = tuple(self.parcels[party][dealer] for dealer in sorted(self.parcels[party]))
                delivery = Delivery(manifest_hash=self.manifests[party].hash, parcels=dealt)
                self.checked[party] = self.send(party, requests.ASK_CHECK, delivery.to_body())[1]
        return self.checked[party]

    def upload(self, party: PartyId, members: Sequence[PartyId] | None = None) -> Vector:
        """(M3) Ask for the masked words over a U2 of Mallory's choice. Raises: Blocked."""
        dealers = self.names if members is None else members
        if party in self.puppets:
            self.words[party], self.uploads[party] = self.puppets[party].upload(self.place(party), frozenset(dealers))
        else:
            self.check(party)
            wanted = VectorRequest(
                manifest_hash=self.manifests[party].hash, members=tuple(sorted(dealers)), disclosures=()
            )
            data, self.uploads[party] = self.send(party, requests.ASK_VECTOR, wanted.to_body())
            self.words[party] = np.frombuffer(data, "<u8").copy()
        return self.words[party]

    def collect(self) -> None:
        """Run M1 to M3 as an honest server would. Raises: Blocked."""
        self.meet()
        self.deal()
        for party in self.names:
            self.upload(party)

    def consent(self, party: PartyId, survivors: Sequence[PartyId]) -> Signed:
        """(M4) Ask a silo to agree to a U3. Raises: Blocked."""
        if party in self.puppets:
            uploads = {each: Upload.from_body(self.uploads[each].body) for each in survivors}
            return self.puppets[party].consent(self.place(party), uploads)
        return self.ask(party, requests.ASK_CONSENT, [self.uploads[each] for each in survivors])[1]

    def reveal(self, party: PartyId, consents: Sequence[Signed]) -> Reveal:
        """(M5) Ask an honest silo for its shares. Raises: Blocked."""
        return Reveal.from_body(self.ask(party, requests.ASK_REVEAL, consents)[1].body)

    def open_honestly(self, survivors: Sequence[PartyId]) -> Vector:
        """Run M4, M5 and R for a U3 without puppets. Raises: Blocked."""
        consents = [self.consent(party, survivors) for party in survivors]
        reveals = {party: self.reveal(party, consents) for party in survivors}
        return self.open_sum(survivors, reveals)

    def open_sum(self, survivors: Sequence[PartyId], reveals: Mapping[PartyId, Reveal]) -> Vector:
        """Take from Σ y over the survivors every mask that their reveals give away."""
        plus, minus = [self.self_mask(party, self.seed(party, reveals)) for party in survivors], list[bytes]()
        for lost in sorted(set(self.names) - set(survivors)):
            added, subtracted = self.pair_masks(lost, self.private_key(lost, reveals), survivors)
            plus, minus = plus + subtracted, minus + added  # the survivors' side of it
        return unmasked(added_up([self.words[party] for party in survivors]), plus, minus)

    def open_one(self, victim: PartyId, seed: bytes, private: bytes, others: Sequence[PartyId]) -> Vector:
        """Take all masks off one upload, with both secrets of its owner."""
        plus, minus = self.pair_masks(victim, private, others)
        return unmasked(self.words[victim], [self.self_mask(victim, seed), *plus], minus)

    def self_mask(self, party: PartyId, seed: bytes) -> bytes:
        """Return the stream key of a silo's own mask."""
        return hashes.self_mask_key(seed, self.transcript, self.manifests[party].hash, party)

    def pair_masks(self, party: PartyId, private: bytes, others: Sequence[PartyId]) -> tuple[list[bytes], list[bytes]]:
        """Return the stream keys that a silo with this mask key added and subtracted for others."""
        added, subtracted = list[bytes](), list[bytes]()
        for other in others:
            public = Hello.from_body(self.hellos[other].body).mask_key
            shared = sealing.agree(X25519PrivateKey.from_private_bytes(private), public, other)
            key = hashes.pair_mask_key(shared, self.transcript, self.manifests[party].hash, party, other)
            (added if other > party else subtracted).append(key)
        return added, subtracted

    def seed(self, owner: PartyId, reveals: Mapping[PartyId, Reveal]) -> bytes:
        """Put b of a silo together."""
        return self.combine({who: reveal.seed_shares[owner] for who, reveal in reveals.items()})

    def private_key(self, owner: PartyId, reveals: Mapping[PartyId, Reveal]) -> bytes:
        """Put s of a silo together; the silo itself reveals none."""
        shares = {who: reveal.key_shares[owner] for who, reveal in reveals.items() if owner in reveal.key_shares}
        return self.combine(shares)

    def combine(self, shares: Mapping[PartyId, bytes]) -> bytes:
        """Combine shares by their holders' places in the roster."""
        points = {self.consortium.roster.point(party): share for party, share in shares.items()}
        return shamir.combine(points, self.manifest.threshold)

    def place(self, party: PartyId) -> Place:
        """Return where the attempt stands for a silo."""
        return Place(
            me=party,
            manifest=self.manifests[party],
            roster=self.consortium.roster,
            transcript=self.transcript,
            hellos={who: Hello.from_body(hello.body) for who, hello in self.hellos.items()},
        )

    def opened_by(self, puppet: PartyId, dealer: PartyId) -> OpenedShares:
        """Return both shares that a puppet holds of a dealer."""
        return self.puppets[puppet].open(self.place(puppet), self.parcels[puppet][dealer])

    def ask(self, party: PartyId, kind: str, messages: Sequence[Signed]) -> tuple[bytes, Signed]:
        """Ask an honest silo for a stage after the first. Raises: Blocked."""
        relay = Relay(manifest_hash=self.manifests[party].hash, messages=tuple(messages))
        return self.send(party, kind, relay.to_body())

    def send(self, party: PartyId, kind: str, body: Mapping[str, Json]) -> tuple[bytes, Signed]:
        """Sign any request; return the words of the reply, if there are any, and its message. Raises: Blocked."""
        request = sign(self.consortium.identities[SERVER], kind, body).encode()
        data = b"".join(self.silos[party].handle(request))
        skip = 8 * self.manifest.quantisation.length if data[:1] == VECTOR_FRAME else 0
        message = Signed.decode(data[1 + skip :])
        if message.kind == Refusal.KIND:
            raise Blocked(Refusal.from_body(message.body).reason_code)
        return data[1 : 1 + skip], message

    def _parcels_of(self, dealer: PartyId) -> Mapping[PartyId, Parcel]:
        if dealer in self.puppets:
            return self.puppets[dealer].parcels(self.place(dealer))
        relay = Relay(manifest_hash=self.manifests[dealer].hash, messages=tuple(self.hellos.values()))
        request = sign(self.consortium.identities[SERVER], requests.ASK_SHARES, relay.to_body()).encode()
        data = b"".join(self.silos[dealer].handle(request))
        if data[:1] == DEALING_FRAME:
            return Dealing.decode(data[1:]).parcels()
        raise Blocked(Refusal.from_body(Signed.decode(data[1:]).body).reason_code)


def added_up(vectors: Sequence[Vector]) -> Vector:
    """Return the sum in the ring."""
    total = np.zeros_like(vectors[0])
    for vector in vectors:
        total += vector
    return total


def unmasked(words: Vector, plus: Sequence[bytes], minus: Sequence[bytes]) -> Vector:
    """Return a copy of the words without these masks."""
    opened = words.copy()
    remove_masks(opened, RING_BITS, MaskKeys(plus=plus, minus=minus))
    return opened
