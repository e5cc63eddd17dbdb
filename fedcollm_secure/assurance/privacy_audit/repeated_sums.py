"""A lower bound on ε from the mechanism itself, drawn again and again on its worst pair of inputs.

Where a silo is the unit there are too few units for canaries; but no training needs to be repeated. Neighbours are one
silo's updates and zeros. They differ most in an update of full length along one entry, in every round:

    H₁   Σ_rounds (reach + Σ_honest N_ℤ(0, v))      reach: the length of what a silo encodes when it trains far
    H₀   Σ_rounds           Σ_honest N_ℤ(0, v)      (other silos' updates and colluders' shares are known: left out)

Entries of one silo's noise are independent, so that N entries of a long noise are N draws of the one that matters. Half
of them choose a threshold, the other half test it: "H₁" above it. With (ε, δ)-DP, P₁ ≤ e^ε·P₀ + δ, hence

    ε ≥ ln((P₁ − δ) / P₀)      P₁ from below and P₀ from above, each by Clopper and Pearson at half the error
"""

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import beta

from fedcollm_privacy.canaries import Guesses
from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure.assurance.privacy_audit.neighbouring_units import Float64
from fedcollm_secure.assurance.privacy_audit.observed_shares import Uploads
from fedcollm_secure.assurance.privacy_audit.one_run_audit import Observation

REPEATS = 100_000
"""Draws of the mechanism on each of the two inputs: an observer who never errs refutes claims up to 9.5."""
THRESHOLDS = 100


def repeated_sums(
    uploads: Uploads, honest: Sequence[str], reach: float, plan: SharedPlan, confidence: float
) -> Observation:
    """Return what a test of the sum proves; `reach` in steps of the grid.

    Guarantee: where the sums are (ε, plan.delta)-DP for a silo, the bound exceeds ε with probability at most
    1 − `confidence`.
    """
    with_update = plan.rounds * reach + _noise(uploads, honest, plan.rounds)
    without = _noise(uploads, honest, plan.rounds)
    half = REPEATS // 2
    threshold = _best_threshold(with_update[:half], without[:half], plan.delta, confidence)
    above, wrong = (int((values[half:] > threshold).sum()) for values in (with_update, without))
    return Observation(
        point="sum",
        guesses=Guesses(canaries=2 * half, made=2 * half, right=above + half - wrong),
        lower_bound=epsilon_from_rates(above, wrong, half, delta=plan.delta, confidence=confidence),
    )


def largest_refutable(plan: SharedPlan, confidence: float) -> float:
    """Return the bound if the observer never erred."""
    return epsilon_from_rates(REPEATS // 2, 0, REPEATS // 2, delta=plan.delta, confidence=confidence)


def epsilon_from_rates(above: int, wrong: int, trials: int, *, delta: float, confidence: float) -> float:
    """Return ln((P₁ − δ)/P₀), at least 0, for P₁ ≥ `above` / trials and P₀ ≤ `wrong` / trials at this confidence."""
    error = (1 - confidence) / 2
    least = float(beta.ppf(error, above, trials - above + 1)) if above else 0.0
    most = float(beta.ppf(1 - error, wrong + 1, trials - wrong)) if wrong < trials else 1.0
    return max(0.0, math.log((least - delta) / most)) if least > delta else 0.0


def _best_threshold(with_update: Float64, without: Float64, delta: float, confidence: float) -> float:
    """Return the threshold of the largest bound on values that are not tested any more."""
    # The ratio grows along the upper tail; further up too few draws are left to prove it.
    candidates = np.quantile(np.concatenate((with_update, without)), 1 - np.geomspace(5e-3, 0.9, THRESHOLDS))

    def bound(threshold: float) -> float:
        above, wrong = (int((values > threshold).sum()) for values in (with_update, without))
        return epsilon_from_rates(above, wrong, len(without), delta=delta, confidence=confidence)

    return max((float(each) for each in candidates), key=bound)


def _noise(uploads: Uploads, honest: Sequence[str], rounds: int) -> Float64:
    """Return float64[REPEATS]: sums over rounds of the honest silos' shares, each drawn as that silo draws it."""
    total = np.zeros(REPEATS)
    for _ in range(rounds):
        for name in honest:
            share = uploads.sources[name](REPEATS)
            if share is not None:
                total += share
    return total
