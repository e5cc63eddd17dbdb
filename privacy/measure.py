"""Print what noise and calibration cost: `python privacy/measure.py`. A step: `fedcollm-secure bench dpsgd`."""
# ruff: noqa: T201  # printing is what this script is for

from __future__ import annotations

import time
from collections.abc import Callable

from fedcollm_privacy.calibrate import noise_multiplier_for
from fedcollm_privacy.noise import gaussian


def main() -> None:
    """Print CPU seconds."""
    target = {"epsilon": 8.0, "delta": 1e-5, "sampling_rate": 0.05}
    print(f"noise for 300,000 coordinates: {_seconds(lambda: gaussian((300_000,), 1.0)):.3f} s")
    print(f"calibration to ε = 8, 100 steps: {_seconds(lambda: noise_multiplier_for(**target, steps=100)):.2f} s")


def _seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


if __name__ == "__main__":
    main()
