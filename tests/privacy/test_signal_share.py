"""How much of the attainable signal a plan has: against figures that were derived by hand, and by its definition."""

import math

import pytest

from fedcollm_privacy.calibrate import noise_multiplier_for
from fedcollm_privacy.signal_share import SignalShare, signal_share


def of(epsilon: float, rate: float, steps: int) -> SignalShare:
    noise = noise_multiplier_for(epsilon=epsilon, delta=1e-5, sampling_rate=rate, steps=steps)
    return signal_share(epsilon=epsilon, delta=1e-5, sampling_rate=rate, steps=steps, noise_multiplier=noise)


@pytest.mark.parametrize(
    ("epsilon", "rate", "steps", "share"),
    [(8.0, 0.05, 40, 0.31), (8.0, 0.2, 40, 0.71), (8.0, 0.05, 400, 0.66), (3.0, 0.05, 40, 0.48), (3.0, 0.2, 40, 0.86)],
)
def test_shares_are_those_that_were_measured_apart(epsilon: float, rate: float, steps: int, share: float) -> None:
    assert of(epsilon, rate, steps).share == pytest.approx(share, abs=0.01)


def test_full_batches_have_all_of_it_whatever_the_number_of_steps() -> None:
    assert of(8.0, 1.0, 1).share == pytest.approx(1.0)
    assert of(8.0, 1.0, 40).share == pytest.approx(1.0, abs=0.01)


def test_a_poor_plan_is_told_the_least_rate_that_is_enough() -> None:
    found = of(8.0, 0.05, 40)

    assert found.better_rate == 0.2
    assert found.better_share == pytest.approx(of(8.0, 0.2, 40).share)


def test_a_good_plan_is_told_nothing() -> None:
    assert of(8.0, 0.5, 40).better_rate is None


def test_less_noise_than_needed_is_no_more_than_the_whole() -> None:
    found = signal_share(epsilon=8.0, delta=1e-5, sampling_rate=1.0, steps=1, noise_multiplier=1e-3)

    assert found.share == 1.0
    assert math.isfinite(found.share)


def test_a_rate_outside_its_range_is_refused() -> None:
    with pytest.raises(ValueError, match="sampling_rate"):
        signal_share(epsilon=8.0, delta=1e-5, sampling_rate=1.5, steps=1, noise_multiplier=1.0)
