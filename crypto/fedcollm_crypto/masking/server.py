"""The server's end: relays what silos signed, adds up what they mask, and opens the sum and nothing else.

It trusts no reply. A reply that is malformed, forged or from another set drops its sender; one that is late, repeated
or of another attempt is ignored. One vector is held beside the running total: O(d) memory however many silos.
"""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from types import MappingProxyType

from fedcollm_crypto.aggregation import Ask, Chunks, PartyId, Sum
from fedcollm_crypto.canonical import Json
from fedcollm_crypto.errors import CryptoError, ProtocolError, TooFewSilos
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking import requests
from fedcollm_crypto.masking import transcript as hashes
from fedcollm_crypto.masking.conviction import Guilty
from fedcollm_crypto.masking.dealing import Dealing
from fedcollm_crypto.masking.gathered import Gathered
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.messages import Hello, Upload
from fedcollm_crypto.masking.replies import REPLIES, split_frame
from fedcollm_crypto.masking.requests import (
    DEALING_FRAME,
    STAGES,
    VECTOR_FRAME,
    Body,
    Refusal,
    Relay,
)
from fedcollm_crypto.masking.ring_carriers import RingServer, ServerCarrier
from fedcollm_crypto.masking.unmask import leftover_masks
from fedcollm_crypto.roster import Roster
from fedcollm_crypto.signed import Signed, sign
from fedcollm_crypto.wire import fill, join


class MaskedServer:
    """Learn the sum over the silos that stay, or nothing. One object serves one attempt.

    Guarantee: none is needed from it for the silos' privacy. For the sum: it is exact over `contributors` if they
    follow the protocol; a silo that doesn't can spoil the attempt, and is named, or bias the sum within the ring.
    """

    def __init__(
        self, *, manifest: RoundManifest, roster: Roster, signer: Identity, carrier: ServerCarrier | None = None
    ) -> None:
        """Serve the attempt that the manifest describes, signing as `signer`; `carrier` is `RingServer` by default."""
        if manifest.server != signer.party or roster.member(signer.party).public_keys != signer.public_keys:
            raise ValueError(f"{signer.party} must be the manifest's server, with the roster's keys")
        if manifest.roster_hash != roster.hash or manifest.policy_hash != roster.policy_hash:
            raise ValueError("the manifest names another roster or policy than this server has")
        self._manifest = manifest
        self._roster = roster
        self._signer = signer
        self._stage = -1
        self._waiting: frozenset[PartyId] = frozenset()
        self._dropped: dict[PartyId, str] = {}
        self._refusals: dict[PartyId, Signed] = {}
        self._requests: Mapping[PartyId, bytes] = {}
        self._seen = Gathered(manifest=manifest, roster=roster)
        self._carrier = carrier or RingServer(manifest)
        self._convictions: dict[PartyId, bytes] = {}
        self._agreed = False

    @property
    def dropped(self) -> Mapping[PartyId, str]:
        """Return who was dropped, and why."""
        return MappingProxyType(self._dropped)

    @property
    def refused(self) -> Mapping[PartyId, str]:
        """Return the reason code of each signed refusal."""
        return {party: Refusal.from_body(message.body).reason_code for party, message in self._refusals.items()}

    @property
    def refusals(self) -> Mapping[PartyId, Signed]:
        """Return the signed refusals, for the log."""
        return MappingProxyType(self._refusals)

    @property
    def convictions(self) -> Mapping[PartyId, bytes]:
        """Return whom this attempt proved to have dealt badly, with the proof of each (`conviction.BadDealing`)."""
        return MappingProxyType(self._convictions)

    @property
    def decryption(self) -> None:
        """Return nothing: there is no decryptor."""

    @property
    def survivors(self) -> frozenset[PartyId]:
        """Return U3 once t silos have agreed to open the sum over it; empty before."""
        return frozenset(self._seen.vector_hashes) if self._agreed else frozenset()

    @property
    def hellos(self) -> Mapping[PartyId, Hello]:
        """Return the hellos of U1, with what each silo pledged."""
        return MappingProxyType(self._seen.hellos)

    @property
    def stage(self) -> str:
        """Return which request is out; empty before the first and after the last."""
        return STAGES[self._stage] if self._stage >= 0 else ""

    @property
    def uploads(self) -> Mapping[PartyId, Signed]:
        """Return the signed uploads of U3."""
        return MappingProxyType(self._seen.signed_uploads)

    @property
    def quorum(self) -> tuple[Signed, ...]:
        """Return t consents to U3, in order of their senders."""
        return tuple(self._seen.consents[party] for party in sorted(self._seen.consents)[: self._manifest.threshold])

    def start(self, cohort: Sequence[PartyId]) -> Ask:
        """(M0) Send the signed manifest to its cohort."""
        if self._stage >= 0:
            raise RuntimeError("one server end serves one attempt: make a new one")
        if sorted(cohort) != list(self._manifest.cohort):
            raise ValueError("the cohort must be the manifest's: silos agree to that one and to no other")
        return self._ask(requests.MANIFEST, self._manifest.to_body(), self._manifest.cohort)

    def absorb(self, party: PartyId, reply: Chunks) -> None:
        """Take in one reply of a silo that was asked and has not answered yet; ignore all else."""
        if party not in self._waiting:
            return
        try:
            self._take(party, reply)
        except (CryptoError, OSError) as error:
            self._drop([party], str(error))

    def step(self) -> Ask | Sum:
        """Go on with those who answered. Raises: TooFewSilos; Guilty for a silo that dealt bad shares."""
        if self._stage < 0:
            raise RuntimeError("the attempt has not started, or is over")
        self._drop(self._waiting, "did not answer")
        seen = self._seen
        match STAGES[self._stage]:
            case requests.MANIFEST:
                self._require_floor(seen.hellos, self._manifest.floor)
                seen.transcript = hashes.transcript_hash(seen.signed_hellos)
                return self._relay(requests.ASK_SHARES, seen.signed_hellos)
            case requests.ASK_SHARES:
                self._require_floor(seen.dealings, self._manifest.floor)
                return self._ask_each(requests.ASK_CHECK, self._seen.deliveries())
            case requests.ASK_CHECK:
                return self._ask_each(requests.ASK_DISCLOSURE, self._seen.accusations())
            case requests.ASK_DISCLOSURE:
                seen.fix_members()
                self._require_floor(seen.members, self._manifest.floor)
                return self._ask_each(requests.ASK_VECTOR, self._seen.vector_requests())
            case requests.ASK_VECTOR:
                self._require_floor(seen.vector_hashes, self._manifest.floor)
                seen.survivors_hash = hashes.survivors_hash(seen.vector_hashes)
                return self._relay(requests.ASK_CONSENT, seen.signed_uploads)
            case requests.ASK_CONSENT:
                self._require_floor(seen.consents, self._manifest.threshold)
                self._agreed = True
                return self._relay_quorum()
            case _:
                self._require_floor(seen.reveals, self._manifest.threshold)
                return self._open()

    def _open(self) -> Sum:
        """(R) Take the masks off the sum."""
        self._stage = -1
        try:
            masks = leftover_masks(self._seen.opening())
        except Guilty as guilty:
            self._convictions[guilty.fault.accused] = self._seen.proof(guilty.fault).encode()
            raise
        total = self._carrier.open(masks)
        return Sum(total=total, contributors=frozenset(self._seen.vector_hashes))

    def _take(self, party: PartyId, reply: Chunks) -> None:
        """Read a reply, verify its sender, and let it in if it belongs to this stage."""
        frame, rest = split_frame(reply)
        with_vector, stage = frame == VECTOR_FRAME, STAGES[self._stage]
        if with_vector and stage != requests.ASK_VECTOR:
            return  # a repeated upload, come late
        if frame == DEALING_FRAME:
            if stage == requests.ASK_SHARES:
                self._take_dealing(party, Dealing.decode(join(rest)))
            return
        message = Signed.decode(fill(self._carrier.scratch, rest) if with_vector else join(rest))
        if message.sender != party:
            raise ProtocolError("the reply names another sender than the party that it came from")
        message.verify(self._roster.key(party))
        if message.kind == Refusal.KIND:
            self._take_refusal(party, message)
        elif message.kind != REPLIES[self._stage] or message.body.get("manifest_hash") != self._manifest.hash.hex():
            return  # honest, but of an earlier stage or attempt
        elif with_vector != (message.kind == Upload.KIND):
            raise ProtocolError("an upload comes behind its words, and nothing else does")
        else:
            self._let_in(message)
            self._waiting -= {party}

    def _take_dealing(self, party: PartyId, dealing: Dealing) -> None:
        if dealing.shares.sender != party:
            raise ProtocolError("the reply names another sender than the party that it came from")
        dealing.shares.verify(self._roster.key(party))
        if dealing.shares.body.get("manifest_hash") == self._manifest.hash.hex():
            self._seen.take_dealing(dealing)
            self._waiting -= {party}

    def _let_in(self, message: Signed) -> None:
        match STAGES[self._stage]:
            case requests.MANIFEST:
                self._seen.take_hello(message)
            case requests.ASK_SHARES:
                raise ProtocolError("the boxes are missing beside their root")
            case requests.ASK_CHECK:
                self._seen.take_checked(message)
            case requests.ASK_DISCLOSURE:
                self._take_disclosure(message)
            case requests.ASK_VECTOR:
                self._seen.check_upload(message, self._carrier.scratch)
                self._carrier.add()  # may refuse it, before it is let in
                self._seen.take_upload(message)
            case requests.ASK_CONSENT:
                self._seen.take_consent(message)
            case _:
                self._seen.take_reveal(message)

    def _take_disclosure(self, message: Signed) -> None:
        proof = self._seen.proof_of_disclosure(message)
        if proof is not None:
            self._convictions[message.sender] = proof.encode()
        self._seen.take_disclosure(message)

    def _take_refusal(self, party: PartyId, message: Signed) -> None:
        refusal = Refusal.from_body(message.body)
        if refusal.request_hash != hashlib.sha256(self._requests[party]).digest():
            return  # of a request that came late or twice
        self._refusals[party] = message
        self._drop([party], f"refused ({refusal.reason_code}): {refusal.reason}")

    def _relay(self, kind: str, messages: Mapping[PartyId, Signed]) -> Ask:
        """Carry everybody's message of this stage to all who sent one."""
        ordered = tuple(messages[party] for party in sorted(messages))
        return self._ask(kind, Relay(manifest_hash=self._manifest.hash, messages=ordered).to_body(), messages)

    def _relay_quorum(self) -> Ask:
        """Carry t consents, which suffice, to all who consented."""
        body = Relay(manifest_hash=self._manifest.hash, messages=self.quorum).to_body()
        return self._ask(requests.ASK_REVEAL, body, self._seen.consents)

    def _ask_each(self, kind: str, bodies: Mapping[PartyId, Body]) -> Ask:
        return self._expect({p: sign(self._signer, kind, body.to_body()).encode() for p, body in bodies.items()})

    def _ask(self, kind: str, body: Mapping[str, Json], parties: Iterable[PartyId]) -> Ask:
        return self._expect(dict.fromkeys(sorted(parties), sign(self._signer, kind, body).encode()))

    def _expect(self, requests_by_silo: Mapping[PartyId, bytes]) -> Ask:
        self._stage += 1
        self._requests, self._waiting = requests_by_silo, frozenset(requests_by_silo)
        return Ask(requests=requests_by_silo)

    def _drop(self, parties: Iterable[PartyId], reason: str) -> None:
        self._dropped.update(dict.fromkeys(parties, reason))
        self._waiting -= set(parties)

    def _require_floor(self, silos: Collection[PartyId], needed: int) -> None:
        """End the attempt when too few are left. No secret was spent: nobody revealed t shares of anything."""
        if len(silos) < needed:
            kind = STAGES[self._stage]
            self._stage = -1
            raise TooFewSilos(f"stage {kind}", needed=needed, left=len(silos), dropped=dict(self._dropped))
