"""The command `attack`: its document, its words, its exit codes; and that no run can reach the known-bad twins."""

import ast
import json
import subprocess
import sys
import tomllib
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from fedcollm_secure import cli
from fedcollm_secure.assurance.attacks import attack_suite, attack_variants, membership_scores
from fedcollm_secure.assurance.attacks.attack_outcome import Attack, Outcome
from fedcollm_secure.assurance.attacks.protection import CLASSICAL
from fedcollm_secure.errors import ConfigError

ROOT = Path(__file__).parents[3]  # the checkout; the packages under test may lie elsewhere
IDS = [f"A{number}" for number in (*range(1, 21), 23)]
Document = dict[str, list[dict[str, dict[str, object]]]]


def test_all_attacks_run_and_none_gets_through(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, fewer in (("MEMBERS", 10), ("OTHERS", 200), ("STEPS", 40)):  # A13 trains for half a minute otherwise
        monkeypatch.setattr(membership_scores, name, fewer)
    only_one = nullcontext((CLASSICAL,))  # all four are tried in test_between_attempts
    monkeypatch.setattr(attack_variants, "each_protection", lambda: only_one)
    code = cli.main(["attack", "--json"])
    found = json.loads(capsys.readouterr().out)["attacks"]

    assert code == 0
    assert [attack["id"] for attack in found] == IDS
    assert all(attack["unprotected"]["succeeded"] for attack in found)
    assert not any(attack["protected"]["succeeded"] for attack in found)
    assert all(attack["protected"]["reason"] and attack["title"] for attack in found)


def test_the_document_says_under_which_protections_an_attack_ran(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["attack", "A16", "--json"]) == 0
    (attack,) = json.loads(capsys.readouterr().out)["attacks"]
    protected, names = attack["protected"], ["masked_classical", "masked_post_quantum", "bfv", "ckks"]

    assert protected["protections"] == 4
    assert protected["table"][0] == ["way", "masked classical", "masked post quantum", "bfv", "ckks"]
    assert [protected[f"{name}_ways"] for name in names] == [protected[f"{name}_refused"] for name in names] == [5] * 4


def test_a_person_is_told_what_was_done_and_why_it_failed(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["attack", "a4", "A2", "A4"])
    captured = capsys.readouterr()

    assert code == 0
    assert [line[:2] for line in captured.out.splitlines() if line[:1] == "A"] == ["A2", "A4"]
    assert "unprotected: SUCCEEDS. silo-01 agrees on all its keys with the server" in captured.out
    assert "protected:   fails (malformed, other_roster)" in captured.out
    assert "A4 swapped keys" in captured.err  # progress


def test_an_unknown_attack_is_exit_2(capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["attack", "A2", "A99"])
    captured = capsys.readouterr()

    assert (code, captured.out) == (2, "")
    assert "no attack A99; expected some of A1, A2" in captured.err
    with pytest.raises(ConfigError, match="A99"):
        attack_suite.choose(["A99"])


HELD, FELL = Outcome(succeeded=False, told="", reason="no"), Outcome(succeeded=True, told="all of it")


def _attack(unprotected: Outcome, protected: Outcome) -> Attack:
    return Attack(id="A0", title="", does="", unprotected=lambda: unprotected, protected=lambda: protected)


@pytest.mark.parametrize(
    ("unprotected", "protected", "code", "word"),
    [
        (FELL, HELD, 0, "1 of 1 attacks fail"),
        (FELL, FELL, 1, "GOT THROUGH: A0"),
        (HELD, HELD, 1, "SHOW NOTHING, since they fail without protection too: A0"),
    ],
)
def test_an_attack_that_gets_through_or_shows_nothing_is_exit_1(
    unprotected: Outcome, protected: Outcome, code: int, word: str
) -> None:
    findings = attack_suite.run([_attack(unprotected, protected)], lambda _: None)

    assert attack_suite.exit_code(findings) == code
    assert word in attack_suite.words(findings)


def test_a_failure_names_its_reason_and_figures_are_numbers() -> None:
    with pytest.raises(ValueError, match="what stopped it"):
        replace(HELD, reason="")
    with pytest.raises(ValueError, match="finite"):
        replace(HELD, figures={"error": float("inf")})


def test_attacks_need_no_torch() -> None:
    script = (
        "import sys\nfrom fedcollm_secure.cli import main\nmain(['attack', 'A2', 'A12', '--json'])\n"
        "print('torch' in sys.modules, file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)

    assert done.stderr.splitlines()[-1] == "False"


def _imports(source: str) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {f"{node.module}.{name.name}" for name in node.names}
    return found


def _reaches(source: str, package: str) -> bool:
    return any(name == package or name.startswith(f"{package}.") for name in _imports(source))


def _sources(where: Callable[[Path], bool]) -> list[Path]:
    rooms = [ROOT / "fedcollm_secure", ROOT / "crypto" / "fedcollm_crypto", ROOT / "privacy" / "fedcollm_privacy"]
    return [path for room in rooms for path in room.rglob("*.py") if where(path)]


def test_nothing_but_the_command_line_imports_the_attacks_and_they_alone_the_twins() -> None:
    package = "fedcollm_secure.assurance.attacks"
    outside = _sources(lambda path: "attacks" not in path.parts)
    importing = [path.name for path in outside if _reaches(path.read_text(), package)]

    assert len(outside) > 100
    assert importing == ["commands.py"]
    assert not _reaches((ROOT / "fedcollm_secure" / "cli" / "commands.py").read_text(), f"{package}.twins")


def test_the_import_contract_names_every_room() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = [c for c in contracts if c.get("forbidden_modules") == ["fedcollm_secure.assurance.attacks"]]
    rooms = {p.name for p in (ROOT / "fedcollm_secure").iterdir() if (p / "__init__.py").is_file()}
    rooms -= {"cli", "assurance"}

    assert contract["type"] == "forbidden"
    assert {f"fedcollm_secure.{room}" for room in rooms} <= set(contract["source_modules"])
    assert {"fedcollm_crypto", "fedcollm_privacy", "fedcollm_secure.operations"} <= set(contract["source_modules"])
