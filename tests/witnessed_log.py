"""A log with three silos as witnesses, whose keys are fixed, so that failures repeat."""

import hashlib
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from fedcollm_crypto.checkpoint import NoteKey
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.roster import Member, Roster, sign_roster
from fedcollm_secure.audit_log.events import RoundStarted, RunStarted
from fedcollm_secure.audit_log.file_digests import file_digest
from fedcollm_secure.audit_log.journal import JOURNAL_NAME, Journal
from fedcollm_secure.audit_log.log import AuditLog
from fedcollm_secure.audit_log.witness import View, Witness

DIGEST = "ab" * 32


def identity(label: str, *, post_quantum: bool = False) -> Identity:
    """Return a key that is the same every time."""
    counter = iter(range(9))
    return Identity.generate(
        label.partition("/")[0],
        lambda count: hashlib.shake_256(f"{label}/{next(counter)}".encode()).digest(count),
        post_quantum=post_quantum,
    )


class WitnessedLog:
    """A run's folder with a log in `audit/`, a roster, and a journal for each silo."""

    def __init__(
        self,
        folder: Path,
        *,
        keeper: str = "server",
        origin: str = "fedcollm-secure/test",
        epoch: int = 1,
        post_quantum: bool = False,
    ) -> None:
        self.folder, self.names = folder, ("north", "south", "west")
        folder.mkdir(parents=True, exist_ok=True)
        self.keeper = identity(keeper, post_quantum=post_quantum)
        self.silos = {name: identity(name, post_quantum=post_quantum) for name in self.names}
        members = [self._member(one) for one in (self.keeper, *self.silos.values())]
        self.roster = Roster(consortium_id="test", epoch=epoch, members=tuple(members), policy={"colluding": 1})
        (folder / "config.yaml").write_text("name: test\n")
        self.log = AuditLog.create(folder / "audit", self.keeper, origin)
        (folder / "audit" / "roster.json").write_bytes(sign_roster(self.roster, self.keeper, list(self.silos.values())))
        self.journals = {name: Journal(folder / "silos" / name / JOURNAL_NAME) for name in self.names}
        self.witnesses = {
            name: Witness(self.silos[name], keeper=self.key, origin=origin, journal=journal, clock=lambda: 1.8e9)
            for name, journal in self.journals.items()
        }
        self.log.append(
            RunStarted(
                run_id="test",
                config_digest=file_digest(folder / "config.yaml"),
                software={},
                roster_digest=self.roster.hash,
                aggregation="masked",
                privacy="record_dp",
                models={},
                environment_digest=environment(folder),
                simulated=True,
            )
        )

    @property
    def key(self) -> NoteKey:
        """Return the keeper's public keys."""
        return NoteKey(name="keeper", ed25519=self.keeper.public_key, mldsa44=self.keeper.mldsa44_key)

    @property
    def path(self) -> Path:
        """Return the log's file."""
        return self.folder / "audit" / "log.jsonl"

    def view(self, name: str) -> View:
        """Return what a silo is shown of the present head."""
        note, old = self.log.checkpoint(), self.witnesses[name].head.size
        return View(note=note.encode(), old=old, proof=tuple(self.log.consistency_proof(old)))

    def attest(self, *names: str) -> None:
        """Let these silos, all by default, cosign the present head."""
        for name in names or self.names:
            self.log.cosigned(self.witnesses[name].cosign(self.view(name)))

    def extend(self, *numbers: int) -> "WitnessedLog":
        """Append an entry for each number, and let all silos cosign."""
        for number in numbers:
            self.log.append(round_started(number))
        self.attest()
        return self

    def close(self) -> None:
        """Give up the log and the journals."""
        self.log.close()
        for journal in self.journals.values():
            journal.close()

    def _member(self, who: Identity) -> Member:
        role = "server" if who is self.keeper else "silo"
        return Member(id=who.party, role=role, ed25519=who.public_key, mldsa44=who.mldsa44_key)


def environment(run: Path) -> str:
    """Write the list of what is installed, of nothing here, and return its digest."""
    name = sha256(b"").hexdigest()
    (run / "audit" / "environments").mkdir()
    (run / "audit" / "environments" / f"{name}.txt").write_bytes(b"")
    return name


def round_started(number: int) -> RoundStarted:
    return RoundStarted(
        round=number,
        attempt=0,
        cohort=("north", "south"),
        adapter_digest=DIGEST,
        plan_digest=DIGEST,
        manifest_digest=DIGEST,
    )


@pytest.fixture(scope="session")
def witnessed() -> Iterator[Callable[..., WitnessedLog]]:
    """Return a function that begins a log in a folder."""
    begun: list[WitnessedLog] = []

    def begin(folder: Path, **changes: object) -> WitnessedLog:
        begun.append(WitnessedLog(folder, **changes))  # type: ignore[arg-type]  # a test's own keywords
        return begun[-1]

    yield begin
    for one in begun:
        one.close()
