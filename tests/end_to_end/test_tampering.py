"""Of random changes under `audit/`, both verifiers find each one, or it changed nothing that anybody reads."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.note import Note
from fedcollm_secure.config import parse
from fedcollm_secure.operations.run_command import run
from fedcollm_secure.operations.verify_command import verify_directory
from tests.end_to_end.conftest import Quiet

Make = Callable[..., dict[str, object]]
ROOT = Path(__file__).parent.parent.parent
VERIFIER = ROOT / "fedcollm_secure" / "audit_log" / "verifier" / "verify.mjs"
NODE = shutil.which("node")
TAMPERINGS, QUORUM = int(os.environ.get("TAMPERINGS", "100")), 3


@pytest.fixture
def finished(tree: Make, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    once = tmp_path_factory.getbasetemp() / "tampered"
    if not once.exists():
        run(parse(tree(aggregation={"masked": {}})), once, resuming=False, show=Quiet())
    return shutil.copytree(once, tmp_path / "run")


def verdicts(folder: Path) -> tuple[int, int]:
    """Return the exit codes of our verifier and of the second one (of ours twice, where there is no Node.js)."""
    ours = verify_directory(folder, None, None)[0]
    if NODE is None:
        return ours, ours
    done = subprocess.run([NODE, str(VERIFIER), str(folder)], capture_output=True, check=False)
    return ours, done.returncode


def lines_of(data: bytes) -> list[bytes]:
    return data.splitlines(keepends=True)


def flip(data: bytes, draw: np.random.Generator) -> bytes:
    changed = bytearray(data)
    changed[draw.integers(len(data))] ^= 1 << int(draw.integers(8))
    return bytes(changed)


def drop(data: bytes, draw: np.random.Generator) -> bytes:
    lines = lines_of(data)
    del lines[draw.integers(len(lines))]
    return b"".join(lines)


def cut(data: bytes, draw: np.random.Generator) -> bytes:
    return data[: draw.integers(len(data))]


def swap(data: bytes, draw: np.random.Generator) -> bytes:
    lines = lines_of(data)
    one, other = draw.integers(len(lines), size=2)
    lines[one], lines[other] = lines[other], lines[one]
    return b"".join(lines)


def repeat(data: bytes, draw: np.random.Generator) -> bytes:
    lines = lines_of(data)
    return b"".join([*lines, lines[draw.integers(len(lines))]])


CHANGES = (flip, flip, flip, drop, cut, swap, repeat)


def note_of(data: bytes) -> Note | None:
    try:
        return Note.decode(data.decode())
    except (ProtocolError, UnicodeDecodeError):
        return None


def says_the_same(path: Path, before: bytes, after: bytes) -> bool:
    """Say whether nothing was changed but the order of signature lines, which nothing hangs on."""
    one, other = note_of(before), note_of(after)
    if before == after or path.suffix != ".txt" or one is None or other is None:
        return before == after
    return one.text == other.text and sorted(map(str, one.signatures)) == sorted(map(str, other.signatures))


def is_residue(path: Path, before: bytes, after: bytes, last: Path) -> bool:
    """Say whether whole cosignatures of the very last head are gone, which no entry of the log states yet."""
    one, other = note_of(before), note_of(after)
    if path != last or one is None or other is None or one.text != other.text:
        return False
    keeper, *silos = one.signatures
    kept = set(other.signatures) == {keeper, *(line for line in silos if line in other.signatures)}
    return kept and len(set(other.signatures)) == len(other.signatures) > QUORUM


def tampered(folder: Path, seed: int) -> tuple[Path, bytes, bytes]:
    """Change one file under `audit/` and return it, with its bytes before and after."""
    draw = np.random.default_rng(seed)
    files = sorted(path for path in (folder / "audit").rglob("*") if path.is_file())
    path = files[draw.integers(len(files))]
    before = path.read_bytes()
    after = CHANGES[draw.integers(len(CHANGES))](before, draw)
    path.write_bytes(after)
    return path, before, after


def test_each_random_tampering_is_found_by_both_verifiers_or_changes_nothing(finished: Path) -> None:
    last = max((finished / "audit/checkpoints").iterdir(), key=lambda path: int(path.stem))
    assert verdicts(finished) == (0, 0)
    found, unseen = 0, 0
    for seed in range(TAMPERINGS):
        path, before, after = tampered(finished, seed)
        codes = verdicts(finished)
        path.write_bytes(before)
        if says_the_same(path, before, after) or is_residue(path, before, after, last):
            assert codes == (0, 0), (seed, path.name, codes)
            unseen += not says_the_same(path, before, after)
        else:
            assert set(codes) <= {1, 3}, (seed, path.name, codes)
            found += 1
    assert found > 0.8 * TAMPERINGS
    assert unseen < 0.05 * TAMPERINGS  # whole cosignatures of the last head, beyond the quorum


def signature_lines(finished: Path) -> list[tuple[Path, int]]:
    notes = sorted((finished / "audit/checkpoints").iterdir(), key=lambda path: int(path.stem))
    return [(path, place) for path in notes for place in range(4, len(lines_of(path.read_bytes())))]


def test_no_cosignature_that_the_log_speaks_of_can_be_taken_away_changed_or_given_another_name(finished: Path) -> None:
    places = signature_lines(finished)
    *stated, last = sorted({path for path, _ in places}, key=lambda path: int(path.stem))
    assert len(stated) == 2
    for path, place in places:
        before = path.read_bytes()
        lines = lines_of(before)
        renamed = lines[place].replace("— ".encode(), "— x".encode())
        for changed in ([], [renamed], [lines[place], lines[place]], [lines[place][:-9] + b"AAAAAAA=\n"]):
            path.write_bytes(b"".join([*lines[:place], *changed, *lines[place + 1 :]]))
            codes = verdicts(finished)
            unseen = path == last and not changed and b"silo-" in lines[place]
            assert codes == ((0, 0) if unseen else (1, 1)), (path.name, place, changed, codes)
        path.write_bytes(before)


def test_a_checkpoint_that_the_log_speaks_of_cannot_be_taken_away(finished: Path) -> None:
    for path in sorted((finished / "audit/checkpoints").iterdir()):
        before = path.read_bytes()
        path.unlink()
        assert set(verdicts(finished)) <= {1, 3}, path.name
        path.write_bytes(before)
