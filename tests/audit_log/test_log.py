"""The log finds every class of tampering, survives a crash in mid-write, and has one writer."""

import os
from collections.abc import Callable
from datetime import datetime, tzinfo
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcollm_crypto.canonical import Json, encode
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.merkle import EMPTY_ROOT, Tree, leaf_hash
from fedcollm_secure.audit_log.events import PartyDropped, RoundStarted, RunFinished
from fedcollm_secure.audit_log.log import AuditLog, Head, LogContents, read_log, read_public_key
from fedcollm_secure.audit_log.log_entry import GENESIS, read_line, write_line
from fedcollm_secure.audit_log.run_verification import verify_log
from fedcollm_secure.errors import LogError, RunError

DIGEST = "ab" * 32
KEEPER = Identity.generate("server", lambda count: bytes(range(count)))
STRANGER = Identity.generate("server", lambda count: bytes(range(1, count + 1)))
TIME = "2026-01-31T12:00:00Z"
Lines = list[bytes]


def round_started(number: int) -> RoundStarted:
    return RoundStarted(
        round=number,
        attempt=0,
        cohort=("north", "south"),
        adapter_digest=DIGEST,
        plan_digest=DIGEST,
        manifest_digest=DIGEST,
    )


def log_of(folder: Path, numbers: tuple[int, ...] = (1, 2, 3), keeper: Identity = KEEPER) -> Path:
    """Write a log of a beginning and a line a number, signed after two entries and at its end."""
    log = AuditLog.create(folder, keeper, "fedcollm-secure/test")
    log.append(round_started(0))
    for number in numbers:
        if log.head.size == 2:
            log.checkpoint()
        log.append(round_started(number))
    log.checkpoint()
    return folder / "log.jsonl"


@pytest.fixture(autouse=True)
def _one_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stop the writer's clock, so that two logs that say the same are the same to the byte."""

    class Stopped(datetime):
        @classmethod
        def now(cls, tz: tzinfo | None = None) -> "Stopped":
            return cls(2026, 1, 31, 12, tzinfo=tz)

    monkeypatch.setattr("fedcollm_secure.audit_log.log.datetime", Stopped)


@pytest.fixture(autouse=True)
def _any_beginning(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a log begin with any entry: which events follow which is `test_audit_verify`'s matter."""
    monkeypatch.setattr("fedcollm_secure.audit_log.run_verification._check_order", lambda _: None)


def test_the_head_is_the_merkle_root_over_the_lines(tmp_path: Path) -> None:
    log = AuditLog.create(tmp_path, KEEPER, "test")
    assert log.head == Head(size=0, root=EMPTY_ROOT.hex())

    log.append(round_started(0))
    log.append(round_started(1))

    lines = (tmp_path / "log.jsonl").read_bytes().splitlines()
    assert log.head == Head(size=2, root=Tree(map(leaf_hash, lines)).root().hex())


def test_a_log_verifies_and_reads_back_what_was_written(tmp_path: Path) -> None:
    found = verify_log(log_of(tmp_path))

    assert [entry.event for entry in found.contents.entries] == [round_started(number) for number in range(4)]
    assert (found.attested.checkpoints, found.attested.signed_size) == (2, 4)


def test_an_earlier_head_is_the_head_of_the_shorter_log(tmp_path: Path) -> None:
    log = AuditLog.create(tmp_path, KEEPER, "test")
    heads = [log.head]
    for number in range(3):
        log.append(round_started(number))
        heads.append(log.head)

    contents = read_log(tmp_path / "log.jsonl")

    assert [contents.head_at(size) for size in range(4)] == heads


def rechained(events: list[int]) -> Lines:
    """Return the lines of a log with these rounds, whose chain holds."""
    lines: Lines = []
    for index, number in enumerate(events):
        previous = leaf_hash(lines[-1]) if lines else GENESIS
        lines.append(write_line(round_started(number), index=index, previous=previous, time=TIME))
    return lines


def follow(lines: Lines, number: int) -> bytes:
    """Return a line that follows these."""
    return write_line(round_started(number), index=len(lines), previous=leaf_hash(lines[-1]), time=TIME)


TAMPERINGS: dict[str, tuple[Callable[[Lines], Lines], int, str]] = {
    "flipped digit": (lambda x: [x[0], x[1].replace(b"abab", b"abac", 1), *x[2:]], 1, "changed or replaced"),
    "changed round": (lambda x: [x[0], x[1].replace(b'"round":1', b'"round":7'), *x[2:]], 1, "changed or replaced"),
    "changed link": (lambda x: [*x[:2], x[2].replace(b'"previous":"', b'"previous":"0'), x[3]], 1, "does not follow"),
    "changed last": (lambda x: [*x[:3], x[3].replace(b'"round":3', b'"round":7')], 2, "entries 2 to 3"),
    "deleted first": (lambda x: x[1:], 0, "it says it is entry 1"),
    "deleted middle": (lambda x: [x[0], *x[2:]], 1, "it says it is entry 2"),
    "deleted last": (lambda x: x[:-1], 3, "the log was cut"),
    "all deleted": (lambda _: [], 0, "the log was cut"),
    "reordered": (lambda x: [x[0], x[2], x[1], x[3]], 1, "it says it is entry 2"),
    "duplicated": (lambda x: [x[0], x[1], x[1], x[2]], 2, "it says it is entry 1"),
    "inserted": (lambda x: [*x[:2], follow(x[:2], 9), *x[2:]], 3, "it says it is entry 2"),
    "replaced": (lambda x: [*x[:2], follow(x[:2], 9), x[3]], 2, "changed or replaced"),
    "rewritten from the first": (lambda _: rechained([0, 7, 2, 3]), 0, "one of the entries 0 to 1"),
    "rewritten after a checkpoint": (
        lambda x: [*x[:2], line := follow(x[:2], 8), follow([*x[:2], line], 9)],
        2,
        "one of the entries 2 to 3",
    ),
    "truncated middle": (lambda x: [x[0], x[1][:40], *x[2:]], 1, "brackets that match"),
    "emptied line": (lambda x: [x[0], b"", *x[2:]], 1, "JSONDecodeError"),
    "duplicate key": (lambda x: [x[0], b'{"event":{},' + x[1][1:], *x[2:]], 1, "the field .event. stands there twice"),
    "other spelling": (lambda x: [x[0], x[1].replace(b'"index":1', b'"index": 1'), *x[2:]], 1, "canonical"),
    "float": (lambda x: [x[0], x[1].replace(b'"index":1', b'"index":1.0'), *x[2:]], 1, "JSON: ValueError"),
    "not a number": (lambda x: [x[0], x[1].replace(b'"index":1', b'"index":NaN'), *x[2:]], 1, "JSON: ValueError"),
    "not text": (lambda x: [x[0], b"\xff" + x[1], *x[2:]], 1, "UnicodeDecodeError"),
    "nested without end": (lambda x: [x[0], b"[" * 100_000, *x[2:]], 1, "at most 16"),
    "longer than any line": (lambda x: [x[0], b" " * 2**20 + x[1], *x[2:]], 1, "longer than"),
    "extra field": (lambda x: [x[0], x[1][:-1] + b',"x":1}', *x[2:]], 1, "a line must hold exactly"),
    "cut inside the last line": (lambda x: [*x[:3], x[3][:-1]], 3, "brackets that match"),
    "a beginning that follows something": (
        lambda x: [x[0].replace(b'"previous":"00', b'"previous":"10'), *x[1:]],
        0,
        "must follow none",
    ),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_is_found_with_its_first_bad_entry(name: str, tmp_path: Path) -> None:
    tamper, first_bad, reason = TAMPERINGS[name]
    path = log_of(tmp_path)
    path.write_bytes(b"".join(line + b"\n" for line in tamper(path.read_bytes().split(b"\n")[:-1])))

    with pytest.raises(LogError, match=reason) as caught:
        verify_log(path)

    assert caught.value.first_bad == first_bad


def note_of(folder: Path, size: int) -> Path:
    return folder / "checkpoints" / f"{size}.txt"


def forked(folder: Path) -> None:
    """Let the keeper itself sign another log of the same size, and put its checkpoint here."""
    other = log_of(folder / "other", (1, 2, 7))
    note_of(folder, 4).write_bytes(note_of(other.parent, 4).read_bytes())


def resigned(folder: Path) -> None:
    stranger = log_of(folder / "other", keeper=STRANGER)
    note_of(folder, 4).write_bytes(note_of(stranger.parent, 4).read_bytes())


def of_another_log(folder: Path) -> None:
    log = AuditLog.create(folder / "other", KEEPER, "another")
    log.append(round_started(0))
    note_of(folder, 2).unlink()
    log.checkpoint()
    note_of(folder, 1).write_bytes(note_of(folder / "other", 1).read_bytes())


def edit(folder: Path, size: int, old: str, new: str) -> None:
    text = note_of(folder, size).read_text(encoding="utf-8")
    assert old in text
    note_of(folder, size).write_text(text.replace(old, new, 1), encoding="utf-8")


NOTES: dict[str, tuple[Callable[[Path], object], str]] = {
    "forked": (forked, "one of the entries 2 to 3 is not the one that the signed checkpoint of 4"),
    "re-signed by a stranger": (resigned, "did not sign it"),
    "of another log": (of_another_log, "was expected"),
    "with another size": (lambda folder: edit(folder, 4, "\n4\n", "\n5\n"), "4.txt: it is the checkpoint of 5 entries"),
    "with another signature": (lambda folder: edit(folder, 4, "— fedcollm-secure/test ", "— x "), "did not sign"),
    "not a note": (lambda folder: note_of(folder, 4).write_text("4\n"), "blank line"),
    "not text": (lambda folder: note_of(folder, 4).write_bytes(b"\xff"), "invalid start byte"),
    "moved": (lambda folder: note_of(folder, 4).rename(note_of(folder, 7)), "7.txt: it is the checkpoint of 4 entries"),
}


@pytest.mark.parametrize("name", NOTES)
def test_a_checkpoint_that_was_replaced_is_found(name: str, tmp_path: Path) -> None:
    tamper, reason = NOTES[name]
    path = log_of(tmp_path)
    tamper(tmp_path)

    with pytest.raises(LogError, match=reason):
        verify_log(path)


def test_entries_without_a_checkpoint_are_named_and_not_called_good(tmp_path: Path) -> None:
    path = log_of(tmp_path)
    note_of(tmp_path, 4).unlink()

    assert "entries 2 to 3 stand under no signed checkpoint yet" in verify_log(path).missing


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("version", 1, "version 1 is unknown"),
        ("version", True, "version True is unknown"),
        ("time", "yesterday", "the time must read like"),
        ("time", "2026-13-31T12:00:00Z", "the time must read like"),
        ("time", 0, "the time must read like"),
        ("event", {"type": "gossip"}, "unknown event type"),
        ("event", [], "must be a JSON object"),
        ("index", False, "it says it is entry False"),
        ("note", "a field that this version does not know", "a line must hold exactly"),
    ],
)
def test_a_line_of_an_unknown_form_is_refused(field: str, value: Json, reason: str) -> None:
    body: dict[str, Json] = {
        "event": {"type": "run_finished", "summary_digest": DIGEST},
        "index": 0,
        "previous": GENESIS.hex(),
        "time": TIME,
        "version": 3,
    }
    body[field] = value

    with pytest.raises(ValueError, match=reason):
        read_line(encode(body), index=0, previous=GENESIS)


def test_another_key_verifies_nothing(tmp_path: Path) -> None:
    path = log_of(tmp_path)
    (tmp_path / "log.pub").write_text(STRANGER.public_key.hex() + "\n")

    with pytest.raises(LogError, match="did not sign"):
        verify_log(path)


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_found_no_later_than_at_its_line(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder, original = _shared_log(tmp_path_factory)
    position = data.draw(st.integers(0, len(original) - 1))
    changed = bytearray(original)
    changed[position] ^= data.draw(st.integers(1, 255))
    (folder / "log.jsonl").write_bytes(changed)

    with pytest.raises(LogError) as caught:
        verify_log(folder / "log.jsonl")

    line = original[:position].count(b"\n")
    # The chain names the line, or the one before it where the link itself was changed; behind the last link the
    # checkpoint before names the earliest entry that it can be.
    assert caught.value.first_bad in ({line - 1, line} if line < 3 else {2, 3})


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_removed_or_repeated_range_is_found(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    folder, original = _shared_log(tmp_path_factory)
    start = data.draw(st.integers(0, len(original) - 1))
    stop = data.draw(st.integers(start + 1, len(original)))
    repeated = data.draw(st.booleans())
    changed = original[:stop] + original[start:] if repeated else original[:start] + original[stop:]
    (folder / "log.jsonl").write_bytes(changed)

    with pytest.raises(LogError):
        verify_log(folder / "log.jsonl")


def _shared_log(factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    folder = factory.getbasetemp() / "shared"
    if not folder.exists():
        (folder / "original").mkdir(parents=True)
        (folder / "original" / "copy").write_bytes(log_of(folder).read_bytes())
    return folder, (folder / "original" / "copy").read_bytes()


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.99])
def test_a_crash_in_mid_write_is_recovered_and_the_log_goes_on(kept: float, tmp_path: Path) -> None:
    log = AuditLog.create(tmp_path, KEEPER, "test")
    for number in range(4):
        log.append(round_started(number))
    log.close()
    path = tmp_path / "log.jsonl"
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rindex(b"\n") + 1
    path.write_bytes(whole[: last + max(1, int(kept * (len(whole) - last)))])
    assert read_log(path).torn_bytes

    log = AuditLog.open(tmp_path, KEEPER, "test")
    log.append(round_started(3))
    log.checkpoint()

    assert verify_log(path).contents.head == log.head
    assert log.head.size == 4


def test_resuming_refuses_a_bad_earlier_line_and_leaves_the_file_alone(tmp_path: Path) -> None:
    path = log_of(tmp_path)
    bad = path.read_bytes().replace(b'"round":1', b'"round":7') + b'{"torn'
    path.write_bytes(bad)

    with pytest.raises(LogError, match="does not follow"):
        AuditLog.open(tmp_path, KEEPER, "fedcollm-secure/test")

    assert path.read_bytes() == bad


def test_resuming_goes_on_from_the_same_head(tmp_path: Path) -> None:
    log = AuditLog.create(tmp_path, KEEPER, "test")
    log.append(round_started(0))
    log.close()

    assert AuditLog.open(tmp_path, KEEPER, "test").head == log.head


def test_a_resumed_log_signs_on_from_its_last_checkpoint(tmp_path: Path) -> None:
    path = log_of(tmp_path)
    log = AuditLog.open(tmp_path, KEEPER, "fedcollm-secure/test")
    assert log.checkpoint() == log.checkpoint_shown()  # the head stood signed already
    log.append(round_started(4))
    log.checkpoint()

    assert verify_log(path).attested.checkpoints == 3
    assert log.consistency_proof(4) == read_log(path).tree.consistency_proof(4, 5)


def test_only_the_keeper_may_resume(tmp_path: Path) -> None:
    log_of(tmp_path)

    with pytest.raises(RunError, match="another key"):
        AuditLog.open(tmp_path, STRANGER, "fedcollm-secure/test")


def test_a_log_is_never_begun_twice(tmp_path: Path) -> None:
    log_of(tmp_path)

    with pytest.raises(RunError, match="already exists"):
        AuditLog.create(tmp_path, KEEPER, "test")


def test_nothing_can_be_proven_or_cosigned_before_the_first_checkpoint(tmp_path: Path) -> None:
    log = AuditLog.create(tmp_path, KEEPER, "test")

    with pytest.raises(RuntimeError, match="call checkpoint first"):
        log.consistency_proof(0)


def test_a_second_writer_is_refused_until_the_first_is_done(tmp_path: Path) -> None:
    first = AuditLog.create(tmp_path, KEEPER, "test")
    first.append(round_started(0))

    with pytest.raises(RunError, match="in use by another process"):
        AuditLog.open(tmp_path, KEEPER, "test")

    assert read_log(tmp_path / "log.jsonl").head == first.head
    first.close()
    AuditLog.open(tmp_path, KEEPER, "test").append(round_started(1))


@pytest.mark.parametrize("foreign", [b"", b'{"event":', b"a whole line\n"])
def test_bytes_of_a_writer_without_a_lock_are_noticed_before_anything_is_written(
    foreign: bytes, tmp_path: Path
) -> None:
    log, path = AuditLog.create(tmp_path, KEEPER, "test"), tmp_path / "log.jsonl"
    log.append(round_started(0))
    there = path.read_bytes() + foreign if foreign else path.read_bytes()[:-1]
    path.write_bytes(there)

    with pytest.raises(RunError, match=rf"has {len(there)} bytes, .* another process wrote to it or cut it\. Nothing"):
        log.append(round_started(1))

    assert path.read_bytes() == there


def test_a_log_that_changes_while_it_is_opened_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = log_of(tmp_path)
    contents, there = read_log(path), path.read_bytes()
    changed = LogContents(entries=contents.entries[:-1], torn_bytes=0)
    monkeypatch.setattr("fedcollm_secure.audit_log.log.read_log", lambda _: changed)

    with pytest.raises(RunError, match="was changed while it was opened"):
        AuditLog.open(tmp_path, KEEPER, "fedcollm-secure/test")

    monkeypatch.undo()
    assert path.read_bytes() == there
    assert AuditLog.open(tmp_path, KEEPER, "fedcollm-secure/test").head == contents.head


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog.create(tmp_path, KEEPER, "test")
    log.append(round_started(0))
    write = os.write

    def write_ten_bytes(descriptor: int, data: bytes) -> int:
        return write(descriptor, data[:10])

    monkeypatch.setattr(os, "write", write_ten_bytes)

    with pytest.raises(RunError, match="could not be written"):
        log.append(round_started(1))
    monkeypatch.undo()
    log.append(round_started(1))

    assert read_log(tmp_path / "log.jsonl").head == log.head
    assert log.head.size == 2


def test_an_entry_is_on_the_disk_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog.create(tmp_path, KEEPER, "test")
    synced: list[int] = []

    def note_size(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fsync", note_size)

    log.append(RunFinished(summary_digest=DIGEST))

    assert synced == [(tmp_path / "log.jsonl").stat().st_size]


def test_the_public_key_file_is_hexadecimal_and_nothing_else(tmp_path: Path) -> None:
    log_of(tmp_path)
    key = tmp_path / "log.pub"
    assert bytes.fromhex(key.read_text()) == KEEPER.public_key == read_public_key(key).ed25519

    key.write_text("00")

    with pytest.raises(LogError, match="64 hexadecimal digits"):
        read_public_key(key)


def test_post_quantum_the_keeper_signs_with_both_keys(tmp_path: Path) -> None:
    keeper = Identity.generate("server", lambda count: bytes(count), post_quantum=True)
    path = log_of(tmp_path, keeper=keeper)

    assert read_public_key(tmp_path / "log.pub").mldsa44 == keeper.mldsa44_key
    assert verify_log(path).attested.signed_size == 4
    lines = note_of(tmp_path, 4).read_text(encoding="utf-8").splitlines(keepends=True)
    note_of(tmp_path, 4).write_text("".join(lines[:-1]), encoding="utf-8")
    with pytest.raises(LogError, match="ML-DSA-44 signature is missing"):
        verify_log(path)


def test_a_missing_log_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is missing"):
        verify_log(tmp_path / "log.jsonl")
    with pytest.raises(RunError, match="is missing"):
        read_public_key(tmp_path / "log.pub")


def test_no_private_key_is_left_in_the_folder(tmp_path: Path) -> None:
    log = AuditLog.create(tmp_path, KEEPER, "test")
    log.append(PartyDropped(round=1, party="north", reason_code="timeout"))
    log.checkpoint()

    written = b"".join(path.read_bytes() for path in tmp_path.rglob("*") if path.is_file())

    secret = KEEPER.key.private_bytes_raw()
    assert secret not in written
    assert secret.hex().encode() not in written
