"""Floats in signed and hashed objects: as the shortest decimal string that reads back to the same binary64."""

import math


def to_decimal(value: float) -> str:
    """Return the shortest decimal string that reads back to `value`; infinities and NaN are refused (`ValueError`)."""
    if not math.isfinite(value):
        raise ValueError(f"only finite numbers have a decimal form, got {value!r}")
    return repr(float(value))


def parse_decimal(text: object) -> float:
    """Read what `to_decimal` wrote; any other spelling is refused (`ValueError`), so one value has one hash."""
    if not isinstance(text, str):
        raise ValueError(f"expected a decimal string, got {text!r}")
    value = float(text)
    if not math.isfinite(value) or repr(value) != text:
        raise ValueError(f"expected the decimal string {value!r}, got {text!r}")
    return value
