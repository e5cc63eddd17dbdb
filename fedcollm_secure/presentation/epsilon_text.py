"""How ε is written for people: rounded towards the careful side, and never as 0.00 where there is some."""

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, localcontext


def spent(epsilon: float, decimals: int = 2) -> str:
    """What was spent of a budget, rounded up: `6.04`; below 0.1 to two digits that count, `0.00013`."""
    return _rounded(epsilon, decimals, ROUND_CEILING)


def left(epsilon: float, decimals: int = 2) -> str:
    """What is left of a budget, rounded down."""
    return _rounded(epsilon, decimals, ROUND_FLOOR)


def allowed(epsilon: float) -> str:
    """A budget, rounded down; a whole number stays one."""
    return left(epsilon).removesuffix(".00")


def _rounded(epsilon: float, decimals: int, rounding: str) -> str:
    exact = Decimal(str(epsilon))
    if not exact.is_finite():  # the price of next to no noise
        return "∞"
    if 0 < exact < Decimal("0.1"):
        return f"{float(exact.quantize(Decimal(1).scaleb(exact.adjusted() - 1), rounding=rounding)):g}"
    with localcontext(prec=400):  # the longest binary64 has 309 digits before its point
        return f"{exact.quantize(Decimal(1).scaleb(-decimals), rounding=rounding):f}"
