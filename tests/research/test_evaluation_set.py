"""Which test records are apart from the silos': by words, whatever their order and case, and by one word at most."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from fedcollm_secure.assemble import prepare
from fedcollm_secure.config import parse
from fedcollm_secure.research.evaluation_set import EvaluationSet, near_duplicates

Tree = Callable[..., dict[str, Any]]


@pytest.mark.parametrize(
    ("text", "near"),
    [
        ("acquired cyst of kidney", True),
        ("Cyst of kidney, ACQUIRED", True),
        ("cyst of kidney", True),
        ("acquired cyst of left kidney", True),
        ("acquired cyst of liver", True),
        ("cyst of liver", False),  # one word fewer, and another one changed
        ("acquired cysts in the kidney", False),
        ("fracture", False),
        ("acquired acquired cyst of kidney", True),
        ("", False),
    ],
)
def test_texts_are_near_where_one_word_of_each_may_be_left_out(text: str, near: bool) -> None:
    assert near_duplicates([text], ["acquired cyst of kidney", "rash"]) == (near,)


def test_single_words_are_near_only_themselves() -> None:
    assert near_duplicates(["rash", "itch"], ["rash"]) == (True, False)


def test_a_test_set_is_known_by_what_it_asks(tree: Tree) -> None:
    prepared = prepare(parse(tree()))
    shorter = replace(prepared, holdings=replace(prepared.holdings, test=prepared.holdings.test[1:]))
    first, again, other = map(EvaluationSet.of, (prepared, prepared, shorter))

    assert first == again
    assert first.digest != other.digest
    assert len(first.apart) == len(prepared.holdings.test)
