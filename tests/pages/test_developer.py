"""docs/developer.md: every path that the page names exists, and its rooms are those of the code."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]  # the checkout; the packages under test may lie elsewhere
TEXT = (ROOT / "docs" / "developer.md").read_text(encoding="utf-8")
HOMES = ("fedcollm_secure", "crypto", "privacy", "tests", "docs", "examples", "benchmarks")
NAMED = re.compile(rf"`((?:{'|'.join(HOMES)})/[\w./]*|[\w.-]+\.(?:md|toml))`")
PATTERNS = ("NAME.py", "NAME_command.py")
"""What a newcomer fills in."""


def missing_paths(text: str) -> list[str]:
    """Return the named paths that do not exist."""
    named = [path for path in NAMED.findall(text) if not path.endswith(PATTERNS)]
    return [path for path in named if not (ROOT / path).exists()]


def named_rooms(text: str) -> set[str]:
    """Return the rooms of `fedcollm_secure` in the first table."""
    return set(re.findall(r"^\| `fedcollm_secure/(\w+)/` \|", text, re.MULTILINE))


def test_every_named_path_exists() -> None:
    assert len(NAMED.findall(TEXT)) > 60
    assert missing_paths(TEXT) == []


def test_a_path_that_is_gone_would_be_noticed() -> None:
    moved = TEXT.replace("`fedcollm_secure/federation/gates.py`", "`fedcollm_secure/federation/gate.py`")

    assert missing_paths(moved) == ["fedcollm_secure/federation/gate.py"]


def test_what_looks_like_a_path_is_written_so_that_it_is_checked() -> None:
    looks = re.findall(r"[\w./]+\.(?:py|md|toml)\b", TEXT)

    assert [path for path in looks if f"`{path}`" not in TEXT] == []


def test_every_room_stands_in_the_table_and_no_other() -> None:
    rooms = {path.parent.name for path in (ROOT / "fedcollm_secure").glob("*/__init__.py")}

    assert named_rooms(TEXT) == rooms
    assert named_rooms(TEXT.replace("| `fedcollm_secure/engines/` |", "|")) == rooms - {"engines"}
