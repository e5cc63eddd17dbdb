"""A10: the server keeps two logs of one run, and shows the silos one and the auditor another.

The lie is in the log: another sum for round 1. Both logs are well formed and signed by the same keeper, so that nobody
who sees one of them alone can tell. Whoever compares can; the point is that somebody must.
"""

import tempfile
from collections.abc import Mapping
from pathlib import Path

from fedcollm_crypto.checkpoint import NoteKey
from fedcollm_crypto.errors import Refused
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.roster import Roster, sign_roster
from fedcollm_secure.assurance.attacks.attack_consortium import SERVER, as_member, silo_names
from fedcollm_secure.assurance.attacks.attack_outcome import Attack, Outcome
from fedcollm_secure.assurance.attacks.toy_log import ToyRound
from fedcollm_secure.assurance.attacks.twins.server_signed_log import TwinLog
from fedcollm_secure.audit_log.equivocation import compare, sight
from fedcollm_secure.audit_log.events import RunFinished, RunStarted
from fedcollm_secure.audit_log.journal import JOURNAL_NAME, Journal
from fedcollm_secure.audit_log.log import AuditLog
from fedcollm_secure.audit_log.run_verification import VerifiedLog, verify_log
from fedcollm_secure.audit_log.witness import View, Witness
from fedcollm_secure.errors import LogError

SILOS, COLLUDING, ORIGIN = 5, 1, "fedcollm-secure/attacked"
DIGEST = "ab" * 32
TRUE_WEIGHT, TOLD_WEIGHT = SILOS, SILOS - 1  # the second log leaves a silo out of the sum


class Attacker:
    """A server that keeps two logs, with silos that witness, of which one is in league with it."""

    def __init__(self, folder: Path) -> None:
        """Begin both logs alike, up to and with round 1's beginning."""
        self.folder = folder
        self.server = Identity.generate(SERVER)
        self.silos = {name: Identity.generate(name) for name in silo_names(SILOS)}
        members = [as_member(self.server, "server"), *(as_member(one, "silo") for one in self.silos.values())]
        self.roster = Roster(consortium_id="attacked", epoch=1, members=tuple(members), policy={"colluding": COLLUDING})
        self.keeper = NoteKey(name=SERVER, ed25519=self.server.public_key)
        self.honest, self.forged = self._begin("honest", TRUE_WEIGHT), self._begin("forged", TOLD_WEIGHT)
        self.journals = {name: Journal(folder / name / JOURNAL_NAME) for name in self.silos}
        self.witnesses = {
            name: Witness(identity, keeper=self.keeper, origin=ORIGIN, journal=self.journals[name])
            for name, identity in self.silos.items()
        }

    def _begin(self, name: str, weight: int) -> AuditLog:
        audit = self.folder / name / "audit"
        log = AuditLog.create(audit, self.server, ORIGIN)
        (audit / "roster.json").write_bytes(sign_roster(self.roster, self.server, list(self.silos.values())))
        log.append(
            RunStarted(
                run_id="attacked",
                config_digest=DIGEST,
                software={},
                roster_digest=self.roster.hash,
                aggregation="masked",
                privacy="non_private",
                models={},
                environment_digest="00" * 32,
                simulated=True,
            )
        )
        for line in ToyRound(cohort=tuple(silo_names(SILOS))[:weight], total_weight=weight).lines():
            log.append(line)
        log.append(RunFinished(summary_digest=DIGEST))
        return log

    def show(self, log: AuditLog, names: list[str]) -> Mapping[str, str]:
        """Show these silos the head of a log; return who refused, and with which code."""
        refused: dict[str, str] = {}
        for name in names:
            witness = self.witnesses[name]
            note, old = log.checkpoint(), witness.head.size
            view = View(note=note.encode(), old=old, proof=tuple(log.consistency_proof(old)))
            try:
                log.cosigned(witness.cosign(view))
            except Refused as refusal:
                refused[name] = refusal.reason_code
        return refused

    def league(self, log: AuditLog, name: str) -> None:
        """Let a silo in league with the server cosign another log as well: it has a second memory."""
        journal = Journal(self.folder / f"league-{log.head.root[:8]}" / name / JOURNAL_NAME)
        witness = Witness(self.silos[name], keeper=self.keeper, origin=ORIGIN, journal=journal)
        view = View(note=log.checkpoint().encode(), old=0, proof=())
        log.cosigned(witness.cosign(view))
        journal.close()

    def auditor(self, name: str) -> VerifiedLog:
        """Verify a log as somebody who sees nothing else."""
        return verify_log(self.folder / name / "audit" / "log.jsonl", public_key=self.keeper)

    def close(self) -> None:
        """Give up the logs and the journals."""
        self.honest.close()
        self.forged.close()
        for journal in self.journals.values():
            journal.close()


def against_twin() -> Outcome:
    """Show two people two logs that are each chained and signed, and that nobody else cosigns."""
    server = Identity.generate(SERVER)
    first, second = TwinLog(server.key), TwinLog(server.key)
    for log, weight in ((first, TRUE_WEIGHT), (second, TOLD_WEIGHT)):
        log.append("run started")
        log.append(f"round 1 closed: {weight} silos")
    public = server.key.public_key()
    believed = first.verify(public) and second.verify(public) and first.lines != second.lines
    return Outcome(
        succeeded=believed,
        told=f"the silos read {TRUE_WEIGHT} contributors, the auditor {TOLD_WEIGHT}; both logs verify",
        figures={"logs_believed": 2 if believed else 1},
    )


def against_us() -> Outcome:
    """Show all silos one log and the auditor another; then split the silos; then lie to a silo in a later round."""
    with tempfile.TemporaryDirectory() as name:
        attacker = Attacker(Path(name))
        names = list(attacker.silos)
        honest, liar = names[:-1], names[-1]
        half = len(honest) // 2
        attacker.show(attacker.honest, honest[:half])
        attacker.show(attacker.forged, honest[half:])
        attacker.league(attacker.honest, liar)
        attacker.league(attacker.forged, liar)
        logs = (attacker.auditor("honest"), attacker.auditor("forged"))
        sizes = [len(found.attested.cosigners) for found in logs]
        believed = sum(not found.missing for found in logs)
        refused = attacker.show(attacker.forged, honest[:half])
        compared = _compared(attacker, honest[0])
        attacker.close()
    return Outcome(
        succeeded=believed > 1 or len(refused) < half or not compared,
        reason="no_second_quorum, forked_log",
        told=(
            f"silos split, one of them in league: the two logs get {sizes[0]} and {sizes[1]} of {SILOS} cosignatures, "
            f"{_quorum()} make a quorum, and {believed} of the two is believed. {len(refused)} silos refuse the other "
            f"one when they see it, and keep the server's signature as evidence; two views compared: {compared}"
        ),
        figures={"logs_believed": believed, "quorum": _quorum(), "silos_that_refused": len(refused)},
    )


def _compared(attacker: Attacker, silo: str) -> str:
    """Hold an honest silo's journal against the log that the auditor was shown; return what came of it."""
    try:
        compare(sight(attacker.folder / silo / JOURNAL_NAME), sight(attacker.folder / "forged"))
    except LogError as error:
        return str(error)
    return ""


def _quorum() -> int:
    return (SILOS + COLLUDING) // 2 + 1


ATTACK = Attack(
    id="A10",
    title="two logs of one run",
    does="The server shows the silos one log and the auditor another; one silo is in league with it",
    unprotected=against_twin,
    protected=against_us,
)
