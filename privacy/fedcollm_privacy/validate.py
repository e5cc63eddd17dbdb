"""Check ranges of parameters, as in `positive(clip_norm=x)`: the keyword is the name that the `ValueError` shows."""

import math


def positive(**named: float) -> None:
    """Refuse anything but positive finite numbers."""
    for name, value in named.items():
        if not (math.isfinite(value) and value > 0):
            raise ValueError(f"{name} must be a positive finite number, got {value!r}")


def rate(**named: float) -> None:
    """Refuse anything outside (0, 1]."""
    for name, value in named.items():
        if not 0 < value <= 1:
            raise ValueError(f"{name} must lie in (0, 1], got {value!r}")


def probability(**named: float) -> None:
    """Refuse anything outside (0, 1)."""
    for name, value in named.items():
        if not 0 < value < 1:
            raise ValueError(f"{name} must lie in (0, 1), got {value!r}")


def integer(*, at_least: int, **named: object) -> None:
    """Refuse anything but integers from `at_least` on; True is no integer here."""
    for name, value in named.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < at_least:
            raise ValueError(f"{name} must be an integer of at least {at_least}, got {value!r}")
