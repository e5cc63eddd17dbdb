"""The verifier in JavaScript agrees with ours: on the known answers, on whole logs, and on each class of tampering."""

import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedcollm_crypto import canonical
from fedcollm_crypto.bounds import MAX_DEPTH, MAX_VALUES
from fedcollm_crypto.merkle import leaf_hash
from fedcollm_crypto.note import MAX_SIGNATURES
from fedcollm_secure.audit_log.events import Event, RunFinished, SumAgreed
from fedcollm_secure.audit_log.log_entry import MAX_LINE_BYTES, write_line
from fedcollm_secure.operations.verify_command import verify_log
from tests.second_verifier import NODE, ROOT, VERIFIER, needs_node, node
from tests.witnessed_log import DIGEST, attempt_lines, attempt_started, lost_sum, round_closed, without_a_sum

pytestmark = needs_node

Begin = Callable[..., Any]


@pytest.fixture(scope="module")
def whole(witnessed: Begin, tmp_path_factory: pytest.TempPathFactory) -> Path:
    log = witnessed(tmp_path_factory.mktemp("whole") / "run").extend(1, 2, 3).extend(4)
    log.log.append(RunFinished(summary_digest="ab" * 32))
    log.attest()
    return log.folder


@pytest.fixture
def audit(whole: Path, tmp_path: Path) -> Path:
    return shutil.copytree(whole / "audit", tmp_path / "audit")


def test_the_known_answers_are_its_own() -> None:
    code, found = node("vectors", ROOT / "tests" / "vectors")

    assert (code, found["verified"]) == (0, True)
    assert found["entries"] > 100


def test_a_whole_log_verifies_to_the_same_root(audit: Path) -> None:
    code, found = node(audit)
    ours, ours_found = verify_log(audit / "log.jsonl", None, None)

    assert code == ours == 0
    for name in ("verified", "entries", "root", "signed", "cosigned"):
        assert found[name] == ours_found[name]


def test_a_post_quantum_log_verifies_and_what_was_not_checked_is_said(witnessed: Begin, tmp_path: Path) -> None:
    log = witnessed(tmp_path / "run", post_quantum=True).extend(1)
    log.log.append(RunFinished(summary_digest="ab" * 32))
    log.attest()

    assert node(log.path.parent)[1]["reason"] == "ML-DSA-44 signatures were not checked"
    assert node(log.path.parent)[0] == verify_log(log.path, None, None)[0] == 0


def lines_of(audit: Path) -> list[bytes]:
    return (audit / "log.jsonl").read_bytes().split(b"\n")[:-1]


def rewrite(audit: Path, lines: list[bytes]) -> None:
    (audit / "log.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def write_in_capitals(path: Path, field: str) -> None:
    """Spell one signature of a roster otherwise; whoever reads digits without care finds the same bytes."""
    document = json.loads(path.read_text(encoding="utf-8"))
    given = document[field]
    signature = given if isinstance(given, str) else min(given.values())
    edit(path, signature, signature.upper())


def forge_a_tail(audit: Path) -> None:
    lines = lines_of(audit)
    last = RunFinished(summary_digest="cd" * 32)
    rewrite(audit, [*lines[:-1], write_line(last, index=5, previous=leaf_hash(lines[-2]), time="2026-01-31T12:00:00Z")])


def put_before(path: Path, data: bytes) -> None:
    path.write_bytes(data + path.read_bytes())


def add_to_roster(audit: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change what nobody signed of a roster."""
    signed = json.loads((audit / "roster.json").read_bytes())
    change(signed)
    (audit / "roster.json").write_bytes(canonical.encode(signed))


def sign_too_often(audit: Path) -> None:
    """Put strangers' lines under a checkpoint, where no roster says who signs."""
    (audit / "roster.json").unlink()
    path = audit / "checkpoints/6.txt"
    path.write_text(path.read_text() + "".join(f"— nobody-{number} AAAAAAA=\n" for number in range(MAX_SIGNATURES)))


TAMPERINGS: dict[str, Callable[[Path], object]] = {
    "flipped": lambda audit: edit(audit / "log.jsonl", '"attempt":2', '"attempt":3'),
    "deleted": lambda audit: rewrite(audit, [*lines_of(audit)[:2], *lines_of(audit)[3:]]),
    "reordered": lambda audit: rewrite(audit, [lines_of(audit)[i] for i in (0, 2, 1, 3, 4, 5)]),
    "repeated": lambda audit: rewrite(audit, [lines_of(audit)[i] for i in (0, 1, 1, 2, 3, 4, 5)]),
    "truncated": lambda audit: rewrite(audit, lines_of(audit)[:-1]),
    "torn": lambda audit: (audit / "log.jsonl").write_bytes((audit / "log.jsonl").read_bytes()[:-5]),
    "rewritten": forge_a_tail,
    "spelt differently": lambda audit: edit(audit / "log.jsonl", '"index":3', '"index": 3'),
    "of another version": lambda audit: edit(audit / "log.jsonl", '"version":3', '"version":2'),
    "another event": lambda audit: edit(audit / "log.jsonl", "round_started", "round_stirred"),
    "another root": lambda audit: edit(audit / "checkpoints/6.txt", "\n6\n", "\n5\n"),
    "a forged cosignature": lambda audit: edit(audit / "checkpoints/6.txt", "— north ", "— south "),
    "another keeper": lambda audit: (audit / "log.pub").write_text("ab" * 32),
    "no quorum": lambda audit: [edit(audit / f"checkpoints/{n}.txt", "— north ", "— nobody ") for n in (4, 5, 6)],
    "no checkpoint": lambda audit: (audit / "checkpoints/6.txt").unlink(),
    "no roster": lambda audit: (audit / "roster.json").unlink(),
    "a root's signature in capitals": lambda audit: write_in_capitals(audit / "roster.json", "root_signature"),
    "a silo's signature in capitals": lambda audit: write_in_capitals(audit / "roster.json", "countersignatures"),
    "a proof of possession in capitals": lambda audit: write_in_capitals(audit / "roster.json", "possession"),
    "a byte order mark before a checkpoint": lambda audit: put_before(audit / "checkpoints/6.txt", b"\xef\xbb\xbf"),
    "a field added to the roster": lambda audit: add_to_roster(audit, lambda signed: signed.update(more=1)),
    "a stranger's proof of possession": lambda audit: add_to_roster(
        audit, lambda signed: signed["possession"].update(stranger="00" * 64)
    ),
    "another policy": lambda audit: edit(audit / "roster.json", '"colluding":1', '"colluding":0'),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_both_find_the_same_tampering_at_the_same_entry(name: str, audit: Path) -> None:
    TAMPERINGS[name](audit)

    code, found = node(audit)
    ours, ours_found = verify_log(audit / "log.jsonl", None, None)

    assert ours in (1, 3)
    assert (code, found["first_bad"]) == (ours, ours_found["first_bad"]), (found["reason"], ours_found["reason"])


def replace_line(audit: Path, line: bytes) -> None:
    lines = lines_of(audit)
    rewrite(audit, [*lines[:2], line, *lines[3:]])


LIMITS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a long line": (
        lambda audit: replace_line(audit, b'{"a":"' + b"x" * MAX_LINE_BYTES + b'"}'),
        "longer than 1048576",
    ),
    "a deep line": (lambda audit: replace_line(audit, b"[" * (MAX_DEPTH + 1) + b"]" * (MAX_DEPTH + 1)), "16 deep"),
    "a full line": (lambda audit: replace_line(audit, b"[" + b"0," * MAX_VALUES + b"0]"), "longer or fuller than"),
    "half a letter": (lambda audit: replace_line(audit, b'{"a":"\\ud800"}'), "a lone surrogate is no text"),
    "half a letter in a key": (lambda audit: replace_line(audit, b'{"\\ud800":1}'), "a lone surrogate is no text"),
    "many signatures": (sign_too_often, "at most 256 signatures"),
}


@pytest.mark.parametrize("name", LIMITS)
def test_both_have_the_same_limits(name: str, audit: Path) -> None:
    tamper, reason = LIMITS[name]
    tamper(audit)

    code, found = node(audit)
    ours, ours_found = verify_log(audit / "log.jsonl", None, None)
    assert (code, found["first_bad"]) == (ours, ours_found["first_bad"]), (found["reason"], ours_found["reason"])
    assert (code, reason in found["reason"]) == (1, True), found["reason"]


def test_both_agree_on_random_changes(audit: Path) -> None:
    original, draw = (audit / "log.jsonl").read_bytes(), np.random.default_rng(11)
    for _ in range(12):
        changed = bytearray(original)
        changed[draw.integers(len(changed))] ^= 1 << int(draw.integers(8))
        (audit / "log.jsonl").write_bytes(changed)

        code, found = node(audit)
        ours, ours_found = verify_log(audit / "log.jsonl", None, None)

        assert code == ours == 1
        # An event's fields are ours alone to judge: the second verifier then sees the broken chain behind it.
        assert abs(found["first_bad"] - ours_found["first_bad"]) <= 1


def test_both_find_a_round_that_is_closed_twice(witnessed: Begin, tmp_path: Path) -> None:
    log = witnessed(tmp_path / "run")
    for event in (*without_a_sum(1), round_closed(1)):
        log.log.append(event)
    log.attest()

    code, found = node(tmp_path / "run")
    ours, ours_found = verify_log(log.path, None, None)
    assert (code, found["first_bad"]) == (ours, ours_found["first_bad"]) == (1, 4)


BEFORE = attempt_lines()[:-2]  # up to where a sum may be agreed to
AGREED = SumAgreed(round=1, attempt=1, linear_pass=0, adapter_digest=DIGEST, survivors=("north", "south"))
SAID_OF_SUMS: dict[str, tuple[list[Event], int | None]] = {
    "as it was": ([AGREED], None),
    "two passes": ([AGREED, *attempt_lines(attempt=2, linear_pass=1)], None),
    "two passes in one attempt": ([AGREED, replace(AGREED, linear_pass=1)], 1),
    "twice": ([AGREED, AGREED], 1),
    "twice, over others": ([AGREED, replace(AGREED, survivors=("north",))], 1),
    "of an attempt to come": ([replace(AGREED, attempt=2)], 0),
    "of another round": ([replace(AGREED, round=2)], 0),
    "from another adapter": ([replace(AGREED, adapter_digest="cd" * 32)], 0),
    "over a silo that was not asked": ([replace(AGREED, survivors=("north", "west"))], 0),
    "begun from two adapters": (
        [replace(attempt_started(2), adapter_digest="cd" * 32), lost_sum(1), round_closed(1)],
        2,
    ),
    "begun twice": ([attempt_started(2), lost_sum(1), round_closed(1)], None),
}


@pytest.mark.parametrize("name", SAID_OF_SUMS)
def test_both_find_what_no_silos_can_have_agreed_to(name: str, witnessed: Begin, tmp_path: Path) -> None:
    log, (events, first_bad) = witnessed(tmp_path / "run"), SAID_OF_SUMS[name]
    for event in (*BEFORE, *events):
        log.log.append(event)
    log.attest()
    place = None if first_bad is None else 1 + len(BEFORE) + first_bad

    assert node(tmp_path / "run")[1].get("first_bad") == place
    assert verify_log(log.path, None, None)[1].get("first_bad") == place


def test_a_path_that_is_not_there_or_a_bad_key_is_a_usage_error(audit: Path) -> None:
    for arguments in (("nowhere",), (audit, "--key", "xyz"), ()):
        command = [str(NODE), str(VERIFIER), *map(str, arguments)]
        assert subprocess.run(command, capture_output=True, check=False).returncode == 2
