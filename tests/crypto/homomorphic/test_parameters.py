"""Parameters: what the standard's table allows, what decrypts exactly, and what a manifest names."""

from dataclasses import replace

import pytest
import tenseal.sealapi as sealapi

from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.homomorphic.parameters import (
    PLAIN_MODULI,
    QUANTUM_128,
    STANDARD_128,
    STANDARD_192,
    Bfv,
    Ckks,
    Lattice,
    read_scheme,
)


@pytest.mark.parametrize(
    ("table", "level"),
    [(STANDARD_128, sealapi.SEC_LEVEL_TYPE.TC128), (STANDARD_192, sealapi.SEC_LEVEL_TYPE.TC192)],
)
def test_the_tables_are_the_librarys(table, level):
    assert {degree: sealapi.CoeffModulus.MaxBitCount(degree, level) for degree in table} == table


def test_the_quantum_table_is_never_above_the_classical_one():
    assert all(QUANTUM_128[degree] < bits for degree, bits in STANDARD_128.items())


@pytest.mark.parametrize("bits", PLAIN_MODULI)
def test_plain_moduli_are_the_librarys(bits):
    assert sealapi.PlainModulus.Batching(8192, bits).value() == PLAIN_MODULI[bits]


@pytest.mark.parametrize(
    ("degree", "primes", "message"),
    [
        (4096, (60, 60), "less than 128 bits of security: at most 109"),
        (8000, (60, 60), "degree must be one of"),
        (8192, (60,), "primes must be two"),
        (8192, (60, 60, 60), "primes must be two"),
        (8192, (50, 50), "two of 60 bits"),
        (32768, (60, 61), "two of 60 bits"),
    ],
)
def test_a_weak_or_useless_lattice_is_refused(degree, primes, message):
    with pytest.raises(ValueError, match=message):
        Lattice(degree=degree, primes=primes)


def test_the_default_lattice_says_its_level():
    assert Lattice().security == "192 bits classical, 128 against quantum computers"


def test_a_plain_modulus_without_batching_is_refused():
    with pytest.raises(ValueError, match="plain_bits must be one of"):
        Bfv(plain_bits=45)
    with pytest.raises(ValueError, match="degree at most 8192"):
        Bfv(lattice=Lattice(degree=16384))


@pytest.mark.parametrize("scheme", [Bfv(), Ckks(scale_bits=21)])
def test_a_hundred_silos_decrypt_exactly_and_too_many_do_not(scheme):
    scheme.require_exact(100)
    with pytest.raises(ValueError, match="fewer silos"):
        scheme.require_exact(10_000_000)


def test_a_scale_without_room_is_refused():
    with pytest.raises(ValueError, match="scale_bits must be in"):
        Ckks(scale_bits=17)
    with pytest.raises(ValueError, match="scale_bits must be in"):
        Ckks(scale_bits=39)


@pytest.mark.parametrize("scheme", [Bfv(), Bfv(plain_bits=46), Ckks(), Ckks(scale_bits=22)])
def test_parameters_survive_the_wire(scheme):
    assert read_scheme(scheme.to_body()) == scheme


def test_every_parameter_is_in_the_hash():
    schemes = [Bfv(), Bfv(plain_bits=46), Ckks(), Ckks(scale_bits=22), Ckks(lattice=Lattice(degree=16384))]

    assert len({scheme.hash for scheme in schemes}) == len(schemes)
    assert replace(Bfv()).hash == Bfv().hash


@pytest.mark.parametrize(
    "change",
    [
        {"scheme": "bgv"},
        {"degree": 4096},
        {"primes": [60]},
        {"primes": ["60", "60"]},
        {"plain_modulus": "17"},
        {"more": 1},
    ],
)
def test_foreign_parameters_are_refused(change):
    with pytest.raises(ProtocolError, match="he-parameters"):
        read_scheme(Bfv().to_body() | change)
