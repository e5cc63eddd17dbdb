"""The inverse of an accountant: the smallest noise that meets a target, rounded to the private side.

RDP, which is cheap and looser than PLD, finds a σ that is enough; from there PLD bisects down. Every search is bounded:
no request takes more than `MOST_EVALUATIONS` figures of an accountant.
"""

import math
from typing import TypeVar

from fedcollm_privacy import validate
from fedcollm_privacy.accountant import Step, pld_epsilon, rdp_epsilon

# σ is returned as a multiple of this, rounded up: short in logs, and far finer than anything that shows in utility.
RESOLUTION = 1e-4
_SMALLEST, _LARGEST = 0.01, 1e6
MOST_EPSILON = 1e6
"""Beyond any promise: e^ε overflows long before, and whoever wants it wants no privacy."""
MOST_STEPS = 1_000_000
"""PLD composes no more in bearable time; a run takes hundreds."""
MOST_EVALUATIONS = 120


def noise_multiplier_for(*, epsilon: float, delta: float, sampling_rate: float, steps: int) -> float:
    """Return σ for which `steps` Poisson-sampled Gaussian steps are (`epsilon`, `delta`)-DP by PLD.

    Guarantee: `PLDAccountant` prices the returned σ at most `epsilon`; a σ smaller by 0.02 % (or 1e-4) would cost more.

    Raises:
        ValueError: a parameter outside its range, an ε above 1e6, more than a million steps, or a target that no σ up
            to 1e6 meets.
    """
    validate.positive(epsilon=epsilon)
    validate.probability(delta=delta)
    validate.rate(sampling_rate=sampling_rate)
    validate.integer(steps=steps, at_least=1)
    if epsilon > MOST_EPSILON:
        raise ValueError(f"epsilon must be at most {MOST_EPSILON:g}, got {epsilon:g}: it would protect nothing")
    check_steps(steps)

    def enough(multiple: int) -> bool:
        return _pld(multiple * RESOLUTION, sampling_rate, steps, delta) <= epsilon

    high = math.ceil(_rdp_search(epsilon, delta, sampling_rate, steps) / RESOLUTION)
    while not enough(high):  # only where the PLD's grid is coarser than the target
        high = _doubled(high, most=_LARGEST / RESOLUTION, epsilon=epsilon)
    low, stride = high, max(1, high // 8)
    while low and enough(low):
        high, low, stride = low, max(0, low - stride), 2 * stride
    # Invariant: `high` is enough, `low` is not (σ = 0 never is).
    while high - low > max(1, high // 10_000):
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return round(high * RESOLUTION, 4)


def check_steps(steps: int) -> None:
    """Refuse more steps than the accountant composes. Raises: ValueError."""
    if steps > MOST_STEPS:
        raise ValueError(
            f"steps must be at most {MOST_STEPS:,} in all rounds, got {steps:,}: take fewer rounds or steps"
        )


def _rdp_search(epsilon: float, delta: float, sampling_rate: float, steps: int) -> float:
    """Return, within 2 %, the smallest σ that RDP accepts."""

    def enough(sigma: float) -> bool:
        kind = Step(sampling_rate=sampling_rate, noise_multiplier=sigma)
        return rdp_epsilon(((kind, steps),), delta) <= epsilon

    low, high = _SMALLEST, 1.0
    while not enough(high):
        low, high = high, _doubled(high, most=_LARGEST, epsilon=epsilon)
    while high / low > 1.02:
        middle = math.sqrt(low * high)
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


_Number = TypeVar("_Number", int, float)


def _doubled(value: _Number, *, most: float, epsilon: float) -> _Number:
    if 2 * value > most:
        raise ValueError(f"no noise multiplier up to {_LARGEST:g} gives epsilon {epsilon}: ask for a larger epsilon")
    return 2 * value


def _pld(sigma: float, sampling_rate: float, steps: int, delta: float) -> float:
    # Rounded as it will be returned: the σ that is priced is bit for bit the σ that is used.
    kind = Step(sampling_rate=sampling_rate, noise_multiplier=round(sigma, 4))
    return pld_epsilon(((kind, steps),), delta)
