"""The library's containers: read, written, and refused as soon as they are not what this version writes."""

import struct

import numpy as np
import pytest
import tenseal as ts

from fedcollm_crypto.homomorphic import seal_format
from fedcollm_crypto.homomorphic.seal_format import FormatError


@pytest.fixture(scope="module")
def context() -> ts.Context:
    return ts.context(ts.SCHEME_TYPE.BFV, 8192, 17592186028033, coeff_mod_bit_sizes=[60, 60], n_threads=1)


@pytest.fixture(scope="module")
def ciphertext(context) -> bytes:
    (seal,) = seal_format.vector_ciphertexts(ts.bfv_vector(context, list(range(8192))).serialize())
    return seal


def test_a_ciphertext_wrapped_again_decrypts(context, ciphertext):
    form, residues = seal_format.strip_ciphertext(ciphertext)
    message = seal_format.vector_bytes([seal_format.wrap_ciphertext(form, residues)], 8192, None)

    assert (form.polynomials, form.degree, form.primes, form.ntt) == (2, 8192, 1, False)
    assert ts.bfv_vector_from(context, message).decrypt() == list(range(8192))


def test_a_wrapped_ciphertext_is_read_as_it_was_written(ciphertext):
    form, residues = seal_format.strip_ciphertext(ciphertext)
    again, same = seal_format.strip_ciphertext(seal_format.wrap_ciphertext(form, residues))

    assert again == form
    assert (same == residues).all()


def test_a_public_key_takes_the_place_of_another(context):
    other = ts.context(ts.SCHEME_TYPE.BFV, 8192, 17592186028033, coeff_mod_bit_sizes=[60, 60], n_threads=1)
    flags = {"save_secret_key": False, "save_galois_keys": False, "save_relin_keys": False}
    key = seal_format.context_key(context.serialize(**flags))
    changed = ts.context_from(seal_format.with_public_key(other.serialize(**flags), key), n_threads=1)
    vector = ts.bfv_vector_from(context, ts.bfv_vector(changed, [1, 2, 3]).serialize())

    assert vector.decrypt() == [1, 2, 3]
    assert not changed.has_secret_key()


def test_another_number_of_coefficients_is_refused(ciphertext):
    form, residues = seal_format.strip_ciphertext(ciphertext)

    with pytest.raises(ValueError, match="16384 coefficients, got 16383"):
        seal_format.wrap_ciphertext(form, residues[:-1])


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (0, b"\x00\x00", "another TenSEAL is installed"),
        (3, b"\x05", "another TenSEAL is installed"),
        (5, b"\x01", "compressed with mode 1"),
        (8, struct.pack("<Q", 17), "another TenSEAL is installed"),
    ],
)
def test_a_header_of_another_version_is_refused(ciphertext, offset, value, message):
    with pytest.raises(FormatError, match=message):
        seal_format.strip_ciphertext(ciphertext[:offset] + value + ciphertext[offset + len(value) :])


def test_what_zstd_made_smaller_is_refused():
    frame = b"\x28\xb5\x2f\xfd\x20\x05" + (5 << 3 | 2 << 1 | 1).to_bytes(3, "little") + b"abcde"
    header = struct.pack("<HBBBBHQ", 0xA15E, 16, 4, 3, 2, 0, 16 + len(frame))

    with pytest.raises(FormatError, match="uniform coefficients do not allow"):
        seal_format.strip_ciphertext(header + frame)


def test_other_sizes_inside_are_refused(ciphertext):
    form, residues = seal_format.strip_ciphertext(ciphertext)
    plain = bytearray(seal_format.wrap_ciphertext(form, residues))
    plain[16 + 32 + 1] = 3  # polynomials

    with pytest.raises(FormatError, match="a ciphertext of 24576 words was expected, got 16384"):
        seal_format.strip_ciphertext(bytes(plain))


def test_a_message_without_a_key_is_refused():
    with pytest.raises(FormatError, match="no public key"):
        seal_format.context_key(b"")
    with pytest.raises(FormatError, match="wire type 5"):
        seal_format.context_key(b"\x0d\x00\x00\x00\x00")


def test_no_ciphertext_is_ever_compressed(context):
    """60-bit residues fill their bytes so well that zstd stores them: a hundred ciphertexts all come out whole."""
    zeros = np.zeros(8192, dtype=np.int64)
    for _ in range(100):
        (seal,) = seal_format.vector_ciphertexts(ts.bfv_vector(context, zeros).serialize())
        assert seal_format.strip_ciphertext(seal)[0].words == 16384
