"""README is short, and its figures are those of the pages; the table of odds follows from ε alone."""

import math
import re
import tomllib

import pytest
import yaml

from tests.page_text import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")
RESEARCHER = (ROOT / "docs" / "researcher.md").read_text(encoding="utf-8")
OFFICER = (ROOT / "docs" / "data-protection-officer.md").read_text(encoding="utf-8")
ODDS = re.compile(r"^\| ([\d.]+) \| ([\d.]+) \| ([\d.]+) % \| ([\d.]+) % \|$", re.MULTILINE)


def intervals(text: str) -> list[tuple[str, str]]:
    """Return every gain or rate with its interval."""
    return re.findall(r"([\d.]+)\**\s+\[([+−]?[\d.]+, [+−]?[\d.]+)\]", re.sub(r"\]\*\*", "]", text))


def unlike(text: str) -> list[tuple[str, str]]:
    """Return the intervals that the researcher's page has not."""
    return [one for one in intervals(text) if one not in intervals(RESEARCHER)]


def test_readme_is_one_and_a_half_screens() -> None:
    assert len(README.splitlines()) <= 100


def test_intervals_of_readme_are_those_of_the_tables() -> None:
    assert len(intervals(README)) >= 2
    assert unlike(README) == []
    assert unlike(README.replace("1.5, 3.3", "1.6, 3.3")) == [("2.4", "1.6, 3.3")]


@pytest.mark.parametrize("figure", ["62.5 %", "66.1 %", "76.5 %", "77.2 %", "129 s", "0.13 MB"])
def test_figures_of_the_main_job_stand_in_both(figure: str) -> None:
    assert figure in README
    assert figure in RESEARCHER


@pytest.mark.parametrize("row", ODDS.findall(OFFICER), ids=lambda row: f"ε = {row[0]}")
def test_odds_follow_from_epsilon(row: tuple[str, str, str, str]) -> None:
    factor = math.exp(float(row[0]))
    sure = [100 * prior * factor / (1 - prior + prior * factor) for prior in (0.5, 0.001)]

    assert float(row[1]) == pytest.approx(factor, rel=5e-3)
    assert [float(row[2]), float(row[3])] == pytest.approx(sure, abs=0.051)


def test_there_are_rows_of_odds() -> None:
    assert [row[0] for row in ODDS.findall(OFFICER)] == ["0.5", "1", "3", "8"]


def test_the_citation_is_of_this_version_and_names_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    assert (citation["title"], citation["version"]) == (project["name"], project["version"])
    assert citation["license"] == project["license"]
    assert [reference["url"] for reference in citation["references"]] == ["https://arxiv.org/abs/2411.11707"]
