"""Masks cannot be searched: A6."""

import numpy as np
import pytest

from fedcollm_crypto.masking import transcript as hashes
from fedcollm_crypto.stream import keystream
from fedcollm_secure.assurance.attacks import mask_search
from fedcollm_secure.assurance.attacks.attack_consortium import Consortium, random_updates
from fedcollm_secure.assurance.attacks.twins.weak_generator import folded, twister, weak_stream


def test_the_twins_seed_is_found_and_its_update_lies_open() -> None:
    outcome = mask_search.against_twin()

    assert outcome.succeeded
    assert outcome.figures["max_abs_error"] < 1e-7
    assert 1 <= outcome.figures["seeds_tried"] <= 2**20


def test_the_same_search_finds_nothing_under_our_masks() -> None:
    outcome = mask_search.against_us()

    assert not outcome.succeeded
    assert (outcome.figures["seeds_tried"], outcome.figures["seed_bits"]) == (2**20, 256)


def test_one_mask_is_left_to_search_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    consortium, key, derive = Consortium(random_updates(3)), bytes(range(32)), hashes.pair_mask_key
    known = {"silo-01", "silo-02"}
    monkeypatch.setattr(
        hashes, "pair_mask_key", lambda *given: key if {given[3], given[4]} == known else derive(*given)
    )
    (stream,) = keystream(key, consortium.manifest().quantisation.length)

    assert (mask_search.what_is_left(consortium) - stream == consortium.vector("silo-01")).all()


def test_the_fast_generator_is_numpys() -> None:
    seeds = np.array([0, 1, 5489, 2**20 - 1, 2**32 - 1], dtype=np.uint32)

    assert [int(word) for word in mask_search.first_words(seeds)] == [int(twister(int(s), 1)[0]) for s in seeds]


def test_a_seed_outside_the_search_is_not_found() -> None:
    small = np.arange(8, dtype=np.uint32)

    assert mask_search.search_seed(small + twister(40_000, 8), 10, 15).seed is None
    assert mask_search.search_seed(small + twister(20_000, 8), 10, 15).seed == 20_000


def test_the_twin_folds_as_described() -> None:
    assert all(folded(bytes([i]), 20) < 2**20 for i in range(50))
    assert (weak_stream(b"seed", 5, 20) == twister(folded(b"seed", 20), 5)).all()
