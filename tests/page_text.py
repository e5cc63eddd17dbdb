"""What tests of pages share: which pages there are, and what in them is code."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]  # the checkout; the packages under test may lie elsewhere
FENCED = re.compile(r"^(?P<fence>```+)[^\n]*\n(?P<code>.*?)^(?P=fence)[ ]*$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)", re.DOTALL)


def pages() -> list[Path]:
    """Return what a reader is sent to: the pages at the top, those of docs/, and the rooms' own."""
    rooms = [*ROOT.glob("fedcollm_secure/*/README.md"), *ROOT.glob("*/README.md"), *ROOT.glob("examples/*/README.md")]
    return sorted({*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("*/arguments/*.md"), *rooms})


def fenced(text: str) -> list[str]:
    """Return the contents of the fenced blocks."""
    return [match["code"] for match in FENCED.finditer(text)]


def inline(text: str) -> list[str]:
    """Return what stands between backticks outside of fenced blocks."""
    return [match[2] for match in INLINE.finditer(FENCED.sub("", text))]


def prose(text: str) -> str:
    """Return the text without code."""
    return INLINE.sub("", FENCED.sub("", text))
