"""Coefficients on the wire: they survive it, add up as the library adds them, and are below q or refused."""

import numpy as np
import pytest
import tenseal as ts
import tenseal.sealapi as sealapi
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.homomorphic import seal_format
from fedcollm_crypto.homomorphic.residues import add_into, from_wire, split, to_wire, wire_bytes

PRIME = int(sealapi.CoeffModulus.Create(8192, [60, 60])[0].value())
COEFFICIENTS = st.lists(st.integers(0, PRIME - 1), min_size=2, max_size=40).filter(lambda values: len(values) % 2 == 0)


@settings(max_examples=50, derandomize=True)
@given(COEFFICIENTS)
def test_coefficients_survive_the_wire(values):
    residues = np.array(values, dtype=np.uint64)
    wire = to_wire(residues)

    assert len(wire) == wire_bytes(len(values)) == 7.5 * len(values)
    assert (from_wire(wire, PRIME, len(values)) == residues).all()


@settings(max_examples=50, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, PRIME - 1), st.integers(0, PRIME - 1)), min_size=1, max_size=40))
def test_sums_are_modulo_the_prime(pairs):
    total = np.array([a for a, _ in pairs], dtype=np.uint64)
    add_into(total, np.array([b for _, b in pairs], dtype=np.uint64), PRIME)

    assert total.tolist() == [(a + b) % PRIME for a, b in pairs]


def test_a_coefficient_below_the_prime_passes_and_the_prime_is_refused():
    assert from_wire(to_wire(np.array([0, PRIME - 1], dtype=np.uint64)), PRIME, 2)[1] == PRIME - 1
    for bad in (PRIME, (1 << 60) - 1):
        with pytest.raises(ProtocolError, match="not below the prime"):
            from_wire(to_wire(np.array([0, bad], dtype=np.uint64)), PRIME, 2)


@pytest.mark.parametrize("change", [-1, 1, -15, 15])
def test_another_number_of_bytes_is_refused(change):
    with pytest.raises(ProtocolError, match="a ciphertext has 30 bytes, got"):
        from_wire(bytes(30 + change), PRIME, 4)


def test_pieces_are_whole_or_refused():
    assert [bytes(piece) for piece in split(b"abcd", 2)] == [b"ab", b"cd"]
    with pytest.raises(ProtocolError, match="not a whole number"):
        list(split(b"abcde", 2))


@pytest.mark.parametrize("scheme", ["bfv", "ckks"])
def test_adding_residues_is_the_librarys_own_addition(scheme):
    """To the bit: the evaluator's sum, serialised, has exactly these coefficients."""
    if scheme == "bfv":
        context = ts.context(ts.SCHEME_TYPE.BFV, 8192, 17592186028033, coeff_mod_bit_sizes=[60, 60], n_threads=1)
        one, two = ts.bfv_vector(context, [5, -7]), ts.bfv_vector(context, [1, 2])
    else:
        context = ts.context(ts.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[60, 60], n_threads=1)
        context.global_scale = 2.0**20
        one, two = ts.ckks_vector(context, [5.0, -7.0]), ts.ckks_vector(context, [1.0, 2.0])
    total = coefficients(one).copy()
    add_into(total, coefficients(two), PRIME)

    assert (total == coefficients(one + two)).all()


def coefficients(vector) -> np.ndarray:
    """Return the coefficients in what our own TenSEAL has just written."""
    (ciphertext,) = seal_format.vector_ciphertexts(vector.serialize())
    return seal_format.strip_ciphertext(ciphertext)[1]
