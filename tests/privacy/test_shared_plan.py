"""Shared noise: its distance from a Gaussian, its price against sums over all integers, rounding and the ring."""

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import norm

from fedcollm_privacy.ledger import Ledger
from fedcollm_privacy.plan import RecordPlan
from fedcollm_privacy.plans import read_plan
from fedcollm_privacy.shared_plan import SharedPlan, distance_from_rounded_gaussian

PLAN = SharedPlan.calibrated(
    epsilon=2.0,
    delta=1e-5,
    clip_norm=1.0,
    sampling_rate=1.0,
    rounds=3,
    batch_size=1,
    unit="silo",
    grid=2.0**-20,
    rounding=2.0**-21,
    dimension=1000,
    silos=10,
    honest=6,
)
RECORDS = replace(PLAN, unit="record", sampling_rate=0.1, batch_size=8)


def integers(variance: int, shares: int) -> np.ndarray:
    """Return the probabilities of a sum of shares N_ℤ(0, variance), on −reach … reach."""
    reach = 60 * math.isqrt(variance * shares) + 60
    one = np.exp(-(np.arange(-reach, reach + 1.0) ** 2) / (2 * variance))
    mass = one / one.sum()
    for _ in range(shares - 1):
        mass = np.convolve(mass, one / one.sum(), mode="same")
    return mass


@pytest.mark.parametrize(("variance", "shares"), [(9, 1), (9, 3), (100, 1), (100, 4), (400, 2)])
def test_distance_bounds_that_of_a_rounded_gaussian(variance: int, shares: int) -> None:
    mass = integers(variance, shares)
    reach, std = len(mass) // 2, math.sqrt(variance * shares)
    edges = np.arange(-reach, reach + 2) - 0.5
    rounded = np.diff(norm.cdf(edges / std))
    actual = np.abs(mass - rounded).sum() / 2

    assert actual <= distance_from_rounded_gaussian(1, variance, shares) <= 3 * actual


@pytest.mark.parametrize(("variance", "shares"), [(9, 1), (100, 1), (400, 4)])
def test_distance_of_many_entries_bounds_what_their_hellinger_distance_gives(variance: int, shares: int) -> None:
    mass = integers(variance, shares)
    reach, std, entries = len(mass) // 2, math.sqrt(variance * shares), 5000
    rounded = np.diff(norm.cdf((np.arange(-reach, reach + 2) - 0.5) / std))
    squared = float(((np.sqrt(mass) - np.sqrt(rounded)) ** 2).sum()) / 2
    of_all = math.sqrt(-math.expm1(2 * entries * math.log1p(-squared)))  # TV ≤ √(1 − (1 − H²)^2d)
    bound = distance_from_rounded_gaussian(entries, variance, shares)

    assert of_all <= bound <= 6 * of_all
    assert bound < entries * 0.0202 / std**2


@pytest.mark.parametrize("rate", [1.0, 0.2])
def test_pld_of_the_plan_bounds_what_a_sum_over_all_integers_gives(rate: float) -> None:
    """One round, one entry: δ(ε) = Σ max(0, P[y] − e^ε P'[y]) both ways, with the unit's x = Δ in a batch or not."""
    shares, step = 3, 40
    plan = SharedPlan.calibrated(
        epsilon=1.0,
        delta=1e-3,
        clip_norm=1.0,
        sampling_rate=rate,
        rounds=1,
        batch_size=1,
        unit="record",
        grid=1 / step,
        rounding=1e-6,
        dimension=1,
        silos=5,
        honest=shares,
    )
    without = integers(plan.share_variance, shares)
    present = np.roll(without, step)
    with_it = (1 - rate) * without + rate * present
    epsilon = plan.epsilon_after(1)
    worst = max(np.maximum(p - math.exp(epsilon) * q, 0).sum() for p, q in ((with_it, without), (without, with_it)))

    assert 0.5e-3 < worst <= 1e-3


def test_noise_is_calibrated_to_the_honest_shares_alone() -> None:
    total = PLAN.share_variance * PLAN.honest

    assert math.sqrt(total) * PLAN.grid == pytest.approx(PLAN.noise_multiplier * PLAN.clip_norm, rel=1e-6)
    fewer = replace(PLAN, honest=2)
    assert fewer.share_variance == pytest.approx(3 * PLAN.share_variance, rel=1e-6)


def test_too_little_noise_is_refused() -> None:
    with pytest.raises(ValueError, match="above the plan's epsilon 2"):
        replace(PLAN, noise_multiplier=PLAN.noise_multiplier * 0.99)


@pytest.mark.parametrize("seed", range(5))
def test_rounding_never_lengthens_a_silos_update_beyond_the_clip_norm(seed: int) -> None:
    coarse = replace(PLAN, grid=2.0**-8, rounding=2.0**-9, delta=0.4, dimension=100)
    vector = np.random.default_rng(seed).standard_normal(100)
    vector *= coarse.tightened_clip_norm / np.linalg.norm(vector)

    assert np.linalg.norm(np.rint(vector / coarse.grid)) * coarse.grid <= coarse.clip_norm


def test_without_tightening_rounding_would_lengthen_an_update() -> None:
    coarse = replace(PLAN, grid=2.0**-8, rounding=2.0**-9, delta=0.4, dimension=100)

    def rounded(length: float) -> float:
        return float(np.linalg.norm(np.rint(np.full(100, length / 10) / coarse.grid)) * coarse.grid)

    assert rounded(coarse.clip_norm) > coarse.clip_norm
    assert rounded(coarse.tightened_clip_norm) <= coarse.clip_norm


def test_a_record_changes_two_roundings() -> None:
    lost = RECORDS.clip_norm - RECORDS.tightened_clip_norm

    assert lost == pytest.approx(2 * math.sqrt(1000) * RECORDS.rounding * 8)
    assert RECORDS.sensitivity == 1 / 8


def test_a_grid_that_eats_the_clip_norm_is_refused() -> None:
    with pytest.raises(ValueError, match="less than half of clip_norm"):
        replace(PLAN, rounding=0.1)


def test_a_grid_that_is_too_coarse_for_a_gaussian_is_refused() -> None:
    with pytest.raises(ValueError, match="more than half of delta"):
        replace(PLAN, grid=0.01, rounding=1e-9)


def test_allowance_is_passed_with_probability_below_two_to_the_minus_forty() -> None:
    std = math.sqrt(PLAN.share_variance * PLAN.silos)
    entries = PLAN.dimension * PLAN.rounds

    assert math.log(2 * entries) + norm.logsf(PLAN.noise_allowance / std) < -40 * math.log(2)
    assert PLAN.noise_allowance < 12 * std


def test_signal_to_noise_is_what_a_direct_count_gives() -> None:
    noise = np.random.default_rng(0).standard_normal((20, PLAN.dimension)) * math.sqrt(PLAN.share_variance * PLAN.silos)
    ratio = PLAN.silos * PLAN.clip_norm / PLAN.grid / np.linalg.norm(noise, axis=1).mean()

    assert PLAN.signal_to_noise == pytest.approx(ratio, rel=0.02)


def test_a_plan_is_read_back_and_told_from_the_other_kind() -> None:
    own = RecordPlan(
        epsilon=8.0,
        delta=1e-5,
        clip_norm=1.0,
        sampling_rate=0.1,
        noise_multiplier=2.0,
        steps_per_round=1,
        rounds=1,
        batch_size=4,
    )

    assert read_plan(PLAN.as_json()) == PLAN
    assert read_plan(own.as_json()) == own
    assert PLAN.digest() != RECORDS.digest()
    with pytest.raises(ValueError, match="exactly the keys"):
        read_plan({**PLAN.as_json(), "surplus": 1})


def test_a_ledger_holds_a_plan_of_shared_noise(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    ledger = Ledger.open(path, population="p", epsilon=2.0, delta=1e-5, simulated=True)
    ledger.reserve(session="s", round=1, plan=PLAN)
    ledger.close()
    again = Ledger.open(path, population="p", epsilon=2.0, delta=1e-5, simulated=True)
    spent = again.epsilon_spent()
    again.close()

    assert spent == pytest.approx(PLAN.epsilon_after(1))
    assert 0 < spent < 2
