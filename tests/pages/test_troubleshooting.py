"""docs/troubleshooting.md quotes the program: each sentence stands in the code, and each code of a refusal too."""

import ast
import re
from functools import lru_cache

import pytest

from tests.page_text import ROOT

TEXT = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
ADMINISTRATOR = (ROOT / "docs" / "silo-administrator.md").read_text(encoding="utf-8")
SOURCES = ("fedcollm_secure", "crypto/fedcollm_crypto", "privacy/fedcollm_privacy")


@lru_cache
def strings() -> frozenset[str]:
    """Return every text of the code; what is filled in stands as …"""
    files = [file for source in SOURCES for file in (ROOT / source).rglob("*.py")]
    nodes = [node for file in files for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))]
    return frozenset(text for node in nodes if (text := _text(node)))


def _text(node: ast.AST) -> str:
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(str(part.value) if isinstance(part, ast.Constant) else "…" for part in parts)
        case _:
            return ""


def quoted(text: str) -> list[str]:
    """Return the sentences that a page quotes, a line each."""
    return re.findall(r"^> (.+)$", text, re.MULTILINE)


def unknown(sentences: list[str]) -> list[str]:
    """Return the sentences that nothing in the code says."""
    return [sentence for sentence in sentences if not any(sentence in text for text in strings())]


def refusals(text: str) -> list[str]:
    """Return the codes in the first column of the table of refusals."""
    section = text.split("## What a refusal means")[1].split("\n## ")[0]
    return [code for row in re.findall(r"^\| (`.+?) \|", section, re.MULTILINE) for code in re.findall(r"`(\w+)`", row)]


def test_every_quoted_sentence_stands_in_the_code() -> None:
    assert len(quoted(TEXT)) > 30
    assert unknown(quoted(TEXT)) == []


def test_a_sentence_that_nobody_says_would_be_noticed() -> None:
    assert unknown(["… silos are left, … are needed", "the moon is full"]) == ["the moon is full"]


def test_every_code_of_a_refusal_stands_in_the_code() -> None:
    assert len(refusals(ADMINISTRATOR)) > 20
    assert [code for code in refusals(ADMINISTRATOR) if code not in strings()] == []


@pytest.mark.parametrize("code", ["ledger_rolled_back", "forked_log"])
def test_the_codes_that_call_for_an_alarm_are_explained(code: str) -> None:
    assert code in refusals(ADMINISTRATOR)
    assert code not in refusals(ADMINISTRATOR.replace(f"`{code}`", ""))
