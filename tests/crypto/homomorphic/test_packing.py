"""Integers in slots, one or two, and the range outside which nothing is released."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.homomorphic.packing import GUARD_BITS, Packing, bfv_packing, ckks_packing
from fedcollm_crypto.homomorphic.parameters import Bfv, Ckks

PACKINGS = {
    "one a slot": Packing(scheme=Bfv(), largest=1 << 30),
    "two a slot": Packing(scheme=Bfv(), largest=(1 << 17) - 1, half_bits=22),
    "ckks": Packing(scheme=Ckks(), largest=1 << 30),
}


@pytest.fixture(params=PACKINGS)
def packing(request) -> Packing:
    return PACKINGS[request.param]


@settings(max_examples=20, derandomize=True, deadline=None)
@given(st.lists(st.integers(-100_000, 100_000), min_size=1, max_size=50), st.sampled_from(sorted(PACKINGS)))
def test_a_sum_of_packed_vectors_is_the_packed_sum(numbers, name):
    packing, values = PACKINGS[name], np.array(numbers, dtype=np.int64)
    slots = packing.pack(values) + packing.pack(-values // 2)

    assert slots.shape == (packing.ciphertexts(len(values)), packing.scheme.slots)
    assert (packing.unpack(slots, len(values)) == values + -values // 2).all()


@pytest.mark.parametrize("sign", [1, -1])
def test_the_largest_sum_passes_and_one_more_is_refused(packing, sign):
    values = np.full(5, sign * packing.largest, dtype=np.int64)

    assert (packing.unpack(packing.pack(values), 5) == values).all()
    with pytest.raises(ProtocolError, match="nothing is released"):
        packing.unpack(packing.pack(values + sign), 5)


def test_guard_range_refuses_what_is_left_over_and_not_zero(packing):
    slots = packing.pack(np.zeros(5, dtype=np.int64))
    slots[0, -1] = 1

    with pytest.raises(ProtocolError, match="nothing is released"):
        packing.unpack(slots, 5)


def test_guard_range_catches_noise(packing):
    noise = np.random.default_rng(1).integers(-(1 << 42), 1 << 42, packing.scheme.slots)

    with pytest.raises(ProtocolError, match="outside the range of honest sums"):
        packing.unpack(noise.astype(np.int64), packing.scheme.slots)


def test_two_a_slot_wherever_there_is_room():
    assert bfv_packing(largest=(1 << 17) - 1, silos=4).per_slot == 2
    assert bfv_packing(largest=1 << 17, silos=4).scheme.plain_bits == 46
    assert bfv_packing(largest=1 << 18, silos=4).scheme.plain_bits == 48
    assert bfv_packing(largest=1 << 19, silos=4).per_slot == 1
    assert ckks_packing(largest=1 << 19, silos=4).per_slot == 1


def test_more_silos_get_a_larger_scale():
    bits = {n: ckks_packing(largest=1 << 30, silos=n).scheme.scale_bits for n in (4, 94, 95, 376, 377)}

    assert bits == {4: 20, 94: 20, 95: 21, 376: 21, 377: 22}


@pytest.mark.parametrize(
    "make",
    [
        lambda: bfv_packing(largest=1 << (43 - GUARD_BITS), silos=4),
        lambda: ckks_packing(largest=1 << 37, silos=4),
        lambda: ckks_packing(largest=1 << 36, silos=100),
        lambda: Packing(scheme=Bfv(), largest=1 << 17, half_bits=22),
    ],
)
def test_a_range_without_guard_bits_is_refused(make):
    with pytest.raises(ValueError, match="guard bits"):
        make()
