"""The decryptor reads the log: it opens the sum that the log names for it, under the head that the silos were shown."""

import errno
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from fedcollm_crypto.checkpoint import Checkpoint, NoteKey, cosign
from fedcollm_crypto.durable import NotWritten
from fedcollm_crypto.errors import Refused
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking.manifest import Quantisation, RoundManifest
from fedcollm_crypto.note import SignatureLine
from fedcollm_secure.audit_log.checkpoint_folder import Witnesses, key_name
from fedcollm_secure.audit_log.events import RoundStarted, RunResumed, SumAgreed
from fedcollm_secure.audit_log.journal import HeadSeen, Journal
from fedcollm_secure.audit_log.log import AuditLog
from fedcollm_secure.audit_log.witness import View, Witness
from fedcollm_secure.federation.decryptor import DecryptingParty
from fedcollm_secure.federation.log_reader import LogReader
from fedcollm_secure.federation.messages import Close, Show, Step, encode
from fedcollm_secure.federation.replies import Cosigned, Refusal, read_reply

ORIGIN = "fedcollm-secure/test"
SILOS = ("a", "b", "c")
MANIFEST = RoundManifest(
    consortium_id="test",
    epoch=1,
    session_id="test",
    round=1,
    attempt=1,
    server="server",
    cohort=SILOS,
    roster_hash="11" * 32,
    policy_hash="11" * 32,
    base_model_hash="11" * 32,
    adapter_hash="22" * 32,
    lora_schema_hash="11" * 32,
    train_cfg_hash="33" * 32,
    dp_plan_hash="",
    quantisation=Quantisation(clip=1.0, bits=16, ring_bits=64, max_weight=1, length=4),
    adversary="malicious",
    colluding=0,
    k_min=2,
    threshold=3,
    profile="classical",
)


class Scene:
    """A log, and a decryptor that follows it."""

    def __init__(self, folder: Path) -> None:
        self.keeper, self.folder = Identity.generate("server"), folder
        self.log = AuditLog.create(folder / "audit", self.keeper, ORIGIN)
        self.silos = {name: Identity.generate(name) for name in SILOS}
        self.log.append(RunResumed(rounds_done=0, config_digest="44" * 32, software={}, environment_digest="00" * 32))
        self.reader = self.restart()

    def restart(self) -> LogReader:
        """Return the decryptor as it comes back with its journal."""
        self.journal = Journal(self.folder / "journal.jsonl")
        key = NoteKey(name="server", ed25519=self.keeper.public_key, mldsa44=b"")
        witness = Witness(Identity.generate("decryptor"), keeper=key, origin=ORIGIN, journal=self.journal)
        keys = tuple(NoteKey(name=key_name(name), ed25519=silo.public_key) for name, silo in self.silos.items())
        return LogReader(witness, Witnesses(keys=keys, colluding=0))

    def view(self, log: AuditLog | None = None) -> View:
        log, old = log or self.log, self.reader.size
        note = log.checkpoint()
        return View(note=note.encode(), old=old, proof=tuple(log.consistency_proof(old)), recent=log.recent(old))

    def begin(self) -> RoundManifest:
        """Show the head, and begin an attempt that names it."""
        self.reader.follow(self.view())
        manifest = replace(MANIFEST, log_checkpoint=self.log.checkpoint().text)
        self.log.append(RoundStarted.of(manifest))
        return manifest

    def agree(
        self,
        *survivors: str,
        adapter: str = MANIFEST.adapter_hash,
        cosigners: tuple[str, ...] = SILOS,
        log: AuditLog | None = None,
    ) -> None:
        log = log or self.log
        log.append(SumAgreed(round=1, attempt=1, linear_pass=0, adapter_digest=adapter, survivors=survivors or SILOS))
        head = Checkpoint.of(log.checkpoint().text)
        for name in cosigners:
            log.cosigned(cosign(head, key_name(name), self.silos[name], time_s=1))
        self.reader.follow(self.view(log))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    return Scene(tmp_path)


def test_decryptor_opens_the_sum_that_the_log_names(scene: Scene) -> None:
    manifest = scene.begin()
    scene.agree()

    scene.reader.require_logged(manifest, SILOS)

    assert [type(entry) for entry in scene.journal.entries] == [HeadSeen, HeadSeen]


def test_decryptor_opens_no_sum_that_nobody_agreed_to(scene: Scene) -> None:
    manifest = scene.begin()
    scene.reader.follow(scene.view())

    with pytest.raises(Refused, match="does not name one sum of round 1"):
        scene.reader.require_logged(manifest, SILOS)


def test_decryptor_opens_no_sum_under_a_head_that_no_quorum_cosigned(scene: Scene) -> None:
    manifest = scene.begin()
    scene.agree(cosigners=("a",))

    with pytest.raises(Refused, match="does not name one sum"):
        scene.reader.require_logged(manifest, SILOS)


def test_a_fork_that_only_the_decryptor_is_shown_opens_nothing(scene: Scene, tmp_path: Path) -> None:
    """The server copies its log, names a sum in the copy alone, and shows that to the decryptor."""
    manifest = scene.begin()
    shutil.copytree(tmp_path / "audit", tmp_path / "copy")
    scene.agree(cosigners=(), log=AuditLog.open(tmp_path / "copy", scene.keeper, ORIGIN))

    with pytest.raises(Refused, match="does not name one sum"):
        scene.reader.require_logged(manifest, SILOS)


def test_a_note_with_strangers_lines_leaves_a_journal_that_can_be_read(scene: Scene) -> None:
    note = scene.log.checkpoint()
    junk = SignatureLine(name='"' * 400_000, key_id=bytes(4), signature=b"x")

    scene.reader.follow(replace(scene.view(), note=note.with_lines((junk,)).encode()))

    scene.journal.close()
    assert scene.restart().size == 1
    assert (scene.folder / "journal.jsonl").stat().st_size < 2000


def test_a_head_that_is_shown_again_is_not_written_again(scene: Scene) -> None:
    scene.reader.follow(scene.view())
    scene.reader.follow(scene.view())

    assert len(scene.journal.entries) == 1


def test_decryptor_opens_no_sum_over_other_silos_than_the_log_names(scene: Scene) -> None:
    manifest = scene.begin()
    scene.agree("a", "b")

    with pytest.raises(Refused, match="over these silos"):
        scene.reader.require_logged(manifest, SILOS)


def test_decryptor_opens_no_sum_that_the_log_names_twice(scene: Scene) -> None:
    manifest = scene.begin()
    scene.agree()
    scene.agree("a", "b")

    with pytest.raises(Refused, match="does not name one sum"):
        scene.reader.require_logged(manifest, SILOS)


def test_decryptor_opens_no_sum_of_another_pass(scene: Scene) -> None:
    manifest = scene.begin()
    scene.agree()

    with pytest.raises(Refused, match="does not say that round 1"):
        scene.reader.require_logged(replace(manifest, linear_pass=1), SILOS)


def test_decryptor_opens_nothing_in_an_attempt_that_the_log_does_not_know(scene: Scene) -> None:
    manifest = scene.begin()
    scene.agree()

    with pytest.raises(Refused, match="does not say that round 1, attempt 1 began so"):
        scene.reader.require_logged(replace(manifest, k_min=3), SILOS)


def test_decryptor_opens_nothing_under_a_head_that_it_was_not_shown(scene: Scene) -> None:
    manifest = scene.begin()
    scene.agree()
    other = Checkpoint(origin=ORIGIN, size=9, root=bytes(32)).text

    with pytest.raises(Refused, match="a head of the log that the decryptor was not shown"):
        scene.reader.require_logged(replace(manifest, log_checkpoint=other), SILOS)


def test_decryptor_follows_no_fork_of_the_log_also_after_a_restart(scene: Scene, tmp_path: Path) -> None:
    scene.begin()
    fork = AuditLog.create(tmp_path / "fork", scene.keeper, ORIGIN)
    fork.append(RunResumed(rounds_done=0, config_digest="55" * 32, software={}, environment_digest="00" * 32))
    scene.journal.close()
    reader = scene.restart()

    view = View(note=fork.checkpoint().encode(), old=reader.size, proof=(), recent=fork.recent(1))

    with pytest.raises(Refused, match="not the log that this silo cosigned"):
        reader.follow(view)


def test_decryptor_follows_no_head_without_the_lines(scene: Scene) -> None:
    party = DecryptingParty(end=_Nothing(), reader=scene.reader)

    reply = read_reply(party.handle(encode(Show(view=replace(scene.view(), recent=None)))))

    assert isinstance(reply, Refusal)
    assert "recent lines" in reply.reason
    assert scene.reader.size == 0


def test_decryptor_says_which_head_it_keeps(scene: Scene) -> None:
    party = DecryptingParty(end=_Nothing(), reader=scene.reader)

    assert read_reply(party.handle(encode(Show(view=None)))) == Cosigned(lines="", size=0, heard=0)
    assert read_reply(party.handle(encode(Show(view=scene.view())))) == Cosigned(lines="", size=1, heard=1)


def test_decryptor_answers_no_other_message_than_its_own(scene: Scene) -> None:
    party = DecryptingParty(end=_Nothing(), reader=scene.reader)

    reply = read_reply(party.handle(encode(Close(session="test", round=1, adapter="11" * 32))))

    assert isinstance(reply, Refusal)
    assert reply.reason_code == "protocol_violation"
    assert b"".join(read_reply(party.handle(encode(Step(payload=b"question"))))) == b"question"  # type: ignore[arg-type]


def test_a_full_disk_is_a_refusal_that_names_no_path_and_leaves_the_decryptor_as_it_was(
    scene: Scene, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    party = DecryptingParty(end=_Nothing(), reader=scene.reader)
    view = scene.view()

    with monkeypatch.context() as full:
        full.setattr("os.write", no_room)
        reply = read_reply(party.handle(encode(Show(view=view))))
    assert isinstance(reply, Refusal)
    assert reply.reason_code == "disk_failed"
    assert "No space left on device" in reply.reason
    assert str(tmp_path) not in reply.reason
    assert (scene.reader.size, scene.journal.entries) == (0, ())

    scene.journal.close()
    again = DecryptingParty(end=_Nothing(), reader=scene.restart())
    assert read_reply(again.handle(encode(Show(view=None)))) == Cosigned(lines="", size=0, heard=0)
    assert read_reply(again.handle(encode(Show(view=view)))) == Cosigned(lines="", size=1, heard=1)


def test_an_end_whose_journal_has_no_room_refuses_and_opens_nothing(scene: Scene, tmp_path: Path) -> None:
    class Full:
        """An end that cannot write that its key is used."""

        def handle(self, request: bytes) -> tuple[bytes, ...]:
            raise NotWritten(tmp_path / "stages.jsonl", "the disk is full")

    party = DecryptingParty(end=Full(), reader=scene.reader)
    reply = read_reply(party.handle(encode(Step(payload=b"question"))))

    assert isinstance(reply, Refusal)
    assert (reply.reason_code, str(tmp_path) in reply.reason) == ("disk_failed", False)
    with pytest.raises(NotWritten):  # a simulation ends: its disk is everybody's
        party.answer(encode(Step(payload=b"question")))


def no_room(*_: object) -> int:
    raise OSError(errno.ENOSPC, "No space left on device")


class _Nothing:
    """An end that says back what it is asked."""

    def handle(self, request: bytes) -> tuple[bytes, ...]:
        return (request,)
