"""A key cannot be computed from rounded sums, and can from unrounded ones: A8."""

import numpy as np
import pytest
from numpy.typing import NDArray

from fedcollm_crypto.homomorphic import trustee
from fedcollm_secure.assurance.attacks import key_recovery
from fedcollm_secure.assurance.attacks.twins.ring_polynomials import Ring, coefficients_to_slots, slots_to_coefficients


def test_two_unrounded_decryptions_give_the_whole_key_away() -> None:
    outcome = key_recovery.against_twin()

    assert outcome.succeeded
    assert outcome.figures["key_coefficients_ternary"] == 8192
    assert outcome.figures["max_abs_error"] < 1e-6


def test_rounded_sums_give_nothing_of_it_away() -> None:
    outcome = key_recovery.against_us()

    assert not outcome.succeeded
    assert outcome.figures["key_coefficients_ternary"] == 0
    assert outcome.figures["wrong_integers"] == 0
    assert 0 < outcome.figures["largest_noise"] < trustee.LARGEST_ROUNDING


def as_decoded(decoded: NDArray[np.float64]) -> NDArray[np.float64]:
    """Stand in for rounding."""
    return decoded


def test_without_rounding_our_own_trustee_would_give_its_key_away(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(key_recovery, "exact_integers", as_decoded)

    assert key_recovery.against_us().figures["key_coefficients_ternary"] == 8192


def test_the_rings_transform_multiplies_and_comes_back() -> None:
    ring, generator = Ring(16, 97), np.random.default_rng(1)
    one, two = ([int(x) for x in generator.integers(-1, 2, 16)] for _ in range(2))
    product = [0] * 16
    for i, a in enumerate(one):
        for j, b in enumerate(two):
            product[(i + j) % 16] += (1 if i + j < 16 else -1) * a * b  # X^16 = -1
    values = [a * b % 97 for a, b in zip(ring.forward(one), ring.forward(two), strict=True)]

    assert ring.backward(ring.forward(one)) == one
    assert ring.backward(values) == product


def test_places_of_inverses_lie_opposite() -> None:
    ring = Ring(16, 97)
    values = ring.forward([0, 1, *[0] * 14])  # X itself: each place shows its root

    assert all(values[i] * values[15 - i] % 97 == 1 for i in range(16))


def test_slots_and_coefficients_are_each_others_inverse() -> None:
    slots = np.random.default_rng(1).normal(size=32)

    assert np.allclose(coefficients_to_slots(slots_to_coefficients(slots)), slots, atol=1e-12)
