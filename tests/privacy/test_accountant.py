"""The contract that every accountant inherits, and the figures against three other derivations."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass

import dp_accounting
import numpy as np
import pytest

from fedcollm_privacy.accountant import (
    COARSE_INTERVAL,
    Accountant,
    PLDAccountant,
    RDPAccountant,
    Step,
    pld_epsilon,
)
from fedcollm_privacy.errors import PrivacyError, UnsupportedEvent
from fedcollm_privacy.event import Composed, Event, Gaussian, NonPrivate, NoOp, PoissonGaussian, Repeated

DELTA = 1e-5
STEP = PoissonGaussian(sampling_rate=0.1, noise_multiplier=1.2, steps=5)
GRID = [(0.01, 0.8, 300), (0.05, 1.0, 100), (0.2, 2.0, 50), (1.0, 6.0, 20), (0.01, 20.0, 1000)]


@dataclass(frozen=True)
class Laplace:
    scale: float


def spent(accountant: Accountant, event: Event, count: int = 1) -> float:
    accountant.spend(event, count)
    return accountant.epsilon(DELTA)


class Contract:
    make: Callable[[], Accountant]

    def test_nothing_spent_costs_nothing(self) -> None:
        assert self.make().epsilon(DELTA) == 0

    def test_no_op_costs_nothing(self) -> None:
        assert spent(self.make(), NoOp(), 1000) == 0

    def test_non_private_costs_everything(self) -> None:
        assert spent(self.make(), NonPrivate()) == math.inf

    def test_non_private_inside_a_composition_costs_everything(self) -> None:
        assert spent(self.make(), Composed(events=(STEP, Repeated(event=NonPrivate(), count=2)))) == math.inf

    def test_non_private_run_zero_times_costs_nothing(self) -> None:
        assert spent(self.make(), Repeated(event=NonPrivate(), count=0)) == 0

    def test_unknown_event_is_refused_by_name(self) -> None:
        with pytest.raises(UnsupportedEvent, match=r"Laplace\(scale=1"):
            self.make().spend(Laplace(1.0))  # type: ignore[arg-type]  # unknown on purpose

    def test_unknown_event_inside_a_composition_is_refused_by_its_own_name(self) -> None:
        nested = Repeated(event=Composed(events=(STEP, Laplace(1.0))), count=2)  # type: ignore[arg-type]  # same

        with pytest.raises(UnsupportedEvent, match=r"price .*Laplace\(scale=1\.0\): this"):
            self.make().spend(nested)

    def test_refused_event_leaves_the_accountant_as_it_was(self) -> None:
        accountant = self.make()
        with pytest.raises(PrivacyError):
            accountant.spend(Composed(events=(STEP, Laplace(1.0))))  # type: ignore[arg-type]  # unknown on purpose

        assert accountant.ledger == ()
        assert accountant.epsilon(DELTA) == 0

    @pytest.mark.parametrize(
        "event", [STEP, Gaussian(noise_multiplier=5.0), Composed(events=(STEP, NoOp())), Repeated(event=STEP, count=3)]
    )
    def test_composing_once_with_a_count_equals_composing_that_often(self, event: Event) -> None:
        once, often = self.make(), self.make()
        once.spend(event, 4)
        for _ in range(4):
            often.spend(event)

        assert once.epsilon(DELTA) == often.epsilon(DELTA)
        assert once.epsilon(DELTA) == spent(self.make(), Repeated(event=event, count=4))
        assert once.epsilon(DELTA) == spent(self.make(), Composed(events=(event,) * 4))

    def test_order_of_events_does_not_matter(self) -> None:
        other = Gaussian(noise_multiplier=4.0)

        assert spent(self.make(), Composed(events=(STEP, other))) == spent(self.make(), Composed(events=(other, STEP)))

    def test_full_sampling_is_the_plain_gaussian(self) -> None:
        full = PoissonGaussian(sampling_rate=1.0, noise_multiplier=3.0, steps=2)

        assert spent(self.make(), full) == spent(self.make(), Gaussian(noise_multiplier=3.0), 2)

    def test_more_steps_cost_more(self) -> None:
        costs = [spent(self.make(), STEP, count) for count in (1, 2, 5, 20)]

        assert costs == sorted(set(costs))

    def test_less_noise_costs_more(self) -> None:
        noise = (30.0, 8.0, 3.0, 1.5, 0.8, 0.3, 0.05)
        costs = [spent(self.make(), PoissonGaussian(sampling_rate=0.1, noise_multiplier=s, steps=9)) for s in noise]

        assert costs == sorted(set(costs))

    def test_more_sampling_costs_more(self) -> None:
        rates = (0.001, 0.01, 0.1, 0.5, 1.0)
        costs = [spent(self.make(), PoissonGaussian(sampling_rate=q, noise_multiplier=1.0, steps=9)) for q in rates]

        assert costs == sorted(set(costs))

    def test_smaller_delta_costs_more(self) -> None:
        accountant = self.make()
        accountant.spend(STEP)

        assert accountant.epsilon(1e-9) > accountant.epsilon(1e-5) > accountant.epsilon(1e-2)

    @pytest.mark.parametrize("delta", [0.0, 1.0, -1e-5, math.nan])
    def test_delta_outside_its_range_is_refused(self, delta: float) -> None:
        with pytest.raises(ValueError, match="delta"):
            self.make().epsilon(delta)

    @pytest.mark.parametrize("count", [-1, True, 1.0])
    def test_count_that_is_no_count_is_refused(self, count: int) -> None:
        with pytest.raises(ValueError, match="count"):
            self.make().spend(STEP, count)

    def test_ledger_keeps_what_was_spent(self) -> None:
        accountant = self.make()
        accountant.spend(STEP, 2)
        accountant.spend(NoOp())

        assert [(line.event, line.count) for line in accountant.ledger] == [(STEP, 2), (NoOp(), 1)]


class TestPLD(Contract):
    make = PLDAccountant


class TestRDP(Contract):
    make = RDPAccountant


@pytest.mark.parametrize(("rate", "noise", "steps"), GRID)
def test_pld_is_never_above_rdp(rate: float, noise: float, steps: int) -> None:
    event = PoissonGaussian(sampling_rate=rate, noise_multiplier=noise, steps=steps)

    assert spent(PLDAccountant(), event) <= spent(RDPAccountant(), event)


@pytest.mark.parametrize(("rate", "noise", "steps"), GRID)
def test_pld_agrees_with_opacus_prv(rate: float, noise: float, steps: int) -> None:
    from opacus.accountants import PRVAccountant

    prv = PRVAccountant()
    prv.history = [(noise, rate, steps)]
    with warnings.catch_warnings():
        # Opacus takes log(1 − q) at q = 1, and bounds its domain by RDP at an order that need not be the best one.
        warnings.filterwarnings("ignore", message="divide by zero encountered in log", category=RuntimeWarning)
        warnings.filterwarnings("ignore", message="Optimal order is the largest alpha", category=UserWarning)
        theirs = prv.get_epsilon(delta=DELTA, eps_error=0.01)
    ours = spent(PLDAccountant(), PoissonGaussian(sampling_rate=rate, noise_multiplier=noise, steps=steps))

    assert abs(ours - theirs) <= max(0.02 * theirs, 0.012)


@pytest.mark.parametrize(("noise", "steps"), [(1.0, 1), (5.0, 20), (3.0, 4), (20.0, 10)])
def test_pld_agrees_with_the_closed_form_of_the_gaussian(noise: float, steps: int) -> None:
    """Balle and Wang 2018, theorem 8: n steps of σ are one step of σ/√n."""
    from scipy.stats import norm

    mu = math.sqrt(steps) / noise
    epsilon = spent(PLDAccountant(), Gaussian(noise_multiplier=noise), steps)
    delta = norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * norm.cdf(-mu / 2 - epsilon / mu)

    assert 0.95 * DELTA <= delta <= DELTA


@pytest.mark.parametrize(("rate", "noise"), [(0.1, 1.0), (0.01, 0.6), (0.5, 2.0)])
def test_pld_agrees_with_an_integral_of_one_subsampled_step(rate: float, noise: float) -> None:
    """δ(ε) = ∫ max(0, p − e^ε p') with 40 digits, p with the record and p' without it (the worse direction here)."""
    import mpmath

    epsilon = spent(PLDAccountant(), PoissonGaussian(sampling_rate=rate, noise_multiplier=noise, steps=1))
    with mpmath.workdps(40):
        # p(x) / p'(x) = 1 − q + q exp((2x − 1) / 2σ²) passes e^ε once, at `start`.
        start = noise**2 * mpmath.log((mpmath.exp(epsilon) - 1 + rate) / rate) + 0.5

        def integrand(x: mpmath.mpf) -> mpmath.mpf:
            without = mpmath.npdf(x, 0, noise)
            return (1 - rate) * without + rate * mpmath.npdf(x, 1, noise) - mpmath.exp(epsilon) * without

        delta = mpmath.quad(integrand, [start, start + noise, start + 4 * noise, start + 16 * noise])

    assert 0.95 * DELTA <= delta <= DELTA


@pytest.mark.parametrize(("rate", "noise", "steps"), [(0.1, 1.0, 50), (0.05, 0.8, 100)])
def test_pld_agrees_with_a_characteristic_function(rate: float, noise: float, steps: int) -> None:
    """T-fold composition by numerical inversion (Gil-Pelaez) of the privacy loss's characteristic function.

    δ(ε) = P[L > ε] − e^ε P'[L > ε], L = Σ ln(p/p') under P (with the record) and P' (without it).
    """
    epsilon = spent(PLDAccountant(), PoissonGaussian(sampling_rate=rate, noise_multiplier=noise, steps=steps))
    x = np.linspace(-12 * noise, 12 * noise + 1, 4001)
    without = np.exp(-(x**2) / (2 * noise**2)) / np.exp(-(x**2) / (2 * noise**2)).sum()
    ratio = (1 - rate) + rate * np.exp((2 * x - 1) / (2 * noise**2))
    frequencies = (np.arange(600) + 0.5) * 0.04
    waves = np.exp(1j * np.outer(frequencies, np.log(ratio)))

    def tail(weights: np.ndarray) -> float:
        spectrum = (waves @ weights) ** steps * np.exp(-1j * frequencies * epsilon)
        return 0.5 + float((spectrum.imag / frequencies).sum() * 0.04 / np.pi)

    delta = tail(without * ratio) - math.exp(epsilon) * tail(without)

    assert delta == pytest.approx(DELTA, rel=0.05)


@pytest.mark.parametrize(
    "steps",
    [
        ((Step(sampling_rate=0.05, noise_multiplier=1.2), 40),),
        ((Step(sampling_rate=1.0, noise_multiplier=3.0), 7),),
        ((Step(sampling_rate=0.05, noise_multiplier=1.2), 40), (Step(sampling_rate=1.0, noise_multiplier=9.0), 3)),
    ],
)
def test_epsilon_is_that_of_dp_accountings_own_accountant(steps: tuple[tuple[Step, int], ...]) -> None:
    theirs = dp_accounting.pld.PLDAccountant(dp_accounting.NeighboringRelation.ADD_OR_REMOVE_ONE, COARSE_INTERVAL)
    for step, count in steps:
        gaussian = dp_accounting.GaussianDpEvent(step.noise_multiplier)
        sampled = dp_accounting.PoissonSampledDpEvent(step.sampling_rate, gaussian)
        theirs.compose(gaussian if step.sampling_rate == 1 else sampled, count)

    assert pld_epsilon(steps, 1e-5) == pytest.approx(theirs.get_epsilon(1e-5), rel=1e-9)
