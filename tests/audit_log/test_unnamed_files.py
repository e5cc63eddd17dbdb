"""Files that no entry names: both verifiers refuse them, but for those that a crash leaves, which they name."""

from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from fedcollm_secure.audit_log.events import RunFinished
from fedcollm_secure.audit_log.log import read_log
from fedcollm_secure.audit_log.unnamed_files import clear_unnamed
from fedcollm_secure.operations.verify_command import verify_log
from tests.second_verifier import needs_node, node

pytestmark = needs_node

Begin = Callable[..., Any]
DATA, DIGEST = b"{}", sha256(b"{}").hexdigest()

LEFT: dict[str, tuple[str, bytes]] = {
    "a statement": (f"statements/{DIGEST}.json", DATA),
    "a proof": (f"proofs/{DIGEST}.json", DATA),
    "a list": (f"environments/{DIGEST}.txt", DATA),
    "the next manifest": ("manifests/1-3.json", b'{"attempt":3,"round":1}'),
    "a part of a manifest": ("manifests/.1-3.json.partial", b""),
    "a part of a statement": (f"statements/.{DIGEST}.json.partial", b"{"),
    "a part of a proof": (f"proofs/.{DIGEST}.json.partial", b"{"),
    "a part of a list": (f"environments/.{DIGEST}.txt.partial", b"{"),
    "a part of a checkpoint": ("checkpoints/.3.txt.partial", b"fed"),
}
STRANGE: dict[str, tuple[str, bytes]] = {
    "a statement of another name": ("statements/x.json", DATA),
    "a statement of another digest": (f"statements/{'ab' * 32}.json", DATA),
    "a statement with another end": (f"statements/{DIGEST}.txt", DATA),
    "a proof of another name": ("proofs/x.json", DATA),
    "a list with another end": (f"environments/{DIGEST}.json", DATA),
    "a manifest of a round to come": ("manifests/7-1.json", b'{"attempt":1,"round":7}'),
    "a manifest of the attempt after the next": ("manifests/1-4.json", b'{"attempt":4,"round":1}'),
    "a manifest under another name": ("manifests/1-3.json", b'{"attempt":1,"round":1}'),
    "a manifest that is none": ("manifests/1-3.json", b"[]"),
    "a checkpoint with another end": ("checkpoints/99.note", b"x"),
    "a checkpoint of another name": ("checkpoints/03.txt~", b"x"),
    "a hidden file": ("manifests/.1-3.json", b""),
}


@pytest.fixture
def log(witnessed: Begin, tmp_path: Path) -> Any:
    """Return a log with two attempts that did not finish."""
    return witnessed(tmp_path / "run").extend(1, 2)


def lay(log: Any, place: str, data: bytes) -> Path:
    path: Path = log.path.parent / place
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(data)
    return path


def both(log: Any) -> tuple[int, int]:
    """Return what the two verifiers say of it."""
    return verify_log(log.path, None, None)[0], node(log.path.parent)[0]


@pytest.mark.parametrize("name", LEFT)
def test_what_a_crash_leaves_is_missing_evidence_and_goes_with_a_resumed_run(name: str, log: Any) -> None:
    path = lay(log, *LEFT[name])
    code, found = verify_log(log.path, None, None)

    assert (code, node(log.path.parent)[0]) == (3, 3), found["reason"]
    assert f"{LEFT[name][0]} is named by no entry" in str(found["reason"])
    assert f"{LEFT[name][0]} is named by no entry" in node(log.path.parent)[1]["reason"]

    before = {one for one in log.path.parent.rglob("*") if one.is_file()}
    clear_unnamed(log.path.parent, [entry.event for entry in read_log(log.path).entries])
    assert before - {one for one in log.path.parent.rglob("*") if one.is_file()} == {path}


@pytest.mark.parametrize("name", STRANGE)
def test_what_no_crash_leaves_is_refused(name: str, log: Any) -> None:
    lay(log, *STRANGE[name])

    assert both(log) == (1, 1), verify_log(log.path, None, None)


@pytest.mark.parametrize("name", {**LEFT, **STRANGE})
def test_in_a_run_that_finished_nothing_is_left(name: str, log: Any) -> None:
    log.log.append(RunFinished(summary_digest=DIGEST))
    log.attest()
    assert both(log) == (0, 0)
    lay(log, *{**LEFT, **STRANGE}[name])

    assert both(log) == (1, 1), verify_log(log.path, None, None)


def test_a_part_of_the_last_checkpoint_may_be_left_behind_the_last_entry(log: Any) -> None:
    log.log.append(RunFinished(summary_digest=DIGEST))
    log.attest()
    lay(log, f"checkpoints/.{log.log.head.size}.txt.partial", b"fed")

    assert both(log) == (3, 3)
