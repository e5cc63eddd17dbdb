"""Whatever lies where evidence should, each command ends with a sentence and 0 to 3: no hang and no traceback."""

import os
import shutil
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fedcollm_secure import cli
from fedcollm_secure.audit_log.journal import JOURNAL_NAME
from fedcollm_secure.config import parse
from fedcollm_secure.operations.evidence.pack import write_pack
from fedcollm_secure.operations.run_command import run
from tests.end_to_end.conftest import Quiet

Make = Callable[..., dict[str, object]]
SECONDS = 20
GIBIBYTE = 1 << 30


class Hung(BaseException):
    """Not an Exception, so that nothing but the test can catch it."""


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    """Interrupt what waits on a FIFO or reads a device without an end."""

    def stop(*_: object) -> None:
        raise Hung

    before = signal.signal(signal.SIGALRM, stop)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def original(private: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a finished, archived `run` and its `pack`, made once; nobody changes them."""
    once = tmp_path_factory.getbasetemp() / "hostile"
    if not once.exists():
        aggregation: dict[str, object] = {"masked": {}}
        tree = private(rounds=1, aggregation=aggregation, audit={"archive": True}, evaluate={"own": 0.2})
        run(parse(tree), once / "run", resuming=False, show=Quiet())
        write_pack(once / "run", once / "pack")
    return once


@pytest.fixture
def folder(original: Path, tmp_path: Path) -> Path:
    return shutil.copytree(original, tmp_path / "copy")


def fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def link_to(target: str) -> Callable[[Path], None]:
    def replace(path: Path) -> None:
        path.unlink()
        path.symlink_to(target)

    return replace


def link_outside(path: Path) -> None:
    """Leave the very same bytes, elsewhere."""
    outside = path.rename(Path(f"/tmp/{os.getpid()}-{path.name}"))  # noqa: S108 - outside of every run
    path.symlink_to(outside)


def a_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def a_socket(path: Path) -> None:
    path.unlink()
    here = Path.cwd()
    os.chdir(path.parent)  # a socket's path has at most 108 bytes
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(path.name)
    finally:
        os.chdir(here)


def sparse(path: Path) -> None:
    path.write_bytes(b"{}\n")
    os.truncate(path, 10 * GIBIBYTE)


FAULTS: dict[str, Callable[[Path], object]] = {
    "FIFO": fifo,
    "link to /dev/zero": link_to("/dev/zero"),
    "link to nothing": link_to("nowhere"),
    "link to itself": lambda path: link_to(path.name)(path),
    "link outside": link_outside,
    "folder": a_folder,
    "socket": a_socket,
    "gone": lambda path: path.unlink(),
    "empty": lambda path: path.write_bytes(b""),
    "NaN": lambda path: path.write_text('{"a":NaN,"format":"fedcollm-evidence/1","files":{"a":NaN},"head":NaN}\n'),
    "infinite": lambda path: path.write_text('{"rounds_done":1e999,"rounds":' + "9" * 4000 + "}\n"),
    "not UTF-8": lambda path: path.write_bytes(b'{"a":"\xff\xfe"}\n\n\x80 x\n'),
    "10 GiB sparse": sparse,
    "deep": lambda path: path.write_bytes(b"[" * 100_000 + b"]" * 100_000 + b"\n"),
    "deep YAML": lambda path: path.write_bytes(b"a: " + b"{a: " * 3000 + b"}" * 3000 + b"\n"),
    "lone surrogate": lambda path: path.write_text('{"name":"\\ud800","round":1,"rounds":1}\n'),
    "null": lambda path: path.write_text("null\n"),
    "a date that is none": lambda path: path.write_text("name: 2020-13-45\n"),
    "zeros": lambda path: path.write_bytes(bytes(4096)),
}
if os.geteuid():  # root reads every file
    FAULTS["unreadable"] = lambda path: path.chmod(0)
PLACES = (
    "run/config.yaml",
    "run/summary.json",
    "run/metrics.jsonl",
    "run/audit/log.jsonl",
    "run/audit/log.pub",
    "run/audit/roster.json",
    "run/audit/checkpoints/1.txt",
    "run/audit/manifests/1-1.json",
    "run/adapters/slm/adapter_model.safetensors",
    "run/adapters/llm/adapter_config.json",
    "run/silos/silo-1/ledger.jsonl",
    "run/silos/silo-1/journal.jsonl",
    "run/archive/1-1/manifest.json",
    "run/archive/1-1/adapter.bin",
    "run/archive/1-1/3/silo-2.bin",
    "pack/evidence.json",
    "pack/sbom.json",
    "pack/summary.json",
    "pack/proofs/0.tlog-proof",
    "pack/audit/log.jsonl",
)
NOT_VOUCHED_FOR = {"run/metrics.jsonl", "run/archive/1-1/manifest.json", "run/archive/1-1/adapter.bin"}
NOT_VOUCHED_FOR |= {"run/archive/1-1/3/silo-2.bin"}


def commands(folder: Path, place: str) -> Iterator[list[str]]:
    if place.startswith("pack"):
        yield ["verify", str(folder / "pack")]
        yield ["verify", "inclusion", str(folder / "pack/proofs/0.tlog-proof"), str(folder / "pack")]
        return
    run_folder, ledger = folder / "run", folder / "run/silos/silo-1/ledger.jsonl"
    yield ["verify", str(run_folder)]
    yield ["verify", "log", str(run_folder / "audit/log.jsonl")]
    yield ["verify", "round", "1", str(run_folder)]
    yield ["verify", "budget", str(ledger)]
    yield ["verify", "equivocation", str(run_folder), str(run_folder / "silos/silo-1/journal.jsonl")]
    yield ["verify", str(run_folder), "--key", str(run_folder / "audit/log.pub")]
    yield ["budget", str(ledger)]
    if place in ("run/config.yaml", "run/summary.json", "run/metrics.jsonl", "run/audit/log.jsonl"):
        yield ["report", str(run_folder), "--out", str(folder / "page.html")]
        shutil.rmtree(folder / "another", ignore_errors=True)
        yield ["report", str(run_folder), "--evidence", str(folder / "another")]
        yield ["gain", str(run_folder), "stranger"]


def outcome(words: list[str], capsys: pytest.CaptureFixture[str]) -> int:
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        code = cli.main(words)
    except Hung:
        pytest.fail(f"{' '.join(words)} hangs")
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
    said = "".join(capsys.readouterr())
    assert code in (0, 1, 2, 3), words
    assert said.strip(), words
    assert "Traceback" not in said
    return code


@pytest.mark.parametrize("place", PLACES)
def test_no_command_hangs_or_breaks_on_anything_that_lies_in_place_of_evidence(
    place: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target, kept = folder / place, folder / "kept"
    shutil.copyfile(target, kept)
    for name, fault in FAULTS.items():
        fault(target)
        codes = [outcome(words, capsys) for words in commands(folder, place)]
        unplain = name in ("FIFO", "socket") or name.startswith("link")
        stays_home = place.endswith(JOURNAL_NAME) and name in ("gone", "empty", "zeros")  # a torn line
        if unplain or not (place in NOT_VOUCHED_FOR or stays_home):
            assert codes[0] in (1, 3), (place, name, codes)
        if unplain:
            assert codes[0] == 1, (place, name)
        _restore(target, kept)
    assert outcome(next(commands(folder, place)), capsys) == 0  # it was the fault that was found


def _restore(target: Path, kept: Path) -> None:
    if target.is_symlink() and target.exists() and target.resolve().parent == Path("/tmp"):  # noqa: S108
        target.resolve().unlink()
    if target.is_dir() and not target.is_symlink():
        target.rmdir()
    target.unlink(missing_ok=True)
    shutil.copyfile(kept, target)


@pytest.mark.parametrize(
    "place", ["run/audit", "run/audit/checkpoints", "run/silos", "run/adapters/slm", "pack/proofs"]
)
@pytest.mark.parametrize("what", ["file", "link", "FIFO"])
def test_a_folder_that_is_none_is_found(
    place: str, what: str, folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    moved = (folder / place).rename(tmp_path / "elsewhere")
    match what:
        case "file":
            (folder / place).write_bytes(b"")
        case "link":
            (folder / place).symlink_to(moved)
        case _:
            os.mkfifo(folder / place)

    codes = [outcome(words, capsys) for words in commands(folder, place)]

    assert codes[0] == 1


def test_names_that_cannot_be_printed_are_spelt_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = os.fsdecode(os.fsencode(folder / "run/adapters/slm") + b"/\xff\x1b[31m\n")
    Path(odd).write_bytes(b"")

    assert outcome(["verify", str(folder / "run")], capsys) == 1
    assert outcome(["verify", str(folder / "run/\x1b[31m")], capsys) == 2


def test_a_tree_without_an_end_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "run" / Path(*["deep"] * 300)).mkdir(parents=True)

    assert outcome(["verify", str(folder / "run")], capsys) == 1


def test_a_page_is_not_written_through_what_lies_in_its_place(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    os.mkfifo(folder / "run" / ".report.html.partial")
    (folder / "run" / "report.html").unlink(missing_ok=True)
    (folder / "run" / "report.html").symlink_to(folder / "outside")

    assert outcome(["report", str(folder / "run")], capsys) in (0, 1)
    assert not (folder / "outside").exists()
