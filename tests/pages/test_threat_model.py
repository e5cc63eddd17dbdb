"""threat_model.md: every claim names tests that exist, and says what a run says of itself (`federation.guarantees`)."""

import ast
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from fedcollm_secure.config.protection import Bfv, Ckks, Masked, NonPrivate, RecordDP, Security, UnsafePlain
from fedcollm_secure.config.schema import Config
from fedcollm_secure.federation.guarantees import guarantees

ROOT = Path(__file__).parents[2]  # the checkout; the packages under test may lie elsewhere
TEXT = (ROOT / "threat_model.md").read_text(encoding="utf-8")
NAMED = re.compile(r"`(tests/[\w/]+\.py)::(\w+)`")
RESIDUAL = (
    "Sum of few silos still leaks content without DP",
    "k_min honest assumption",
    "Side channels (timing, sizes, Python big-int Shamir not constant-time, no memory zeroisation)",
    "Metadata",
    "Compromised silo host",
    "Poisoning inside bounds",
    "Hyper-parameter leakage",
    "Weak ε",
    "Unaudited cryptography",
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One property: what each mode promises, and by which tests."""

    cells: tuple[str, ...]
    tests: str


def rows(text: str) -> dict[str, Row]:
    """Return the rows of the table of guarantees."""
    section = text.split("## Guarantees by mode")[1].split("\n## ")[0]
    lines = [line.strip("|").split("|") for line in section.splitlines() if line.startswith("| ")][1:]
    return {line[0].strip(): Row(cells=tuple(c.strip() for c in line[1:7]), tests=line[7]) for line in lines}


@lru_cache
def _functions(path: Path) -> frozenset[str]:
    if not path.is_file():
        return frozenset()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))


def missing_tests(text: str) -> list[str]:
    """Return the named tests that do not exist."""
    return [f"{path}::{name}" for path, name in NAMED.findall(text) if name not in _functions(ROOT / path)]


def test_every_named_test_exists() -> None:
    assert len(NAMED.findall(TEXT)) > 40
    assert missing_tests(TEXT) == []


def test_a_name_without_a_test_would_be_noticed() -> None:
    renamed = TEXT.replace("test_every_way_is_refused_with_its_reason", "test_nothing_at_all", 1)
    moved = TEXT.replace("tests/assurance/attacks/test_differencing.py", "tests/assurance/attacks/test_gone.py", 1)

    assert missing_tests(renamed) == ["tests/assurance/attacks/test_malicious_server.py::test_nothing_at_all"]
    assert [name.split("::")[0] for name in missing_tests(moved)] == ["tests/assurance/attacks/test_gone.py"]


def test_what_looks_like_a_test_is_written_so_that_it_is_checked() -> None:
    assert TEXT.count("::test_") == len(NAMED.findall(TEXT))


@pytest.mark.parametrize("name", rows(TEXT))
def test_every_claim_names_a_test(name: str) -> None:
    row = rows(TEXT)[name]

    assert NAMED.search(row.tests), f"{name}: no test"
    assert all(cell[0] in "✔✗–" for cell in row.cells)


MODES = {
    "unsafe_plain": (UnsafePlain(), Security(), NonPrivate()),
    "masked, semi_honest": (Masked(), Security(adversary="semi_honest"), NonPrivate()),
    "masked, malicious": (Masked(), Security(), NonPrivate()),
    "bfv": (Bfv(), Security(), NonPrivate()),
    "ckks": (Ckks(), Security(), NonPrivate()),
    "with record_dp": (
        Masked(),
        Security(),
        RecordDP(epsilon=8.0, delta=1e-5, clip_norm=1.0, sampling_rate=0.1),
    ),
}


@pytest.mark.parametrize("mode", MODES)
def test_the_page_and_the_program_say_the_same(mode: str) -> None:
    aggregation, security, privacy = MODES[mode]
    weighting = "uniform" if isinstance(privacy, RecordDP) else "examples"
    parts = {"aggregation": aggregation, "security": security, "privacy": privacy}
    config = cast(Config, SimpleNamespace(**parts, silo=SimpleNamespace(weighting=weighting)))
    said = {guarantee.property: guarantee.holds for guarantee in guarantees(config)}
    written = {name: row.cells for name, row in rows(TEXT).items()}
    column = list(MODES).index(mode)

    assert said.keys() <= written.keys()
    for name, holds in said.items():
        cell = written[name][column] if written[name][column] != "–" else written[name][2]
        assert (cell[0] == "✔") == holds, f"{name}: {mode}"


def test_the_table_has_these_modes_and_no_other() -> None:
    header = next(line for line in TEXT.splitlines() if line.startswith("| property |"))

    assert [cell.strip() for cell in header.strip("|").split("|")][1:7] == list(MODES)


@pytest.mark.parametrize("risk", RESIDUAL)
def test_residual_risks_stand_there_word_for_word(risk: str) -> None:
    assert f"* **{risk}.**" in TEXT.split("## What is not promised")[1]


def test_nothing_is_claimed_for_what_does_not_exist() -> None:
    assert "The cryptography is unaudited" in TEXT
    assert "simulates all silos in one process" in TEXT
    assert not re.search(r"mTLS", TEXT)
