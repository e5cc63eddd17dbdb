"""Shamir's secret sharing over the prime field of 2^521 − 1 (CACM 1979).

The field is wider than the 256-bit secrets, so each is one element and one share is one element of 66 bytes. Points are
places in the roster, from 1. Python integers are not constant-time: see "What is not promised" in the README.
"""

from collections.abc import Collection, Mapping
from functools import lru_cache
from typing import Annotated, TypeAlias

from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import Randomness
from fedcollm_crypto.kinds import Octets

PRIME = (1 << 521) - 1
SHARE_BYTES = 66
SECRET_BYTES = 32

Share: TypeAlias = Annotated[bytes, Octets(SHARE_BYTES)]


def split(secret: bytes, threshold: int, points: Collection[int], randomness: Randomness) -> dict[int, bytes]:
    """Return one 66-byte share for each point.

    Guarantee: any `threshold` shares give the secret; fewer say nothing about it, to anybody however powerful, if the
    randomness is uniform.
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret has {SECRET_BYTES} bytes, got {len(secret)}")
    if not 1 <= threshold <= len(set(points)) == len(points):
        raise ValueError(f"a threshold in [1, {len(points)}] and distinct points are needed, got {threshold}")
    if min(points) < 1 or max(points) >= 1 << 32:
        raise ValueError("points are places in a roster: they start at 1")  # at 0 lies the secret itself
    coefficients = [int.from_bytes(secret, "big")] + [_element(randomness) for _ in range(threshold - 1)]
    return {point: _evaluate(coefficients, point).to_bytes(SHARE_BYTES, "big") for point in points}


def combine(shares: Mapping[int, bytes], threshold: int) -> bytes:
    """Return the 32-byte secret from at least `threshold` shares; of more, those at the lowest points are used.

    Raises: ValueError for too few shares; ProtocolError when a share is not a field element, or when what comes out
    isn't 32 bytes, which proves that a share is wrong. A wrong share may also give a wrong secret: compare with a
    commitment.
    """
    if len(shares) < threshold:
        raise ValueError(f"{threshold} shares are needed, got {len(shares)}")
    points = tuple(sorted(shares))[:threshold]
    values = [_field_element(shares[point]) for point in points]
    secret = sum(w * v for w, v in zip(_lagrange_at_zero(points), values, strict=True)) % PRIME
    if secret >> (8 * SECRET_BYTES):
        raise ProtocolError("the shares do not belong to one secret")
    return secret.to_bytes(SECRET_BYTES, "big")


def _element(randomness: Randomness) -> int:
    """Draw a uniform field element by rejection; only one pattern of 521 bits in 2^521 is rejected."""
    while True:
        candidate = int.from_bytes(randomness(SHARE_BYTES), "big") & PRIME
        if candidate != PRIME:
            return candidate


def _evaluate(coefficients: list[int], point: int) -> int:
    value = 0
    for coefficient in reversed(coefficients):  # Horner
        value = (value * point + coefficient) % PRIME
    return value


def _field_element(share: bytes) -> int:
    value = int.from_bytes(share, "big")
    if len(share) != SHARE_BYTES or value >= PRIME:
        raise ProtocolError("a share is not an element of the field")
    return value


@lru_cache(maxsize=64)  # all secrets of a round are combined at the same points: 10 ms once, then 0.03 ms each
def _lagrange_at_zero(points: tuple[int, ...]) -> tuple[int, ...]:
    weights: list[int] = []
    for point in points:
        numerator = denominator = 1
        for other in points:
            if other != point:
                numerator = numerator * other % PRIME
                denominator = denominator * (other - point) % PRIME
        weights.append(numerator * pow(denominator, -1, PRIME) % PRIME)
    return tuple(weights)
