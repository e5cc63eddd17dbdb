"""Read real clinical text: how clinicians write diagnoses, and the specialty that treats them.

ICD-10-CM (a public work of the US government) lists under each code its *inclusion terms*: "Wet lung syndrome",
"Boxer's fracture", "Kissing spine". Each becomes one record, labelled with the specialty of its chapter. The
catalogue is the one inside the package ``simple-icd-10-cm``; its file is read directly, because importing that
package builds a tree of 98,000 codes first, which takes seconds.

    catalogue() ─▶ terms() ─▶ split() ─▶ test | public | private

A term goes to the same part on every machine and in every run: the split is a hash of its text, not a draw.

| edge case                             | what happens                                     |
|---------------------------------------|--------------------------------------------------|
| one text under two specialties        | dropped: no label is right                       |
| one text twice under one specialty    | kept once, with the first code                   |
| chapter 22, "codes for special use"   | dropped: six terms, and no specialty             |
"""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

from fedcollm_secure.errors import FedCoLLMError

TEST_TERMS: Final = 2_500
PUBLIC_TERMS: Final = 1_000

# Chapters 1–21, in their order. A specialty is one word, so that the tokenizer can hold it in one token.
SPECIALTIES: Final[tuple[str, ...]] = (
    "infectiology",
    "oncology",
    "hematology",
    "endocrinology",
    "psychiatry",
    "neurology",
    "ophthalmology",
    "otology",
    "cardiology",
    "pulmonology",
    "gastroenterology",
    "dermatology",
    "orthopedics",
    "urology",
    "obstetrics",
    "neonatology",
    "genetics",
    "diagnostics",
    "trauma",
    "emergency",
    "prevention",
)


@dataclass(frozen=True, kw_only=True)
class Term:
    """Hold one inclusion term; `chapter` counts from "1" to "21"."""

    code: str
    chapter: str
    specialty: str
    term: str


@dataclass(frozen=True, kw_only=True)
class Split:
    """Hold three disjoint parts: seen by nobody, by the server, by the silos."""

    test: list[Term]
    public: list[Term]
    private: list[Term]


@cache
def catalogue() -> ET.Element:
    """Return the root of the tabular list as simple-icd-10-cm ships it.

    Raises:
        FedCoLLMError: the package or its file is missing.
    """
    package = find_spec("simple_icd_10_cm")  # finds, and does not import
    folders = package.submodule_search_locations if package else None
    files = [file for folder in folders or () for file in Path(folder, "data").glob("icd10c*-tabular-*.xml")]
    if not files:
        raise FedCoLLMError(
            "the ICD-10-CM catalogue is missing: expected data/icd10c…-tabular-….xml in the package "
            "simple_icd_10_cm, found none; install it with: pip install 'simple-icd-10-cm>=1.5'"
        )
    return ET.parse(max(files)).getroot()  # noqa: S314 - an installed package's own file


def chapters() -> Iterator[tuple[str, str, ET.Element]]:
    """Yield (chapter, specialty, element) for each chapter that has a specialty."""
    for element in catalogue().iter("chapter"):
        chapter = element.findtext("name", "")
        if chapter.isdecimal() and 1 <= int(chapter) <= len(SPECIALTIES):
            yield chapter, SPECIALTIES[int(chapter) - 1], element


@cache
def _terms() -> tuple[Term, ...]:
    first: dict[str, Term] = {}
    specialties: dict[str, set[str]] = {}
    for term in _inclusion_terms():
        text = normalise(term.term)
        first.setdefault(text, term)
        specialties.setdefault(text, set()).add(term.specialty)
    return tuple(term for text, term in first.items() if len(specialties[text]) == 1)


def terms() -> list[Term]:
    """Return every term with exactly one specialty, each text once, in the catalogue's order."""
    return list(_terms())


def split(terms: Sequence[Term]) -> Split:
    """Cut by the SHA-256 of the normalised text: the lowest 2,500 are test, the next 1,000 public, the rest private.

    Raises:
        ValueError: too few terms for a private part.
    """
    if len(terms) <= TEST_TERMS + PUBLIC_TERMS:
        raise ValueError(
            f"cannot split {len(terms)} terms: expected more than {TEST_TERMS + PUBLIC_TERMS}; pass all of terms()"
        )
    shuffled = sorted(terms, key=lambda term: hashlib.sha256(normalise(term.term).encode()).digest())
    return Split(
        test=shuffled[:TEST_TERMS],
        public=shuffled[TEST_TERMS : TEST_TERMS + PUBLIC_TERMS],
        private=shuffled[TEST_TERMS + PUBLIC_TERMS :],
    )


def rows(part: Iterable[Term] | None = None) -> list[dict[str, str]]:
    """Return terms as rows with the columns code, chapter, specialty and term; all of them without `part`."""
    return [asdict(term) for term in (_terms() if part is None else part)]


def normalise(text: str) -> str:
    """Return lower-case words with one space between them: two texts that differ only otherwise are the same."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(letter if letter.isalnum() else " " for letter in folded).split())


def _inclusion_terms() -> Iterator[Term]:
    for chapter, specialty, element in chapters():
        for diagnosis in element.iter("diag"):
            code = diagnosis.findtext("name", "")
            for note in diagnosis.iterfind("inclusionTerm/note"):
                if text := " ".join((note.text or "").split()):
                    yield Term(code=code, chapter=chapter, specialty=specialty, term=text)
