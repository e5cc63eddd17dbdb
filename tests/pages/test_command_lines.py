"""Every `fedcollm-secure …` that README and docs/ show can be typed: our own parser reads it. Nothing is run."""

import re
import shlex
from pathlib import Path

import pytest

from fedcollm_secure.cli.failure import UsageError
from fedcollm_secure.cli.parser import VERIFY_FORMS, make_parser
from tests.page_text import ROOT, fenced, inline

PAGES = [
    ROOT / "README.md",
    ROOT / "threat_model.md",
    ROOT / "benchmarks" / "README.md",
    *sorted((ROOT / "docs").glob("**/*.md")),
]
PROGRAM = "fedcollm-secure"
FORMS = {line.split()[0] for line in VERIFY_FORMS.splitlines()} - {"RUN", "PACK"}
NUMBERS = re.compile(r"(--(?:claimed|release|seeds)) [EN]\b")
"""Where a page writes a letter for a number, as `--claimed E`."""


def block_lines(text: str) -> list[str]:
    """Return the command lines of the fenced blocks; a backslash at a line's end continues it."""
    lines = [line.strip() for block in fenced(text) for line in re.sub(r"\\\n\s*", "", block).splitlines()]
    return [line for line in lines if line.split(" ")[0].endswith(PROGRAM)]


def inline_lines(text: str) -> list[str]:
    """Return the command lines between backticks, with what they put in brackets; a bare name asks for its --help."""
    spans = [re.sub(r"\s+", " ", span) for span in inline(text) if span.startswith(f"{PROGRAM} ")]
    return [re.sub(r"[\[\]]", "", NUMBERS.sub(r"\1 1", one)).split(" > ")[0] for span in spans for one in _either(span)]


def _either(span: str) -> list[str]:
    """Part `a | b`, where b leaves the program's name out."""
    whole = [one if one.startswith(PROGRAM) else f"{PROGRAM} {one}" for one in span.split(" | ")]
    return [f"{one} --help" if len(one.split()) == 2 else one for one in whole]


def fault(line: str) -> str:
    """Return why a line cannot be typed; empty where it can."""
    words = shlex.split(line, comments=True)[1:]
    try:
        given = make_parser().parse_args(words)
    except UsageError as error:
        return str(error)
    except SystemExit:  # --help and --version print and leave
        return ""
    what = getattr(given, "what", None)
    if isinstance(what, list) and len(what) > 1 and what[0] not in FORMS:
        return f"verify has no form {what[0]}"
    return ""


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_command_line_of_a_page_can_be_typed(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    faults = {line: fault(line) for line in (*block_lines(text), *inline_lines(text))}

    assert {line: why for line, why in faults.items() if why} == {}


def test_there_are_command_lines() -> None:
    texts = [page.read_text(encoding="utf-8") for page in PAGES]

    assert sum(len(block_lines(text)) for text in texts) > 30
    assert sum(len(inline_lines(text)) for text in texts) > 30


@pytest.mark.parametrize(
    ("line", "why"),
    [
        ("fedcollm-secure train x.yaml", "invalid choice: 'train'"),
        ("fedcollm-secure run x.yaml --output DIR", "unrecognized arguments: --output DIR"),
        ("fedcollm-secure run", "required: config"),
        ("fedcollm-secure verify rounds 2 RUN", "no form rounds"),
        ("fedcollm-secure audit x.yaml --claimed E", "invalid float value"),
    ],
)
def test_a_line_that_cannot_be_typed_would_be_noticed(line: str, why: str) -> None:
    assert block_lines(f"text\n```\n{line}    # said\n```\n") == [f"{line}    # said"]
    assert why in fault(line)


def test_a_line_between_backticks_is_read_with_its_brackets() -> None:
    assert inline_lines("say `fedcollm-secure compare C\n[--seeds N]`") == ["fedcollm-secure compare C --seeds 1"]


def test_a_bare_name_of_a_command_must_be_one() -> None:
    known, unknown = inline_lines("`fedcollm-secure check` and `fedcollm-secure czech`")

    assert fault(known) == ""
    assert "invalid choice: 'czech'" in fault(unknown)
