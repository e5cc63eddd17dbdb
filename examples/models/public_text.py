"""Collect the public text that the embedded pair is pre-trained on, and nothing a silo or the test set holds.

ICD-10-CM has three kinds of text. *Inclusion terms* are the main job's data and are never read here. *Descriptions* are
the official titles of codes. *Notes* send the coder elsewhere ("chronic asthmatic bronchitis (J44.89)"): labelled with
the specialty of the code they point to.

    descriptions() ─┐
                    ├─▶ no line holds an inclusion term ─▶ whole_catalogue() for the LLM
    notes() ────────┘                                   └▶ pocket_edition()  for the SLM
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Final

from fedcollm_secure.learning.icd10cm import catalogue, chapters, normalise

PROMPT: Final = "{term}. Specialty:"
_POINTER: Final = re.compile(r"\s*\(([A-Z][0-9][0-9A-Z])[^()]*\)\s*$")


_CATEGORY: Final = 3  # letters of a code: "J45"
_SUBDIVISION: Final = 5  # "J45.2"


@dataclass(frozen=True, kw_only=True)
class Line:
    """Hold one public text, its specialty, and the length of its code: 3 for a category, up to 8; 0 without one."""

    text: str
    specialty: str
    depth: int


@cache
def whole_catalogue() -> tuple[Line, ...]:
    """Return what the LLM reads: every title and every note."""
    return tuple(permitted((*descriptions(), *notes())))


@cache
def pocket_edition() -> tuple[Line, ...]:
    """Return what the SLM reads: the titles of sections and categories, and half of their first subdivisions."""
    return tuple(line for line in permitted(descriptions()) if _fits_a_pocket(line))


def _fits_a_pocket(line: Line) -> bool:
    return line.depth <= _CATEGORY or (line.depth == _SUBDIVISION and _coin(line.text))


def _coin(text: str) -> bool:
    return hashlib.sha256(normalise(text).encode()).digest()[0] % 2 == 0


@cache
def forbidden() -> frozenset[str]:
    """Return every inclusion term, normalised: test, public and private alike, the dropped ones too."""
    notes = catalogue().iterfind(".//inclusionTerm/note")
    return frozenset(normalise(note.text or "") for note in notes) - {""}


def permitted(lines: Iterable[Line]) -> list[Line]:
    """Keep each text once, and only if no run of its words is an inclusion term."""
    kept: dict[str, Line] = {}
    longest = max(len(term.split()) for term in forbidden())
    for line in lines:
        text = normalise(line.text)
        if text and text not in kept and not _holds_a_term(text.split(), longest):
            kept[text] = line
    return list(kept.values())


def _holds_a_term(words: list[str], longest: int) -> bool:
    return any(
        " ".join(words[start:end]) in forbidden()
        for start in range(len(words))
        for end in range(start + 1, min(start + longest, len(words)) + 1)
    )


def descriptions() -> Iterator[Line]:
    """Yield the titles of sections and codes."""
    for _, specialty, chapter in chapters():
        for section in chapter.iter("section"):
            yield Line(text=_without_range(section.findtext("desc", "")), specialty=specialty, depth=0)
        for diagnosis in chapter.iter("diag"):
            depth = len(diagnosis.findtext("name", ""))
            yield Line(text=diagnosis.findtext("desc", ""), specialty=specialty, depth=depth)


def notes() -> Iterator[Line]:
    """Yield the notes that name the code they point to; "includes" notes point to their own."""
    specialty_of = _specialty_of_category()
    for _, specialty, chapter in chapters():
        for tag in ("includes", "excludes1", "excludes2", "useAdditionalCode", "codeFirst", "codeAlso"):
            for note in chapter.iterfind(f".//{tag}/note"):
                text = note.text or ""
                pointer = _POINTER.search(text)
                target = specialty_of.get(pointer[1]) if pointer else specialty if tag == "includes" else None
                if target:
                    yield Line(text=_POINTER.sub("", text), specialty=target, depth=0)


def _specialty_of_category() -> dict[str, str]:
    return {
        diagnosis.findtext("name", ""): specialty
        for _, specialty, chapter in chapters()
        for diagnosis in chapter.iter("diag")
        if len(diagnosis.findtext("name", "")) == 3
    }


def _without_range(title: str) -> str:
    return re.sub(r"\s*\([A-Z0-9-]+\)$", "", title)
