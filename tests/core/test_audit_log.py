"""The log finds every class of tampering, survives a crash in mid-write, and has one writer."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcollm_crypto.canonical import Json, encode
from fedcollm_secure.audit.entry import GENESIS, read_line, write_line
from fedcollm_secure.audit.events import Event, PartyDropped, RoundStarted, RunFinished
from fedcollm_secure.audit.log import AuditLog, Head, read_log, read_public_key
from fedcollm_secure.errors import LogError, RunError

DIGEST = "ab" * 32
KEEPER = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
STRANGER = Ed25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
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


def log_of(folder: Path, entries: int = 4) -> Path:
    log = AuditLog.create(folder, KEEPER)
    for number in range(entries):
        log.append(round_started(number))
    return folder / "log.jsonl"


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return log_of(tmp_path_factory.mktemp("original")).read_bytes()


def test_head_is_the_chain_over_the_lines(tmp_path: Path) -> None:
    log = AuditLog.create(tmp_path, KEEPER)
    assert log.head == Head(size=0, root=GENESIS)

    log.append(round_started(0))

    line = (tmp_path / "log.jsonl").read_bytes().removesuffix(b"\n")
    assert log.head == Head(size=1, root=hashlib.sha256(b"fedcollm/v1/audit-line\0" + line).hexdigest())


def test_a_log_verifies_and_reads_back_what_was_written(tmp_path: Path) -> None:
    path = log_of(tmp_path)

    contents = read_log(path, KEEPER.public_key())

    assert AuditLog.verify(path, KEEPER.public_key()) == contents.head
    assert [entry.event for entry in contents.entries] == [round_started(number) for number in range(4)]


def test_an_earlier_head_is_the_head_of_the_shorter_log(tmp_path: Path) -> None:
    log = AuditLog.create(tmp_path, KEEPER)
    heads = [log.head]
    for number in range(3):
        log.append(round_started(number))
        heads.append(log.head)

    contents = read_log(tmp_path / "log.jsonl", KEEPER.public_key())

    assert [contents.head_at(size) for size in range(4)] == heads


def swap(lines: Lines) -> Lines:
    return [lines[0], lines[2], lines[1], lines[3]]


def resign(lines: Lines) -> Lines:
    entry = read_line(lines[1], index=1, previous=link_before(lines, 1), public_key=KEEPER.public_key())
    return [lines[0], forged(entry.event, 1, lines, STRANGER), *lines[2:]]


def link_before(lines: Lines, index: int) -> str:
    return hashlib.sha256(b"fedcollm/v1/audit-line\0" + lines[index - 1]).hexdigest()


def forged(event: Event, index: int, lines: Lines, signer: Ed25519PrivateKey) -> bytes:
    previous = link_before(lines, index) if index else GENESIS
    return write_line(event, index=index, previous=previous, time="2026-01-31T12:00:00Z", signer=signer)


def other_digit(digit: bytes) -> bytes:
    return b"1" if digit == b"0" else b"0"


TAMPERINGS: dict[str, tuple[Callable[[Lines], Lines], int, str]] = {
    "flipped digit": (lambda x: [x[0], x[1].replace(b"abab", b"abac", 1), *x[2:]], 1, "signature"),
    "changed round": (lambda x: [x[0], x[1].replace(b'"round":1', b'"round":7'), *x[2:]], 1, "signature"),
    "changed signature": (lambda x: [x[0], x[1][:-3] + other_digit(x[1][-3:-2]) + b'"}', *x[2:]], 1, "signature"),
    "deleted first": (lambda x: x[1:], 0, "it says it is entry 1"),
    "deleted middle": (lambda x: [x[0], *x[2:]], 1, "it says it is entry 2"),
    "reordered": (swap, 1, "it says it is entry 2"),
    "duplicated": (lambda x: [x[0], x[1], x[1], x[2]], 2, "it says it is entry 1"),
    "inserted by a stranger": (lambda x: [*x[:2], forged(round_started(9), 2, x, STRANGER), *x[2:]], 2, "signature"),
    "re-signed": (resign, 1, "signature"),
    "truncated middle": (lambda x: [x[0], x[1][:40], *x[2:]], 1, "JSONDecodeError"),
    "emptied line": (lambda x: [x[0], b"", *x[2:]], 1, "JSONDecodeError"),
    "duplicate key": (lambda x: [x[0], b'{"body":{},' + x[1][1:], *x[2:]], 1, "JSON: ValueError"),
    "other spelling": (lambda x: [x[0], x[1].replace(b'"index":1', b'"index": 1'), *x[2:]], 1, "canonical"),
    "float": (
        lambda x: [x[0], x[1].replace(b'"index":1', b'"index":1.0'), *x[2:]],
        1,
        "JSON: ValueError",
    ),
    "not a number": (
        lambda x: [x[0], x[1].replace(b'"index":1', b'"index":NaN'), *x[2:]],
        1,
        "JSON: ValueError",
    ),
    "not text": (lambda x: [x[0], b"\xff" + x[1], *x[2:]], 1, "UnicodeDecodeError"),
    "nested without end": (lambda x: [x[0], b"[" * 100_000, *x[2:]], 1, "RecursionError"),
    "longer than any line": (lambda x: [x[0], b" " * 2**20 + x[1], *x[2:]], 1, "longer than"),
    "extra field": (lambda x: [x[0], x[1][:-1] + b',"x":1}', *x[2:]], 1, "exactly body and signature"),
    "cut inside the last line": (lambda x: [*x[:3], x[3][:-1]], 3, "JSONDecodeError"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_tampering_is_found_at_its_index(name: str, original: bytes, tmp_path: Path) -> None:
    tamper, first_bad, reason = TAMPERINGS[name]
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\n".join(tamper(original.split(b"\n")[:-1])) + b"\n")

    with pytest.raises(LogError, match=reason) as caught:
        AuditLog.verify(path, KEEPER.public_key())

    assert caught.value.first_bad == first_bad


def test_a_keeper_who_rewrites_an_old_entry_breaks_the_chain_at_the_next(original: bytes, tmp_path: Path) -> None:
    lines = original.split(b"\n")[:-1]
    path = tmp_path / "log.jsonl"
    path.write_bytes(b"\n".join([lines[0], forged(round_started(9), 1, lines, KEEPER), *lines[2:]]) + b"\n")

    with pytest.raises(LogError, match="does not follow") as caught:
        AuditLog.verify(path, KEEPER.public_key())

    assert caught.value.first_bad == 2


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("version", 2, "version 2 is unknown"),
        ("version", True, "version True is unknown"),
        ("time", "yesterday", "does not match format"),
        ("time", 0, "the time must read like"),
        ("event", {"type": "gossip"}, "unknown event type"),
        ("event", [], "must be a JSON object"),
        ("index", False, "it says it is entry False"),
        ("note", "a field that this version does not know", "a body must hold exactly"),
    ],
)
def test_a_signed_line_of_an_unknown_form_is_refused(field: str, value: Json, reason: str) -> None:
    body: dict[str, Json] = {
        "event": {"type": "run_finished", "summary_digest": DIGEST},
        "index": 0,
        "previous": GENESIS,
        "time": "2026-01-31T12:00:00Z",
        "version": 1,
    }
    body[field] = value
    message = b"fedcollm/v1/audit-entry\0" + hashlib.sha256(encode(body)).digest()
    line = encode({"body": body, "signature": KEEPER.sign(message).hex()})

    with pytest.raises(ValueError, match=reason):
        read_line(line, index=0, previous=GENESIS, public_key=KEEPER.public_key())


def test_another_key_verifies_nothing(tmp_path: Path) -> None:
    path = log_of(tmp_path)

    with pytest.raises(LogError, match="re-signed") as caught:
        AuditLog.verify(path, STRANGER.public_key())

    assert caught.value.first_bad == 0


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_changed_byte_is_found_in_its_own_line(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    original = _shared_log(tmp_path_factory)
    position = data.draw(st.integers(0, len(original) - 1))
    changed = bytearray(original)
    changed[position] ^= data.draw(st.integers(1, 255))
    path = tmp_path_factory.getbasetemp() / "changed.jsonl"
    path.write_bytes(changed)

    with pytest.raises(LogError) as caught:
        AuditLog.verify(path, KEEPER.public_key())

    assert caught.value.first_bad == original[:position].count(b"\n")


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_any_removed_or_repeated_range_is_found(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    original = _shared_log(tmp_path_factory)
    start = data.draw(st.integers(0, len(original) - 1))
    stop = data.draw(st.integers(start + 1, len(original)))
    repeated = data.draw(st.booleans())
    changed = original[:stop] + original[start:] if repeated else original[:start] + original[stop:]
    path = tmp_path_factory.getbasetemp() / "changed.jsonl"
    path.write_bytes(changed)

    whole_tail_removed = original.startswith(changed) and (not changed or changed.endswith(b"\n"))
    if whole_tail_removed:  # a shorter log is a log: only a head held elsewhere, or the run's end, can tell
        assert AuditLog.verify(path, KEEPER.public_key()).size == changed.count(b"\n")
    else:
        with pytest.raises(LogError):
            AuditLog.verify(path, KEEPER.public_key())


def _shared_log(factory: pytest.TempPathFactory) -> bytes:
    folder = factory.getbasetemp() / "shared"
    return (folder / "log.jsonl" if folder.exists() else log_of(folder)).read_bytes()


@pytest.mark.parametrize("kept", [0.01, 0.5, 0.99])
def test_a_crash_in_mid_write_is_recovered_and_the_log_goes_on(kept: float, tmp_path: Path) -> None:
    path = log_of(tmp_path)
    whole = path.read_bytes()
    last = whole.rstrip(b"\n").rindex(b"\n") + 1
    path.write_bytes(whole[: last + max(1, int(kept * (len(whole) - last)))])

    log = AuditLog.open(tmp_path, KEEPER)
    log.append(round_started(3))

    assert AuditLog.verify(path, KEEPER.public_key()) == log.head
    assert log.head.size == 4


def test_a_torn_line_is_not_verified_as_if_it_were_whole(tmp_path: Path) -> None:
    path = log_of(tmp_path)
    path.write_bytes(path.read_bytes()[:-1])

    with pytest.raises(LogError, match="no end") as caught:
        AuditLog.verify(path, KEEPER.public_key())

    assert caught.value.first_bad == 3


def test_resuming_refuses_a_bad_earlier_line_and_leaves_the_file_alone(tmp_path: Path) -> None:
    path = log_of(tmp_path)
    bad = path.read_bytes().replace(b'"round":1', b'"round":7') + b'{"torn'
    path.write_bytes(bad)

    with pytest.raises(LogError, match="signature"):
        AuditLog.open(tmp_path, KEEPER)

    assert path.read_bytes() == bad


def test_resuming_goes_on_from_the_same_head(tmp_path: Path) -> None:
    log = AuditLog.create(tmp_path, KEEPER)
    log.append(round_started(0))

    assert AuditLog.open(tmp_path, KEEPER).head == log.head


def test_only_the_keeper_may_resume(tmp_path: Path) -> None:
    log_of(tmp_path)

    with pytest.raises(RunError, match="another key"):
        AuditLog.open(tmp_path, STRANGER)


def test_a_log_is_never_begun_twice(tmp_path: Path) -> None:
    log_of(tmp_path)

    with pytest.raises(RunError, match="already exists"):
        AuditLog.create(tmp_path, KEEPER)


def test_a_second_writer_is_noticed_before_anything_is_written(tmp_path: Path) -> None:
    first = AuditLog.create(tmp_path, KEEPER)
    second = AuditLog.open(tmp_path, KEEPER)
    first.append(round_started(0))

    with pytest.raises(RunError, match="another process"):
        second.append(round_started(0))

    assert AuditLog.verify(tmp_path / "log.jsonl", KEEPER.public_key()) == first.head


def test_a_full_disk_leaves_the_log_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog.create(tmp_path, KEEPER)
    log.append(round_started(0))
    write = os.write

    def write_ten_bytes(descriptor: int, data: bytes) -> int:
        return write(descriptor, data[:10])

    monkeypatch.setattr(os, "write", write_ten_bytes)

    with pytest.raises(RunError, match="could not be written"):
        log.append(round_started(1))
    monkeypatch.undo()
    log.append(round_started(1))

    assert log.head.size == 2
    assert AuditLog.verify(tmp_path / "log.jsonl", KEEPER.public_key()) == log.head


def test_an_entry_is_on_the_disk_before_append_returns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog.create(tmp_path, KEEPER)
    synced: list[int] = []

    def note_size(descriptor: int) -> None:
        synced.append(os.fstat(descriptor).st_size)

    monkeypatch.setattr(os, "fsync", note_size)

    log.append(RunFinished(summary_digest=DIGEST))

    assert synced == [(tmp_path / "log.jsonl").stat().st_size]


def test_the_public_key_file_is_hexadecimal_and_nothing_else(tmp_path: Path) -> None:
    log_of(tmp_path)
    key = tmp_path / "log.pub"
    assert bytes.fromhex(key.read_text()) == KEEPER.public_key().public_bytes_raw()
    assert read_public_key(key).public_bytes_raw() == KEEPER.public_key().public_bytes_raw()

    key.write_text("00")

    with pytest.raises(LogError, match="not an Ed25519 public key"):
        read_public_key(key)


def test_a_missing_log_is_said_to_be_missing(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="cannot be read"):
        AuditLog.verify(tmp_path / "log.jsonl", KEEPER.public_key())
    with pytest.raises(RunError, match="cannot be read"):
        read_public_key(tmp_path / "log.pub")


def test_no_private_key_is_left_in_the_folder(tmp_path: Path) -> None:
    AuditLog.create(tmp_path, KEEPER).append(PartyDropped(round=1, party="north", reason_code="timeout"))

    written = b"".join(path.read_bytes() for path in tmp_path.iterdir())

    secret = KEEPER.private_bytes_raw()
    assert secret not in written
    assert secret.hex().encode() not in written
