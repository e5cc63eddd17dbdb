import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcollm_privacy import calibrate
from fedcollm_privacy.accountant import PLDAccountant, Step
from fedcollm_privacy.calibrate import MOST_EVALUATIONS, noise_multiplier_for
from fedcollm_privacy.event import PoissonGaussian

TARGETS = [
    (8.0, 1e-5, 0.05, 100),
    (1.0, 1e-5, 0.01, 1000),
    (3.0, 1e-6, 0.2, 40),
    (0.05, 1e-6, 0.01, 1000),
    (8.0, 1e-5, 1.0, 50),
    (8.0, 1e-5, 0.001, 100_000),
    (300.0, 1e-5, 0.5, 10),
]


def price(noise: float, delta: float, rate: float, steps: int) -> float:
    accountant = PLDAccountant()
    accountant.spend(PoissonGaussian(sampling_rate=rate, noise_multiplier=noise, steps=steps))
    return accountant.epsilon(delta)


@pytest.mark.parametrize(("epsilon", "delta", "rate", "steps"), TARGETS)
def test_calibration_is_never_above_its_target_and_close_to_it(
    epsilon: float, delta: float, rate: float, steps: int
) -> None:
    noise = noise_multiplier_for(epsilon=epsilon, delta=delta, sampling_rate=rate, steps=steps)

    assert price(noise, delta, rate, steps) <= epsilon
    assert price(noise - max(1e-4, 2e-4 * noise), delta, rate, steps) > epsilon


def test_calibration_prices_few_candidates(monkeypatch: pytest.MonkeyPatch) -> None:
    from fedcollm_privacy import calibrate

    priced: list[object] = []
    real = calibrate.pld_epsilon
    monkeypatch.setattr(calibrate, "pld_epsilon", lambda steps, delta: priced.append(steps) or real(steps, delta))
    noise_multiplier_for(epsilon=2.0, delta=1e-5, sampling_rate=0.03, steps=500)

    assert 0 < len(priced) <= 25  # of about 0.1 s each


def test_same_target_gives_same_noise() -> None:
    first, second = (
        noise_multiplier_for(epsilon=2, delta=1e-5, sampling_rate=0.1, steps=10),
        noise_multiplier_for(epsilon=2.0, delta=1e-5, sampling_rate=0.1, steps=10),
    )

    assert first == second


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epsilon": 0.0}, "epsilon"),
        ({"epsilon": float("inf")}, "epsilon"),
        ({"delta": 1.0}, "delta"),
        ({"sampling_rate": 0.0}, "sampling_rate"),
        ({"sampling_rate": 1.01}, "sampling_rate"),
        ({"steps": 0}, "steps"),
        ({"epsilon": 1e-9, "delta": 1e-12, "sampling_rate": 1.0}, "larger epsilon"),
    ],
)
def test_impossible_target_is_refused(changes: dict[str, float], message: str) -> None:
    target = {"epsilon": 1.0, "delta": 1e-5, "sampling_rate": 0.1, "steps": 10} | changes

    with pytest.raises(ValueError, match=message):
        noise_multiplier_for(**target)  # type: ignore[arg-type]  # wrong on purpose


HOSTILE = st.sampled_from([1e-300, 1e-12, 1e-4, 0.5, 8.0, 99.0, 101.0, 1e4, 1e6, 1e12, 1e300])


def _cheap(spent: list[int], looser: float) -> Callable[[tuple[tuple[Step, int], ...], float], float]:
    """Return an accountant's figure without its work, falling in σ as the real one does, and counted."""

    def figure(steps: tuple[tuple[Step, int], ...], delta: float) -> float:
        spent[0] += 1
        ((step, count),) = steps
        noise = step.noise_multiplier / step.sampling_rate / math.sqrt(count)
        return math.inf if noise == 0 else looser * math.sqrt(2 * math.log(1.25 / delta)) / noise

    return figure


@given(
    epsilon=HOSTILE,
    delta=st.sampled_from([1e-300, 1e-12, 1e-5, 0.5, 0.999]),
    sampling_rate=st.sampled_from([1e-9, 1e-4, 0.05, 1.0]),
    steps=st.sampled_from([1, 40, 10**6, 10**7, 10**12]),
    looser=st.sampled_from([1.0, 1.05, 1e3, 1e9]),
)
def test_every_request_ends_after_a_bounded_number_of_figures(
    epsilon: float, delta: float, sampling_rate: float, steps: int, looser: float
) -> None:
    spent = [0]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(calibrate, "pld_epsilon", _cheap(spent, 1.0))
        patch.setattr(calibrate, "rdp_epsilon", _cheap(spent, looser))
        try:
            sigma = noise_multiplier_for(epsilon=epsilon, delta=delta, sampling_rate=sampling_rate, steps=steps)
        except ValueError as error:
            assert str(error).startswith(("no noise multiplier", "epsilon must be", "steps must be"))
        else:
            kind = Step(sampling_rate=sampling_rate, noise_multiplier=sigma)
            assert _cheap([0], 1.0)(((kind, steps),), delta) <= epsilon

    assert spent[0] <= MOST_EVALUATIONS


@pytest.mark.parametrize("epsilon", [0.0, -1.0, float("nan"), float("inf"), 1e12, 1e308])
def test_an_epsilon_that_promises_nothing_is_refused_at_once(epsilon: float, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(calibrate, "rdp_epsilon")  # nothing is computed

    with pytest.raises(ValueError, match="epsilon must be"):
        noise_multiplier_for(epsilon=epsilon, delta=1e-5, sampling_rate=0.05, steps=40)


@pytest.mark.parametrize("steps", [10**6 + 1, 10**12])
def test_more_steps_than_can_be_composed_are_refused_at_once(steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(calibrate, "rdp_epsilon")

    with pytest.raises(ValueError, match=r"steps must be at most 1,000,000 in all rounds"):
        noise_multiplier_for(epsilon=8.0, delta=1e-5, sampling_rate=0.05, steps=steps)
