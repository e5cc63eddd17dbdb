"""The source of the main job: real terms, one label each, the same split everywhere."""

import hashlib
from importlib.machinery import ModuleSpec

import pytest

from fedcollm_secure.errors import FedCoLLMError
from fedcollm_secure.learning import icd10cm
from fedcollm_secure.learning.icd10cm import SPECIALTIES, Term, normalise, rows, split, terms


def _term(text: str) -> Term:
    return Term(code="A00", chapter="1", specialty="infectiology", term=text)


def test_twelve_thousand_terms_cover_all_specialties() -> None:
    assert len(terms()) > 12_000
    assert {term.specialty for term in terms()} == set(SPECIALTIES)
    assert len(set(SPECIALTIES)) == 21


def test_a_known_term_has_its_code_and_its_specialty() -> None:
    flat_foot = next(term for term in terms() if term.term == "Congenital flat foot")

    assert flat_foot == Term(code="Q66.5", chapter="17", specialty="genetics", term="Congenital flat foot")


def test_specialty_follows_from_chapter() -> None:
    assert all(term.specialty == SPECIALTIES[int(term.chapter) - 1] for term in terms())


def test_each_text_is_there_once() -> None:
    texts = [normalise(term.term) for term in terms()]

    assert len(texts) == len(set(texts))
    assert "" not in texts


def test_a_text_with_two_specialties_is_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    catalogue = """<all>
      <chapter><name>1</name><diag><name>A00</name><inclusionTerm><note>Shared one</note><note>Own</note>
        <note>OWN!</note></inclusionTerm></diag></chapter>
      <chapter><name>2</name><diag><name>C00</name><inclusionTerm>
        <note>shared, one</note></inclusionTerm></diag></chapter>
      <chapter><name>22</name><diag><name>U00</name><inclusionTerm>
        <note>Special</note></inclusionTerm></diag></chapter>
    </all>"""
    monkeypatch.setattr(icd10cm, "catalogue", lambda: icd10cm.ET.fromstring(catalogue))

    found = icd10cm._terms.__wrapped__()

    assert found == (Term(code="A00", chapter="1", specialty="infectiology", term="Own"),)


def test_split_has_the_stated_sizes_and_loses_nothing() -> None:
    parts = split(terms())

    assert (len(parts.test), len(parts.public)) == (2_500, 1_000)
    together = [term.term for part in (parts.test, parts.public, parts.private) for term in part]
    assert sorted(together) == sorted(term.term for term in terms())


def test_split_depends_on_the_text_alone() -> None:
    forwards, backwards = split(terms()), split(terms()[::-1])

    assert forwards == backwards


def test_the_lowest_hashes_are_held_out() -> None:
    def height(term: Term) -> str:
        return hashlib.sha256(normalise(term.term).encode()).hexdigest()

    parts = split(terms())

    assert max(map(height, parts.test)) < min(map(height, parts.public))
    assert max(map(height, parts.public)) < min(map(height, parts.private))


def test_every_specialty_is_in_every_part() -> None:
    parts = split(terms())

    assert all(
        {term.specialty for term in part} == set(SPECIALTIES) for part in (parts.test, parts.public, parts.private)
    )


def test_too_few_terms_are_refused() -> None:
    with pytest.raises(ValueError, match=r"cannot split 3500 terms: expected more than 3500"):
        split([_term(f"term {number}") for number in range(3_500)])


def test_rows_have_the_four_columns() -> None:
    assert rows([_term("Cholera nostras")]) == [
        {"code": "A00", "chapter": "1", "specialty": "infectiology", "term": "Cholera nostras"}
    ]
    assert len(rows()) == len(terms())


@pytest.mark.parametrize("text", ["Ménière's  Disease", "ménière's disease", "MÉNIÈRE S (disease)"])
def test_case_space_and_punctuation_do_not_tell_texts_apart(text: str) -> None:
    assert normalise(text) == "ménière s disease"


def test_a_caller_cannot_change_the_cached_terms() -> None:
    terms().clear()

    assert terms()


@pytest.mark.parametrize("spec", [None, ModuleSpec("simple_icd_10_cm", None)])
def test_a_missing_catalogue_says_what_to_install(spec: ModuleSpec | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(icd10cm, "find_spec", lambda name: spec)

    with pytest.raises(FedCoLLMError, match=r"catalogue is missing.*pip install"):
        icd10cm.catalogue.__wrapped__()
