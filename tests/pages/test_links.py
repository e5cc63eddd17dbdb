"""Every relative link leads to a file, and every anchor to a heading of it, as GitHub makes them."""

import re
from pathlib import Path
from urllib.parse import unquote

import pytest

from tests.page_text import FENCED, ROOT, pages, prose

LINK = re.compile(r"\]\(([^()\s]+)\)")


def anchors(text: str) -> set[str]:
    """Return the anchors of a page's headings: lower case, no punctuation, blanks as hyphens, twins numbered."""
    found: set[str] = set()
    for heading in re.findall(r"^#{1,6} (.+)$", FENCED.sub("", text), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
        name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        found.add(next(each for each in (name, *(f"{name}-{n}" for n in range(1, 99))) if each not in found))
    return found


def dead_links(page: Path, text: str) -> list[str]:
    """Return the links of a page that lead nowhere."""
    return [target for target in LINK.findall(prose(text)) if "://" not in target and not _leads(page, target)]


def _leads(page: Path, target: str) -> bool:
    path, _, anchor = unquote(target).partition("#")
    file = (page.parent / path).resolve() if path else page
    if not file.is_relative_to(ROOT) or not file.exists():
        return False
    return not anchor or (file.suffix == ".md" and anchor in anchors(file.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", pages(), ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_of_a_page_leads_somewhere(page: Path) -> None:
    assert dead_links(page, page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "dead", ["docs/gone.md", "docs/index.md#gone", "#gone", "../outside.md", "Makefile#a", "docs/x.svg"]
)
def test_a_dead_link_would_be_noticed(dead: str) -> None:
    assert dead_links(ROOT / "README.md", f"[here]({dead}) and ![there]({dead})") == [dead, dead]


def test_anchors_are_those_of_github() -> None:
    text = "# What ε = 8 means\n## `verify` says no\n## Twice\n## Twice\n```\n# none\n```\n### [A](b.md), too"

    assert anchors(text) == {"what-ε--8-means", "verify-says-no", "twice", "twice-1", "a-too"}


def test_code_holds_no_links() -> None:
    assert dead_links(ROOT / "README.md", "`[a](gone.md)`\n```\n[a](gone.md)\n```\n[web](https://gone.example)") == []


@pytest.mark.parametrize("page", sorted((ROOT / "docs").glob("*.md")), ids=lambda page: page.stem)
def test_the_index_leads_to_every_page(page: Path) -> None:
    targets = LINK.findall((ROOT / "docs" / "index.md").read_text(encoding="utf-8"))

    assert page.name == "index.md" or page.name in {target.partition("#")[0] for target in targets}
