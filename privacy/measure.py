"""Print what noise and calibration cost: `python privacy/measure.py`. A step: `fedcollm-secure bench dpsgd`."""
# ruff: noqa: T201  # printing is what this script is for

from __future__ import annotations

import time
from collections.abc import Callable

from fedcollm_privacy.calibrate import noise_multiplier_for
from fedcollm_privacy.discrete import discrete_gaussian
from fedcollm_privacy.noise import gaussian
from fedcollm_privacy.shared_plan import SharedPlan


def main() -> None:
    """Print CPU seconds, and what noise in shares costs."""
    target = {"epsilon": 8.0, "delta": 1e-5, "sampling_rate": 0.05}
    print(f"noise for 300,000 coordinates: {_seconds(lambda: gaussian((300_000,), 1.0)):.3f} s")
    _print_shared()
    print(f"calibration to ε = 8, 100 steps: {_seconds(lambda: noise_multiplier_for(**target, steps=100)):.2f} s")


def _print_shared() -> None:
    """Print what noise in shares takes, and what its integers cost in δ."""
    grid = 1.0 / (2**31 - 1)
    plan = SharedPlan.calibrated(
        epsilon=8.0,
        delta=1e-5,
        clip_norm=1.0,
        sampling_rate=1.0,
        rounds=10,
        batch_size=1,
        unit="silo",
        grid=grid,
        rounding=grid / 2 + 2.0**-23,
        dimension=300_000,
        silos=10,
        honest=6,
    )
    seconds = _seconds(lambda: discrete_gaussian(plan.dimension, plan.share_variance))
    print(f"discrete noise for 300,000 coordinates: {seconds:.3f} s")
    print(f"its distance from a rounded Gaussian, a round: {plan.distance:.1e} (32-bit grid, ten silos, ε = 8)")
    print(f"signal to noise of silo_dp there, at best: {plan.signal_to_noise:.3f}")


def _seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


if __name__ == "__main__":
    main()
