"""The evidence pack checks on another machine with one command, and shows whatever was changed in it."""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from fedcollm_secure.config import parse
from fedcollm_secure.errors import LogError, RunError
from fedcollm_secure.operations.evidence.pack import write_pack
from fedcollm_secure.operations.evidence.pack_verification import verify_pack
from fedcollm_secure.operations.evidence.sbom import bill_of_materials
from fedcollm_secure.operations.run_command import run
from tests.end_to_end.conftest import Quiet

Make = Callable[..., dict[str, object]]
NODE = shutil.which("node")


@pytest.fixture
def finished(private: Make, tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    once = tmp_path_factory.getbasetemp() / "evident"
    if not once.exists():
        run(parse(private(rounds=1, aggregation={"masked": {}})), once, resuming=False, show=Quiet())
    return shutil.copytree(once, tmp_path / "run")


@pytest.fixture
def pack(finished: Path, tmp_path: Path) -> Path:
    """Return a pack whose run is gone: nothing but the folder is left."""
    out = write_pack(finished, tmp_path / "pack")
    shutil.rmtree(finished)
    return out


def test_the_one_command_of_its_readme_checks_the_pack_where_the_run_is_not(pack: Path):
    line = next(line for line in (pack / "README.md").read_text().splitlines() if "fedcollm-secure verify" in line)
    arguments = line.replace("THIS_FOLDER", ".").split()[1:]
    command = [sys.executable, "-m", "fedcollm_secure", *arguments, "--json"]

    done = subprocess.run(command, cwd=pack, env={**os.environ}, capture_output=True, text=True, check=False)

    found = json.loads(done.stdout)
    assert (done.returncode, found["verified"], found["proofs"]) == (0, True, 3)
    assert found["cosigned"] == found["entries"]


@pytest.mark.skipif(NODE is None, reason="node is not installed")
def test_the_second_verifier_in_the_pack_checks_it_and_its_proofs(pack: Path):
    key = (pack / "audit/log.pub").read_text().split()[0]
    command = [str(NODE), "verify.mjs", ".", "--key", key]
    assert subprocess.run(command, cwd=pack, capture_output=True, check=False).returncode == 0

    for proof in (pack / "proofs").iterdir():
        command = [str(NODE), "verify.mjs", "proof", str(proof), "--key", key]
        assert subprocess.run(command, cwd=pack, capture_output=True, check=False).returncode == 0


def test_the_pack_holds_what_it_says_and_nothing_of_a_silos_own(pack: Path):
    names = {path.relative_to(pack).as_posix() for path in pack.rglob("*") if path.is_file()}

    assert {"README.md", "report.html", "promises.md", "sbom.json", "config.yaml", "audit/log.jsonl"} <= names
    assert not any("silos" in name or "adapters" in name or ".pem" in name for name in names)
    assert "| A privacy budget is enforced before each round | yes |" in (pack / "promises.md").read_text()


def reindex(pack: Path, name: str) -> None:
    """Make the index agree with a changed file, as a forger would."""
    index = json.loads((pack / "evidence.json").read_text())
    index["files"][name] = hashlib.sha256((pack / name).read_bytes()).hexdigest()
    (pack / "evidence.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("name", "old", "new", "reason"),
    [
        ("config.yaml", "rounds: 1", "rounds: 9", "config.yaml is not the configuration"),
        ("summary.json", '"rounds_done": 1', '"rounds_done": 9', "summary.json is not the summary"),
        ("sbom.json", '"name": "torch"', '"name": "touch"', "sbom.json: torch None, the run was started with"),
        ("audit/log.jsonl", '"total_weight":4', '"total_weight":5', "changed or replaced"),
        ("audit/roster.json", '"colluding":1', '"colluding":0', "roster.json: the signature"),
        ("audit/manifests/1-1.json", '"k_min":3', '"k_min":4', "is not the manifest that the log names"),
        ("proofs/0.tlog-proof", "index 0", "index 1", "inclusion proof"),
    ],
)
def test_a_changed_file_is_found_with_and_without_a_forged_index(
    name: str, old: str, new: str, reason: str, pack: Path
):
    text = (pack / name).read_text(encoding="utf-8")
    assert old in text
    (pack / name).write_text(text.replace(old, new), encoding="utf-8")

    with pytest.raises(LogError, match=f"{name} was changed since the pack was made"):
        verify_pack(pack)
    reindex(pack, name)
    with pytest.raises(LogError, match=reason):
        verify_pack(pack)


def test_a_file_more_or_less_is_found(pack: Path):
    (pack / "extra.txt").write_text("")
    with pytest.raises(LogError, match=r"does not name: extra\.txt"):
        verify_pack(pack)
    (pack / "extra.txt").unlink()
    (pack / "report.html").unlink()
    with pytest.raises(LogError, match=r"missing, or that .* report\.html"):
        verify_pack(pack)


def test_a_run_that_does_not_verify_or_did_not_finish_is_no_evidence(finished: Path, tmp_path: Path):
    (finished / "summary.json").unlink()
    with pytest.raises(RunError, match=r"no evidence yet: summary\.json is missing"):
        write_pack(finished, tmp_path / "pack")

    config = finished / "config.yaml"
    config.write_text(config.read_text() + "\n")
    with pytest.raises(LogError, match="is not the configuration"):
        write_pack(finished, tmp_path / "pack")


def test_the_bill_lists_what_runs_here_with_versions():
    from importlib import metadata

    bill = bill_of_materials()
    versions = {part["name"]: part["version"] for part in bill["components"]}  # type: ignore[attr-defined]

    assert (bill["bomFormat"], bill["specVersion"]) == ("CycloneDX", "1.5")
    for name in ("torch", "cryptography", "rfc8785", "cffi"):  # cffi: needed by cryptography alone
        assert versions[name] == metadata.version(name)
    assert "pytest" not in versions
