import pytest

from fedcollm_privacy.accountant import PLDAccountant
from fedcollm_privacy.calibrate import noise_multiplier_for
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
