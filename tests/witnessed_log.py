"""A log with three silos as witnesses, whose keys are fixed, so that failures repeat."""

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from fedcollm_crypto import canonical
from fedcollm_crypto.checkpoint import Checkpoint, NoteKey
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking.manifest import Quantisation, RoundManifest
from fedcollm_crypto.roster import Member, Roster, sign_roster
from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.audit_log.events import (
    Event,
    GatePassed,
    GateRejected,
    RoundClosed,
    RoundStarted,
    RoundSummed,
    RunStarted,
    StageAnswered,
    SumAgreed,
    SumDecrypted,
)
from fedcollm_secure.audit_log.file_digests import file_digest
from fedcollm_secure.audit_log.journal import JOURNAL_NAME, Journal
from fedcollm_secure.audit_log.log import AuditLog
from fedcollm_secure.audit_log.witness import View, Witness

DIGEST = "ab" * 32
PLAN = RecordPlan(
    epsilon=8.0,
    delta=1e-5,
    clip_norm=1.0,
    sampling_rate=0.5,
    noise_multiplier=3.0,
    steps_per_round=1,
    rounds=3,
    batch_size=4,
)


def identity(label: str, *, post_quantum: bool = False) -> Identity:
    """Return a key that is the same every time."""
    counter = iter(range(9))
    return Identity.generate(
        label.partition("/")[0],
        lambda count: hashlib.shake_256(f"{label}/{next(counter)}".encode()).digest(count),
        post_quantum=post_quantum,
    )


class WitnessedLog:
    """A run's folder with a log in `audit/`, a roster with a decryptor, and a journal for each silo."""

    def __init__(
        self,
        folder: Path,
        *,
        keeper: str = "server",
        origin: str = "fedcollm-secure/test",
        epoch: int = 1,
        post_quantum: bool = False,
        aggregation: str = "masked",
        privacy: str = "non_private",
        run_id: str = "",
        config: str = "name: test\n",
        software: Mapping[str, str] | None = None,
        installed: str = "",
    ) -> None:
        self.origin = origin
        self.folder, self.names = folder, ("north", "south", "west")
        folder.mkdir(parents=True, exist_ok=True)
        self.keeper = identity(keeper, post_quantum=post_quantum)
        self.silos = {name: identity(name, post_quantum=post_quantum) for name in self.names}
        self.auditor = identity("auditor", post_quantum=post_quantum)
        members = [self._member(one) for one in (self.keeper, *self.silos.values(), self.auditor)]
        self.roster = Roster(consortium_id="test", epoch=epoch, members=tuple(members), policy={"colluding": 1})
        (folder / "config.yaml").write_text(config)
        self.log = AuditLog.create(folder / "audit", self.keeper, origin)
        (folder / "audit" / "roster.json").write_bytes(
            sign_roster(self.roster, self.keeper, list(self.silos.values()), [self.auditor])
        )
        self.journals = {name: Journal(folder / "silos" / name / JOURNAL_NAME) for name in self.names}
        self.witnesses = {
            name: Witness(self.silos[name], keeper=self.key, origin=origin, journal=journal, clock=lambda: 1.8e9)
            for name, journal in self.journals.items()
        }
        self.log.append(
            RunStarted(
                run_id=run_id or origin.removeprefix("fedcollm-secure/"),
                config_digest=file_digest(folder / "config.yaml"),
                software=software or {},
                roster_digest=self.roster.hash,
                aggregation=aggregation,
                privacy=privacy,
                models={},
                environment_digest=environment(folder, installed),
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
        """Begin the attempts of round 1 with these numbers, each with its manifest, and let all silos cosign."""
        for number in numbers:
            self.begin(number)
        self.attest()
        return self

    def begin(self, attempt: int, *, number: int = 1, **changes: object) -> None:
        """Begin an attempt of a round, and lay its manifest, with these changes, beside the log."""
        head = self.log.head
        checkpoint = Checkpoint(origin=self.origin, size=head.size, root=bytes.fromhex(head.root))
        manifest = RoundManifest(
            consortium_id="test",
            epoch=self.roster.epoch,
            session_id=self.origin.removeprefix("fedcollm-secure/"),
            round=number,
            attempt=attempt,
            server=self.keeper.party,
            cohort=("north", "south"),
            roster_hash=self.roster.hash,
            policy_hash=self.roster.policy_hash,
            base_model_hash="",
            adapter_hash=DIGEST,
            lora_schema_hash="",
            train_cfg_hash=DIGEST,
            dp_plan_hash="",
            quantisation=Quantisation(ring_bits=64, bits=24, clip=1.0, max_weight=1, length=5),
            adversary="malicious",
            colluding=0,
            k_min=2,
            threshold=2,
            log_checkpoint=checkpoint.text,
        )
        manifest = replace(manifest, **changes)  # type: ignore[arg-type]  # a test's own fields, checked by the class
        folder = self.folder / "audit" / "manifests"
        folder.mkdir(exist_ok=True)
        (folder / f"{number}-{attempt}.json").write_bytes(canonical.encode(manifest.to_body()))
        self.log.append(replace(attempt_started(attempt), round=number, manifest_digest=manifest.hash.hex()))

    def close(self) -> None:
        """Give up the log and the journals."""
        self.log.close()
        for journal in self.journals.values():
            journal.close()

    def _member(self, who: Identity) -> Member:
        role = {self.keeper.party: "server", self.auditor.party: "decryptor"}.get(who.party, "silo")
        return Member(id=who.party, role=role, ed25519=who.public_key, mldsa44=who.mldsa44_key)


def environment(run: Path, installed: str) -> str:
    """Write the list of what is installed, and return its digest."""
    name = sha256(installed.encode()).hexdigest()
    (run / "audit" / "environments").mkdir()
    (run / "audit" / "environments" / f"{name}.txt").write_text(installed)
    return name


def attempt_started(number: int) -> RoundStarted:
    """Return the line that begins an attempt of round 1, with a manifest that nobody wrote."""
    return RoundStarted(
        round=1,
        attempt=number,
        cohort=("north", "south"),
        adapter_digest=DIGEST,
        plan_digest=DIGEST,
        manifest_digest=DIGEST,
    )


def round_closed(number: int, **changes: object) -> RoundClosed:
    """Return the line that closes a round without a sum, but for the changes."""
    said = RoundClosed(
        round=number,
        contributors=(),
        total_weight=0,
        sum_digest=sha256(b"").hexdigest(),
        averaged_digest=DIGEST,
        adapter_before=DIGEST,
        adapter_after=DIGEST,
        llm_adapter_digest=DIGEST,
        ledgers={},
        epsilon={},
    )
    return replace(said, **changes)  # type: ignore[arg-type]  # a test's own fields, checked by the class


def without_a_sum(number: int, **changes: object) -> list[Event]:
    """Return the lines of a round whose sum was lost, but for the changes of the last one."""
    return [replace(attempt_started(1), round=number), lost_sum(number), round_closed(number, **changes)]


def lost_sum(number: int) -> GateRejected:
    """Return the line that says that a round gave no sum."""
    return GateRejected(round=number, gate="sum", reason="lost_in_a_crash")


ASKED = {  # by aggregation: silos, or the decryptor, by number of the stage; and the last before a sum is agreed to
    "masked": ({1: "s", 2: "s", 3: "s", 5: "s", 6: "s", 7: "s"}, 6),
    "bfv": ({1: "d", 2: "s", 3: "s", 4: "s", 6: "s", 7: "s", 8: "d", 9: "s"}, 7),
    "ckks": ({1: "d", 2: "s", 3: "s", 4: "d", 5: "d", 6: "d"}, 5),
    "unsafe_plain": ({1: "s"}, 0),
}


def attempt_lines(
    aggregation: str = "masked",
    *,
    number: int = 1,
    attempt: int = 1,
    linear_pass: int = 0,
    silos: tuple[str, ...] = ("north", "south"),
) -> list[Event]:
    """Return the lines of an attempt that gives a sum over all its silos, up to when it is open."""
    where = {"round": number, "attempt": attempt}
    lines: list[Event] = [replace(attempt_started(attempt), round=number, cohort=silos)]
    asked, agreed_after = ASKED[aggregation]
    for stage, who in asked.items():
        parties = silos if who == "s" else ("auditor",)
        digests = {party: sha256(f"{party} {stage}".encode()).hexdigest() for party in parties}
        lines.append(StageAnswered(**where, stage=stage, accepted=parties, replies=digests))
        if stage == agreed_after:
            of = {**where, "linear_pass": linear_pass}
            lines.append(SumAgreed(**of, adapter_digest=DIGEST, survivors=silos))
    if "d" in asked.values():
        digests = dict.fromkeys(("parameters", "key", "ciphertexts", "opened", "statement"), DIGEST)
        named = {f"{name}_digest": digest for name, digest in digests.items()}
        lines.append(SumDecrypted(**where, linear_pass=linear_pass, decryptor="auditor", **named))
    return lines


def summed(lines: list[Event], averaged: str = DIGEST) -> RoundSummed:
    """Return what the log says of an attempt's sum, by the attempt's lines."""
    said: dict[str, bytes] = {}
    for stage in (line for line in lines if isinstance(line, StageAnswered)):
        for party, digest in stage.replies.items():
            said[party] = said.get(party, b"") + bytes.fromhex(digest)
    started = next(line for line in lines if isinstance(line, RoundStarted))
    return RoundSummed(
        round=started.round,
        attempt=started.attempt,
        averaged_digest=averaged,
        is_mean=True,
        replies={party: sha256(digests).hexdigest() for party, digests in said.items()},
    )


def round_lines(aggregation: str = "masked", *, number: int = 1, averaged: str = DIGEST) -> list[Event]:
    """Return the lines of a round with one attempt, from its beginning to its end."""
    lines = attempt_lines(aggregation, number=number)
    told = {"total_weight": 2, "sum_digest": DIGEST, "averaged_digest": averaged}
    return [
        *lines,
        GatePassed(round=number, gate="range"),
        summed(lines, averaged),
        round_closed(number, contributors=("north", "south"), **told),
    ]


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


def logged(witnessed: Callable[..., Any], folder: Path, aggregation: str, lines: Sequence[Event]) -> Any:
    """Write the lines into a log that silos cosign."""
    log = witnessed(folder, aggregation=aggregation)
    for line in lines:
        log.log.append(line)
    log.attest()
    return log
