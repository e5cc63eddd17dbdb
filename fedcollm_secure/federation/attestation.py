"""The coordinator's side of the witnessing: show each silo the log's head with a proof, and collect cosignatures.

It remembers which size each silo cosigned last, and asks where it does not know: after a restart, or when a silo's
answer was lost on the way. What a silo remembers counts; nothing here is taken on trust by anyone.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress

from fedcollm_crypto.checkpoint import Checkpoint, cosigners
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.note import Note, SignatureLine
from fedcollm_secure.audit_log.checkpoint_folder import Witnesses, key_name
from fedcollm_secure.audit_log.events import HeadAttested
from fedcollm_secure.audit_log.log import AuditLog
from fedcollm_secure.audit_log.witness import View
from fedcollm_secure.engines.engine import Engine
from fedcollm_secure.federation.exchange import Messages, Traffic
from fedcollm_secure.federation.messages import Show, encode
from fedcollm_secure.federation.replies import Cosigned, read_reply


class Attestation:
    """What the coordinator knows of its witnesses."""

    def __init__(self, *, log: AuditLog, engine: Engine, witnesses: Witnesses, traffic: Traffic) -> None:
        """Know no silo's head yet."""
        self._log = log
        self._engine = engine
        self._witnesses = witnesses
        self._traffic = traffic
        self._sizes: dict[str, int] = {}
        self._heard: dict[str, int] = {}
        self._lines: list[SignatureLine] = []
        self._cosigned: list[str] = []

    def show(self, parties: Iterable[str]) -> tuple[Note, Mapping[str, View]]:
        """Sign the present head, and return it with what each silo is to be shown of it.

        A silo that says nothing of its head is shown a proof from 0, and will say `stale_head`.
        """
        wanted = list(parties)
        self._learn(party for party in wanted if party not in self._sizes)
        note = self._log.checkpoint()
        size = Checkpoint.of(note.text).size
        views: dict[str, View] = {}
        for party in wanted:
            old = min(self._sizes.pop(party, 0), size)
            proof = tuple(self._log.consistency_proof(old))
            unheard = min(self._heard.get(party, 0), size)
            views[party] = View(note=note.encode(), old=old, proof=proof, recent=self._log.recent(unheard))
        return note, views

    def greet(self, party: str, lines: str, *, with_lines: bool = True) -> None:
        """Take in a silo's signature lines under the head it was shown, `with_lines` of the log where it joins a round.

        Raises: ProtocolError for bad ones.
        """
        note = self._log.checkpoint_shown()
        name = key_name(party)
        found = tuple(line for text in lines.splitlines() if (line := SignatureLine.decode(text)).name == name)
        keys = [key for key in self._witnesses.keys if key.name == name]
        if not cosigners(Note(text=note.text, signatures=found[:2]), keys):
            raise ProtocolError(f"the cosignature of {party} is missing, or not under its key of the roster")
        self._sizes[party] = Checkpoint.of(note.text).size
        if with_lines:
            self._heard[party] = self._sizes[party]
        self._lines += found[:2]
        self._cosigned.append(party)

    def tell(self, party: str) -> None:
        """Show the present head to a party that keeps heads and cosigns none: the decryptor.

        Where it keeps none, or does not answer, it will say so itself when it is asked to open a sum.
        """
        _, views = self.show([party])
        for _, reply in self._ask({party: Show(view=views[party])}):
            self._sizes[party], self._heard[party] = reply.size, reply.heard

    def agree(self, silos: Iterable[str], decryptor: str) -> None:
        """Have silos cosign the head that names a sum, and show it, with their cosignatures, to the decryptor."""
        self._have_cosigned(silos)
        attested = self._save()
        self.tell(decryptor)
        self._say(attested)

    def keep(self) -> None:
        """Put what was collected under the checkpoint, durably, and only then say in the log whose it is."""
        self._say(self._save())

    def close(self, parties: Iterable[str]) -> int:
        """Show the last head to every silo once more; return how many cosigned it.

        The log does not say who did: the entry that did would be one that nobody cosigned.
        """
        self._have_cosigned(parties)
        attested = self._save()
        return len(attested.silos) if attested else 0

    def _have_cosigned(self, parties: Iterable[str]) -> None:
        """Show the present head to silos that begin nothing; who does not cosign is absent from the checkpoint."""
        _, views = self.show(parties)
        for party, reply in self._ask({party: Show(view=view) for party, view in views.items()}):
            with suppress(ProtocolError):
                self.greet(party, reply.lines, with_lines=False)

    def _say(self, attested: HeadAttested | None) -> None:
        if attested:
            self._log.append(attested)

    def _save(self) -> HeadAttested | None:
        """Save the collected lines, and return what the log may say of them; None where there were none."""
        if not self._lines:
            return None
        self._log.cosigned(tuple(self._lines))
        size = Checkpoint.of(self._log.checkpoint_shown().text).size
        attested = HeadAttested(size=size, silos=tuple(dict.fromkeys(self._cosigned)))
        self._lines.clear()
        self._cosigned.clear()
        return attested

    def _learn(self, parties: Iterable[str]) -> None:
        for party, reply in self._ask({party: Show(view=None) for party in parties}):
            self._sizes[party], self._heard[party] = reply.size, reply.heard

    def _ask(self, requests: Mapping[str, Show]) -> list[tuple[str, Cosigned]]:
        found: list[tuple[str, Cosigned]] = []
        if not requests:
            return found
        messages = Messages(requests, lambda _, request: encode(request), self._traffic)
        for party, chunks in self._engine.exchange(messages):
            try:
                reply = read_reply(chunks)
            except ProtocolError:
                continue
            if isinstance(reply, Cosigned):
                self._traffic.up += len(reply.lines)
                found.append((party, reply))
        return found
