"""How much of what an ε could buy a plan of DP-SGD buys.

T steps of Poisson rate q add up T·q·N clipped gradients at most, against noise √T·σ·C: the signal is √T·q/σ, in
units of N. With every record in every step (q = 1) it is 1/σ₁ whatever T, σ₁ the noise multiplier of a single release
at the same (ε, δ): the noise of T full batches grows with √T. That is the most there is to have, and a plan has

    share = √T · q · σ₁ / σ(q, T)                                                              (0, 1]

Source: by the definition of the two noise multipliers, each from PLD; cf. De et al. 2022, arXiv 2204.13650, on how
large batches should be.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from fedcollm_privacy import validate
from fedcollm_privacy.calibrate import noise_multiplier_for

LADDER = (0.05, 0.1, 0.2, 0.3, 0.5, 1.0)
"""Sampling rates that are tried for a better plan."""
ENOUGH = 0.7


@dataclass(frozen=True, kw_only=True)
class SignalShare:
    """The share of a plan, and a sampling rate with which as many steps would have `better_share`.

    `better_rate` is the least of `LADDER` above the plan's own that brings `ENOUGH`, or the whole; None where the plan
    has that already. It reads better_rate / sampling_rate times as many records.
    """

    share: float
    better_rate: float | None
    better_share: float | None


def signal_share(
    *, epsilon: float, delta: float, sampling_rate: float, steps: int, noise_multiplier: float
) -> SignalShare:
    """Return the share of the attainable signal that `steps` steps at (`epsilon`, `delta`) have.

    Raises: ValueError for a parameter outside its range, or a target that no noise meets.
    """
    validate.rate(sampling_rate=sampling_rate)
    validate.positive(noise_multiplier=noise_multiplier)
    single = noise_multiplier_for(epsilon=epsilon, delta=delta, sampling_rate=1.0, steps=1)

    def share(rate: float, noise: float) -> float:
        return min(1.0, math.sqrt(steps) * rate * single / noise)

    own = share(sampling_rate, noise_multiplier)
    for rate in LADDER if own < ENOUGH else ():
        if rate > sampling_rate:
            noise = noise_multiplier_for(epsilon=epsilon, delta=delta, sampling_rate=rate, steps=steps)
            if share(rate, noise) >= ENOUGH or rate == LADDER[-1]:
                return SignalShare(share=own, better_rate=rate, better_share=share(rate, noise))
    return SignalShare(share=own, better_rate=None, better_share=None)
