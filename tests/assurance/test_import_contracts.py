"""The import contracts of pyproject.toml: a forbidden import makes `lint-imports` fail, in a copy of the code."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]  # the checkout; the packages under test may lie elsewhere
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
pytestmark = pytest.mark.skipif(not LINT_IMPORTS.is_file(), reason="import-linter is in the dev extra only")
ROOMS = ("fedcollm_secure", "crypto/fedcollm_crypto", "privacy/fedcollm_privacy")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return a copy of the code and its contracts."""
    for room in ROOMS:
        ignored = shutil.ignore_patterns("*.safetensors", "__pycache__")
        shutil.copytree(ROOT / room, tmp_path / room, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint(checkout: Path) -> tuple[int, list[str]]:
    """Return the exit code of `lint-imports`, and the contracts that are broken."""
    path = os.pathsep.join(str(checkout / room) for room in ("", "crypto", "privacy"))
    done = subprocess.run(
        [str(LINT_IMPORTS), "--no-cache"],
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    lines = [line.rstrip() for line in done.stdout.splitlines()]
    return done.returncode, [line.removesuffix(" BROKEN") for line in lines if line.endswith(" BROKEN")]


def test_the_code_as_it_is_keeps_every_contract(checkout: Path) -> None:
    assert lint(checkout) == (0, [])


FLOORS, ATTACKS = "The floors of the core", "No run reaches the attacks and their known-bad twins"
SABOTAGES = "No run reaches the privacy audit's sabotages"
FORBIDDEN = {
    "a run that imports an attack": ("operations/run_command.py", "assurance.attacks.attack_suite", {FLOORS, ATTACKS}),
    "a silo that imports a twin": ("federation/silo.py", "assurance.attacks.twins.unruled_silo", {FLOORS, ATTACKS}),
    "training that imports a sabotage": (
        "learning/training.py",
        "assurance.privacy_audit.noise_sabotages",
        {FLOORS, SABOTAGES},
    ),
    "an attack that imports a sabotage": (
        "assurance/attacks/replayed_messages.py",
        "assurance.privacy_audit.noise_sabotages",
        {SABOTAGES},
    ),
    "a comparison that imports an attack": (
        "research/compare/baselines.py",
        "assurance.attacks.attack_suite",
        {FLOORS, ATTACKS},
    ),
    "an attack that imports a study": ("assurance/attacks/replayed_messages.py", "research.study.sweep", {FLOORS}),
    "a report that imports a comparison": (
        "operations/report/report_page.py",
        "research.compare.baselines",
        {FLOORS},
    ),
    "a figure that imports a command": ("presentation/svg_figures.py", "operations.run_command", {FLOORS}),
    "a log that imports training": ("audit_log/log.py", "learning.training", {FLOORS}),
}


@pytest.mark.parametrize("case", FORBIDDEN)
def test_a_forbidden_import_is_found(checkout: Path, case: str) -> None:
    file, module, broken = FORBIDDEN[case]
    path = checkout / "fedcollm_secure" / file
    path.write_text(f"{path.read_text()}\nimport fedcollm_secure.{module}\n")

    code, found = lint(checkout)

    assert code == 1
    assert broken <= set(found)
