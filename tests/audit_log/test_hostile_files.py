"""Folders that are links, and names and texts that a terminal would act on: both verifiers see through them."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedcollm_crypto import canonical
from fedcollm_secure import cli
from fedcollm_secure.audit_log.events import RunFinished
from fedcollm_secure.errors import LogError
from fedcollm_secure.operations.verify_command import verify_log
from tests.second_verifier import NODE, VERIFIER, needs_node, node

pytestmark = needs_node

Begin = Callable[..., Any]
CODES = "\x1b]0;a title\x07\x1b[31mred\x9b2J\u202eback\u2028"


@pytest.fixture
def audit(witnessed: Begin, tmp_path: Path) -> Path:
    log = witnessed(tmp_path / "run").extend(1, 2)
    log.log.append(RunFinished(summary_digest="ab" * 32))
    log.attest()
    return tmp_path / "run" / "audit"


def link(folder: Path) -> None:
    """Move a folder elsewhere, and lay a link to it in its place."""
    elsewhere = folder.parent.parent / f"{folder.name}-elsewhere"
    folder.rename(elsewhere)
    folder.symlink_to(elsewhere, target_is_directory=True)


@pytest.mark.parametrize("name", ["manifests", "checkpoints", "environments", "."])
@pytest.mark.parametrize("behind", ["", "/"])
def test_a_folder_that_is_a_link_is_refused(name: str, behind: str, audit: Path) -> None:
    assert verify_log(audit / "log.jsonl", None, None)[0] == node(audit)[0] == 0
    link(audit / name if name != "." else audit)

    code, found = verify_log(audit / "log.jsonl", None, None)
    assert (code, node(f"{audit}{behind}")[0]) == (1, 1), found
    assert "is a link" in str(found["reason"])


def speak(audit: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a line as a keeper would who has the terminal in mind, and not its chain."""
    lines = (audit / "log.jsonl").read_bytes().splitlines()
    body: Any = canonical.decode(lines[1])
    change(body)
    lines[1] = canonical.encode(body)
    (audit / "log.jsonl").write_bytes(b"\n".join(lines) + b"\n")


SPOKEN: dict[str, Callable[[Path], object]] = {
    "an index": lambda audit: speak(audit, lambda body: body.update(index=CODES)),
    "a time": lambda audit: speak(audit, lambda body: body.update(time=CODES)),
    "a version": lambda audit: speak(audit, lambda body: body.update(version=CODES)),
    "an event's field": lambda audit: speak(audit, lambda body: body["event"].update({CODES: 1})),
    "a file's name": lambda audit: (audit / "proofs").mkdir() or (audit / "proofs" / CODES).touch(),
    "a FIFO's name": lambda audit: os.mkfifo(audit / CODES),
    "a folder's name": lambda audit: (audit / CODES).symlink_to("nowhere"),
    "a checkpoint's name": lambda audit: (audit / "checkpoints" / f"{CODES}.txt").write_bytes(b"x"),
}


def is_plain(text: str) -> bool:
    return all(letter.isprintable() for line in text.split("\n") for letter in line)


@pytest.mark.parametrize("flag", [[], ["--json"]])
@pytest.mark.parametrize("name", SPOKEN)
def test_nothing_that_a_terminal_would_act_on_is_printed(
    name: str, flag: list[str], audit: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    SPOKEN[name](audit)

    ours = cli.main(["verify", "log", str(audit / "log.jsonl"), *flag])
    said = capsys.readouterr()
    done = subprocess.run([str(NODE), str(VERIFIER), str(audit), *flag], capture_output=True, text=True, check=False)
    assert (ours, done.returncode) == (1, 1)
    assert is_plain(said.out + said.err), (said.out, said.err)
    assert is_plain(done.stdout + done.stderr), (done.stdout, done.stderr)


def test_a_reason_can_be_printed_whatever_is_in_it() -> None:
    assert is_plain(str(LogError(CODES, 3)))
