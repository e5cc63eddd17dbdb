import itertools
import secrets

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.shamir import PRIME, SHARE_BYTES, combine, split


@settings(max_examples=50)
@given(st.binary(min_size=32, max_size=32), st.integers(1, 12), st.data())
def test_any_threshold_of_shares_gives_the_secret(secret: bytes, n: int, data: st.DataObject):
    threshold = data.draw(st.integers(1, n))
    shares = split(secret, threshold, range(1, n + 1), secrets.token_bytes)

    chosen = data.draw(st.permutations(sorted(shares)))[: data.draw(st.integers(threshold, n))]

    assert combine({point: shares[point] for point in chosen}, threshold) == secret


def test_every_subset_of_a_small_sharing_agrees():
    shares = split(b"s" * 32, 3, range(1, 6), secrets.token_bytes)

    secrets_found = {combine({p: shares[p] for p in subset}, 3) for subset in itertools.combinations(shares, 3)}

    assert secrets_found == {b"s" * 32}


def test_one_share_less_fits_every_secret():
    """With t − 1 shares fixed, each secret has exactly one polynomial: the shares alone say nothing."""
    shares = split(b"a" * 32, 3, [1, 2, 3], secrets.token_bytes)
    first, second = (int.from_bytes(shares[p], "big") for p in (1, 2))

    for guess in (b"a" * 32, b"b" * 32, bytes(32)):
        at_zero = int.from_bytes(guess, "big")
        third = (at_zero - 3 * first + 3 * second) % PRIME  # f(0) = 3f(1) − 3f(2) + f(3)
        fitting = {1: shares[1], 2: shares[2], 3: third.to_bytes(SHARE_BYTES, "big")}
        assert combine(fitting, 3) == guess


def test_shares_of_two_secrets_do_not_combine_into_either():
    ones, twos = (split(bytes([b]) * 32, 2, [1, 2], secrets.token_bytes) for b in (1, 2))

    with pytest.raises(ProtocolError, match="do not belong to one secret"):
        combine({1: ones[1], 2: twos[2]}, 2)


@pytest.mark.parametrize("share", [PRIME.to_bytes(66, "big"), b"\xff" * 66, bytes(65), bytes(67), b""])
def test_a_share_outside_the_field_is_refused(share: bytes):
    with pytest.raises(ProtocolError, match="not an element of the field"):
        combine({1: share}, 1)


def test_a_coefficient_outside_the_field_is_drawn_again():
    draws = iter([b"\xff" * 66, (5).to_bytes(66, "big")])

    shares = split(bytes(32), 2, [1, 2], lambda _: next(draws))

    assert [int.from_bytes(shares[p], "big") for p in (1, 2)] == [5, 10]


@pytest.mark.parametrize(
    ("secret", "threshold", "points", "message"),
    [
        (bytes(31), 1, [1], "32 bytes"),
        (bytes(32), 0, [1], "threshold"),
        (bytes(32), 3, [1, 2], "threshold"),
        (bytes(32), 1, [1, 1], "distinct points"),
        (bytes(32), 1, [0, 1], "start at 1"),
    ],
)
def test_a_sharing_without_meaning_is_misuse(secret: bytes, threshold: int, points: list[int], message: str):
    with pytest.raises(ValueError, match=message):
        split(secret, threshold, points, secrets.token_bytes)


def test_too_few_shares_are_misuse():
    with pytest.raises(ValueError, match="2 shares are needed, got 1"):
        combine({1: bytes(66)}, 2)
