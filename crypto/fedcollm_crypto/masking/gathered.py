"""What the server has gathered in one attempt, and the check that each reply passes before it is let in.

Every check raises ProtocolError; the server then drops the sender. What was let in, anybody can check again.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedcollm_crypto import sealing
from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.masking import transcript as hashes
from fedcollm_crypto.masking.attempt import accept_disclosed
from fedcollm_crypto.masking.conviction import BadDealing, Dealt, Fault
from fedcollm_crypto.masking.dealing import Checked, Dealing, Disclosure, Shares
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.messages import Consent, Hello, Reveal, Upload
from fedcollm_crypto.masking.requests import Delivery, Relay, VectorRequest
from fedcollm_crypto.masking.unmask import Opening
from fedcollm_crypto.roster import Roster
from fedcollm_crypto.signed import Signed
from fedcollm_crypto.wire import Octets


@dataclass(kw_only=True)
class Gathered:
    """U1, U2, U3 and the quorum, as they come in. The keys of each mapping are the set."""

    manifest: RoundManifest
    roster: Roster
    signed_hellos: dict[PartyId, Signed] = field(default_factory=dict[PartyId, Signed])
    hellos: dict[PartyId, Hello] = field(default_factory=dict[PartyId, Hello])
    transcript: bytes = b""
    dealings: dict[PartyId, Dealing] = field(default_factory=dict[PartyId, Dealing])
    checked: dict[PartyId, Signed] = field(default_factory=dict[PartyId, Signed])
    complaints: dict[PartyId, frozenset[PartyId]] = field(default_factory=dict[PartyId, frozenset[PartyId]])
    disclosures: dict[PartyId, Signed] = field(default_factory=dict[PartyId, Signed])
    members: frozenset[PartyId] = frozenset()
    cohort_hash: bytes = b""
    signed_uploads: dict[PartyId, Signed] = field(default_factory=dict[PartyId, Signed])
    vector_hashes: dict[PartyId, bytes] = field(default_factory=dict[PartyId, bytes])
    survivors_hash: bytes = b""
    consents: dict[PartyId, Signed] = field(default_factory=dict[PartyId, Signed])
    reveals: dict[PartyId, Reveal] = field(default_factory=dict[PartyId, Reveal])

    def take_hello(self, message: Signed) -> None:
        """(M1) Let in fresh keys of the round's profile that are usable and nobody else's."""
        hello, others = Hello.from_body(message.body), self.hellos.values()
        if (hello.mlkem768 is not None) != self.manifest.post_quantum:
            raise ProtocolError("the hello is of another profile than the manifest")
        for public in (hello.channel_key, hello.mask_key):
            sealing.agree(X25519PrivateKey.generate(), public, message.sender)  # raises for a low-order key
        taken, keys = {key for other in others for key in other.public_keys}, set(hello.public_keys)
        if len(keys) != len(hello.public_keys) or taken & keys:
            raise ProtocolError("a key in the hello is in use already")
        if any(o.nonce == hello.nonce or o.seed_commitment == hello.seed_commitment for o in others):
            raise ProtocolError("the nonce or the commitment in the hello is somebody else's")
        self.signed_hellos[message.sender], self.hellos[message.sender] = message, hello

    def take_dealing(self, dealing: Dealing) -> None:
        """(M2) Let in one box for each silo of U1, all under the one root that the dealer signed."""
        dealer = dealing.shares.sender
        self._require_transcript(Shares.from_body(dealing.shares.body).transcript)
        if dealing.boxes.keys() != self.hellos.keys():
            raise ProtocolError("one box for each silo of U1 was expected")
        for box in dealing.boxes.values():
            if box.sender != dealer:
                raise ProtocolError("a box names another sender than the one who brought it")
            self._require_transcript(box.transcript)
            box.require_profile(post_quantum=self.manifest.post_quantum)
        self.dealings[dealer] = dealing

    def take_checked(self, message: Signed) -> None:
        """(M2a) Let in what a dealer says of the others' boxes, and of nobody else's."""
        checked = Checked.from_body(message.body)
        self._require_transcript(checked.transcript)
        if not set(checked.complaints) <= set(self.dealings) - {message.sender}:
            raise ProtocolError("a complaint is about nobody who dealt")
        self.checked[message.sender], self.complaints[message.sender] = message, frozenset(checked.complaints)

    def accusers(self, dealer: PartyId) -> list[PartyId]:
        """Return who says that a dealer's box does not open."""
        return sorted(party for party, accused in self.complaints.items() if dealer in accused)

    def take_disclosure(self, message: Signed) -> None:
        """(M2b) Let in what a dealer discloses to all who complained, if it is what it had committed to."""
        said, dealer = Disclosure.from_body(message.body), message.sender
        self._require_transcript(said.transcript)
        if sorted(said.contents) != self.accusers(dealer):
            raise ProtocolError("a disclosure to each silo that complained was expected, and to no other")
        for party, contents in said.contents.items():
            accept_disclosed(self.dealings[dealer].boxes[party], contents)
        self.disclosures[dealer] = message

    def fix_members(self) -> None:
        """Fix U2: who dealt and checked, but for dealers that left a complaint unanswered."""
        answered = {dealer for dealer in self.dealings if dealer in self.disclosures or not self.accusers(dealer)}
        self.members = frozenset(answered & self.checked.keys())
        self.cohort_hash = hashes.cohort_hash(self.members)

    def check_upload(self, message: Signed, vector: Octets) -> None:
        """(M3) Check that a masked vector's bytes are those that were signed, masked over this U2."""
        upload = Upload.from_body(message.body)
        self._require_transcript(upload.transcript)
        if upload.cohort_hash != self.cohort_hash:
            raise ProtocolError("the vector was masked over another set of silos than U2")
        hasher = hashes.vector_hasher()
        hasher.update(vector.data)
        if hasher.finalize() != upload.vector_hash:
            raise ProtocolError("the masked words are not those that were signed")

    def take_upload(self, message: Signed) -> None:
        """(M3) Let in an upload that was checked and added."""
        self.signed_uploads[message.sender] = message
        self.vector_hashes[message.sender] = Upload.from_body(message.body).vector_hash

    def take_consent(self, message: Signed) -> None:
        """(M4) Let in the consent to exactly this U3."""
        consent = Consent.from_body(message.body)
        self._require_transcript(consent.transcript)
        if consent.survivors_hash != self.survivors_hash:
            raise ProtocolError("the consent is to another set of survivors")
        self.consents[message.sender] = message

    def take_reveal(self, message: Signed) -> None:
        """(M5) Let in the right share of each silo of U2, each the one that its dealer committed to."""
        reveal, who = Reveal.from_body(message.body), message.sender
        self._require_transcript(reveal.transcript)
        survivors = frozenset(self.vector_hashes)
        if frozenset(reveal.seed_shares) != survivors or frozenset(reveal.key_shares) != self.members - survivors:
            raise ProtocolError("shares of b for U3 and of s for the rest of U2 were expected")
        for owner, share in reveal.seed_shares.items():
            if hashes.seed_share_commitment(share) != self.dealings[owner].boxes[who].seed_share_commitment:
                raise ProtocolError(f"the revealed share of {owner}'s b is not the one that was dealt")
        for owner, share in reveal.key_shares.items():
            if hashes.key_share_commitment(share) != self.dealings[owner].boxes[who].key_share_commitment:
                raise ProtocolError(f"the revealed share of {owner}'s s is not the one that was dealt")
        self.reveals[who] = reveal

    def opening(self) -> Opening:
        """Return what unmasking needs."""
        return Opening(
            manifest=self.manifest,
            roster=self.roster,
            transcript=self.transcript,
            hellos=self.hellos,
            members=self.members,
            survivors=frozenset(self.vector_hashes),
            reveals=self.reveals,
            boxes={dealer: dealing.boxes for dealer, dealing in self.dealings.items()},
        )

    def deliveries(self) -> dict[PartyId, Delivery]:
        """Return the boxes that are for each dealer."""
        dealers = sorted(self.dealings)
        parcels = {dealer: self.dealings[dealer].parcels() for dealer in dealers}
        return {
            recipient: Delivery(
                manifest_hash=self.manifest.hash, parcels=tuple(parcels[dealer][recipient] for dealer in dealers)
            )
            for recipient in dealers
        }

    def accusations(self) -> dict[PartyId, Relay]:
        """Return, for each dealer about whom somebody complained, those complaints; usually that is nobody."""
        by_dealer = {dealer: self.accusers(dealer) for dealer in sorted(self.dealings)}
        return {
            dealer: Relay(manifest_hash=self.manifest.hash, messages=tuple(self.checked[party] for party in accusers))
            for dealer, accusers in by_dealer.items()
            if accusers
        }

    def vector_requests(self) -> dict[PartyId, VectorRequest]:
        """Return, for each of U2, all of U2 and what was disclosed for it."""
        members = tuple(sorted(self.members))
        return {
            party: VectorRequest(
                manifest_hash=self.manifest.hash,
                members=members,
                disclosures=tuple(self.disclosures[each] for each in members if each in self.complaints[party]),
            )
            for party in members
        }

    def proof(self, fault: Fault) -> BadDealing:
        """Return the proof of a fault that came out at the opening, with as few shares as it takes."""
        owner = self._dealt(fault.owner, self._revealed(fault), [fault.other] if fault.owner == fault.accused else [])
        sealer = None if fault.owner == fault.accused else self._dealt(fault.accused, {}, [fault.owner])
        return self._proof(fault, owner, sealer=sealer)

    def proof_of_disclosure(self, message: Signed) -> BadDealing | None:
        """Return the proof that what a dealer discloses is not what it dealt; None where it is, or says nothing."""
        said, dealer = Disclosure.from_body(message.body), message.sender
        self._require_transcript(said.transcript)
        for party in sorted(said.contents.keys() & self.dealings[dealer].boxes.keys()):
            try:
                accept_disclosed(self.dealings[dealer].boxes[party], said.contents[party])
            except ProtocolError:
                fault = Fault(accused=dealer, kind="disclosure", owner=dealer, other=party)
                return self._proof(fault, self._dealt(dealer, {}, [party]), disclosure=message)
        return None

    def _proof(
        self, fault: Fault, owner: Dealt, *, sealer: Dealt | None = None, disclosure: Signed | None = None
    ) -> BadDealing:
        hellos = {party: hello.body_hash for party, hello in self.signed_hellos.items()}
        return BadDealing(
            manifest=self.manifest,
            accused=fault.accused,
            fault=fault.kind,
            other=fault.other,
            hellos=hellos,
            owner=owner,
            sealer=sealer,
            disclosure=disclosure,
        )

    def _revealed(self, fault: Fault) -> dict[PartyId, bytes]:
        """Return the t shares at the lowest points, which the opening took."""
        who = sorted(self.reveals, key=self.roster.point)[: self.manifest.threshold]
        seeds = fault.kind == "seed"
        shares = {p: self.reveals[p].seed_shares if seeds else self.reveals[p].key_shares for p in who}
        return {party: each[fault.owner] for party, each in shares.items()}

    def _dealt(self, dealer: PartyId, shares: Mapping[PartyId, bytes], more: Collection[PartyId]) -> Dealt:
        parcels = self.dealings[dealer].parcels()
        wanted = sorted({*shares, *more} & parcels.keys())
        return Dealt(
            hello=self.signed_hellos[dealer], parcels=tuple(parcels[party] for party in wanted), shares=dict(shares)
        )

    def _require_transcript(self, transcript: bytes) -> None:
        if transcript != self.transcript:
            raise ProtocolError("the message belongs to another transcript")
