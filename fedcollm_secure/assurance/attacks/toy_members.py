"""The members of a toy session: real silos with their journals, a decryptor, and puppets that refuse nothing."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

from fedcollm_crypto.aggregation import Chunks, PartyId
from fedcollm_crypto.checkpoint import Checkpoint, NoteKey, cosign
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.homomorphic.worker import Worker
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking.policy import Expected
from fedcollm_crypto.masking.stages import Declined as DeclinedEntry
from fedcollm_crypto.note import Note, SignatureLine
from fedcollm_crypto.roster import Roster
from fedcollm_secure.assurance.attacks.attack_consortium import SERVER
from fedcollm_secure.assurance.attacks.colluding_silo import Deal, PuppetEnd
from fedcollm_secure.assurance.attacks.encrypted_consortium import DECRYPTOR
from fedcollm_secure.assurance.attacks.malicious_server import Blocked
from fedcollm_secure.assurance.attacks.toy_ends import decryptor_end, puppet_end, silo_end
from fedcollm_secure.assurance.attacks.toy_region import RULE, SCHEMA, Neighbourhood, drift, version
from fedcollm_secure.audit_log.checkpoint_folder import Witnesses, key_name
from fedcollm_secure.audit_log.journal import JOURNAL_NAME, Journal
from fedcollm_secure.audit_log.log import origin
from fedcollm_secure.audit_log.witness import View, Witness
from fedcollm_secure.federation.decryptor import DecryptingParty
from fedcollm_secure.federation.gates import TrustRegion
from fedcollm_secure.federation.log_reader import LogReader
from fedcollm_secure.federation.messages import Begin, Request, Show, Step, encode
from fedcollm_secure.federation.open_round import PENDING_NAME, Pending
from fedcollm_secure.federation.replies import Cosigned, Declined, Greeting, Refusal, read_reply
from fedcollm_secure.federation.silo import MakeEnd, Silo
from fedcollm_secure.federation.silo_setup import Learning, SiloMemory, SiloTerms
from fedcollm_secure.federation.stopwatch import Stopwatch
from fedcollm_secure.learning.training import Learner
from fedcollm_secure.learning.vectors import Float32, digest


class Members:
    """The running silos of one session. What is in memory goes with a restart, what is on disk remains."""

    def __init__(
        self,
        region: Neighbourhood,
        members: Sequence[PartyId],
        roster: Roster,
        expected: Expected,
        *,
        trust_region: float | None,
        puppets: Mapping[PartyId, Deal | None],
    ) -> None:
        """Start everybody."""
        self.region, self.roster, self._expected = region, roster, expected
        self._limit, self._puppets = trust_region, puppets
        self._journals: dict[PartyId, Journal] = {}
        self._witnesses: dict[PartyId, Witness] = {}
        self._parties: dict[PartyId, Silo | DecryptingParty] = {}
        self._ends: dict[PartyId, PuppetEnd] = {}
        for party in members:
            self.restart(party)
        if region.protection.worker is not None:
            self._start_decryptor(region.protection.worker)

    def close(self) -> None:
        """Give up the journals' locks."""
        for journal in self._journals.values():
            journal.close()

    def restart(self, party: PartyId) -> None:
        """Start a silo, anew: what was in memory is gone, what is on its disk remains."""
        if party in self._journals:
            self._journals[party].close()
        house = self.region.houses[party]
        journal, witness = self._open(party, house.identity)
        trusted = (
            None
            if self._limit is None
            else TrustRegion(limit=self._limit, drift=drift, initial_digest=digest(version(0)))
        )
        pending = Pending(self._folder(party) / PENDING_NAME)
        self._parties[party] = Silo(
            name=party,
            terms=SiloTerms(
                expected=self._expected, silos=self.roster.of_role("silo"), trust_region=trusted, budget=None
            ),
            learning=Learning(
                learner=_learner(house.change),
                parameters=SCHEMA.length,
                rule=RULE,
                encoding=self.region.encoding,
                weight=1,
            ),
            memory=SiloMemory(stages=house.stages, journal=journal, witness=witness, pending=pending),
            make_end=self._make_end(party),
            stopwatch=Stopwatch(),
        )

    def send(self, party: PartyId, request: Request) -> bytes:
        """Hand a party a message; return what it says to the aggregation. Raises: Blocked with the reason's code."""
        if party in self._puppets:
            return self._from_puppet(party, request)
        reply = read_reply(self._parties[party].handle(encode(request)))
        match reply:
            case Greeting():
                return b"".join(reply.chunks)
            case Declined():
                return reply.refusal
            case Refusal():
                raise Blocked(reply.reason_code)
            case Iterator():
                return b"".join(cast(Chunks, reply))
            case _:
                raise Blocked("no_answer")

    def ask(self, party: PartyId, request: Request) -> None:
        """Hand an honest party a message that is no part of an attempt, and leave its answer unread."""
        for _ in self._parties[party].handle(encode(request)):
            pass

    def cosigned(self, party: PartyId, view: View) -> tuple[SignatureLine, ...]:
        """Return a silo's lines under a head; one in league with the server cosigns what it is shown."""
        if party in self._puppets:
            head, identity = Checkpoint.of(Note.decode(view.note).text), self.region.houses[party].identity
            return cosign(head, key_name(party), identity, time_s=1_800_000_000)
        reply = read_reply(self._parties[party].handle(encode(Show(view=view))))
        lines = reply.lines if isinstance(reply, Cosigned) else ""
        return tuple(SignatureLine.decode(line) for line in lines.splitlines())

    def known(self, party: PartyId) -> int:
        """Return the size of the head that a silo cosigned, or a decryptor kept, last."""
        return self._witnesses[party].head.size

    def heard(self, party: PartyId) -> int:
        """Return up to which entry a party was shown the log's lines: a decryptor with every head that it keeps."""
        return self.known(party) if party == DECRYPTOR else self._journals[party].heard_size

    def traces(self, party: PartyId) -> tuple[int, int, int]:
        """Return what a silo has written: entries of its journals, and the size of the head that it cosigned last."""
        stages = [entry for entry in self.region.houses[party].stages.entries() if not isinstance(entry, DeclinedEntry)]
        return len(self._journals[party].entries), len(stages), self._witnesses[party].head.size

    def _open(self, party: PartyId, identity: Identity) -> tuple[Journal, Witness]:
        """Open what a party remembers of the log."""
        key = self.region.server
        keeper = NoteKey(name=SERVER, ed25519=key.public_key, mldsa44=key.mldsa44_key)
        named = origin(self._expected.session_id)
        journal = self._journals[party] = Journal(self._folder(party) / JOURNAL_NAME)
        self._witnesses[party] = Witness(identity, keeper=keeper, origin=named, journal=journal, clock=lambda: 1.8e9)
        return journal, self._witnesses[party]

    def _folder(self, party: PartyId) -> Path:
        return self.region.folder / self._expected.session_id / "silos" / party

    def _start_decryptor(self, worker: Worker) -> None:
        _, witness = self._open(DECRYPTOR, self.region.decryptor.identity)
        reader = LogReader(witness, Witnesses.of(self.roster))
        end = decryptor_end(self.region, self.roster, worker, reader.require_logged)
        self._parties[DECRYPTOR] = DecryptingParty(end=end, reader=reader)

    def _from_puppet(self, party: PartyId, request: Request) -> bytes:
        """Let a silo in league with the server answer; it refuses nothing, and remembers nothing."""
        if isinstance(request, Begin):
            self._ends[party] = puppet_end(self.region, self.roster, party, self._puppets[party])
        payload = request.payload if isinstance(request, Begin | Step) else b""
        try:
            return b"".join(self._ends[party].handle(payload))
        except ProtocolError as error:
            raise Blocked("silent") from error

    def _make_end(self, party: PartyId) -> MakeEnd:
        return lambda part: silo_end(self.region, self.roster, party, part)


def _learner(change: Float32) -> Learner:
    """Return a training whose result is always the same."""

    def update(start: Float32, round_number: int) -> Float32:
        return change

    return cast(Learner, SimpleNamespace(update=update))
