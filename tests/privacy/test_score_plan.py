"""A silo's two noisy integers: their distribution, their price by enumeration, and what a ledger makes of them."""

import itertools
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from dp_accounting import LaplaceDpEvent, NeighboringRelation
from dp_accounting.pld import PLDAccountant
from scipy.stats import chisquare

from fedcollm_privacy.discrete import discrete_laplace
from fedcollm_privacy.errors import BudgetExhausted
from fedcollm_privacy.ledger import Ledger, read_book
from fedcollm_privacy.plan import RecordPlan
from fedcollm_privacy.plans import read_plan
from fedcollm_privacy.score_plan import ScorePlan

TRAINING = RecordPlan(
    epsilon=4.0,
    delta=1e-6,
    clip_norm=1.0,
    sampling_rate=0.05,
    noise_multiplier=1.0,
    steps_per_round=20,
    rounds=4,
    batch_size=8,
)


def seeded(seed: int):  # type: ignore[no-untyped-def]  # a test's generator
    return np.random.default_rng(seed).bytes


def mass(value: int, rate: float) -> float:
    """Return P[X = value] in closed form."""
    return math.tanh(rate / 2) * math.exp(-rate * abs(value))


def p_value(sample: np.ndarray, rate: float, reach: int) -> float:
    """Return how likely so poor a fit is; the tails are one class each."""
    inside = range(-reach + 1, reach)
    tail = (1 - sum(mass(value, rate) for value in inside)) / 2
    expected = np.array([*(mass(value, rate) for value in inside), tail, tail])
    counted = [*((sample == value).sum() for value in inside), (sample >= reach).sum(), (sample <= -reach).sum()]
    return float(chisquare(counted, expected * len(sample)).pvalue)


@pytest.mark.parametrize(("rate", "reach"), [(Fraction(1, 4), 16), (Fraction(3, 2), 5), (Fraction(78643, 524288), 25)])
def test_discrete_laplace_fits_its_probabilities(rate: Fraction, reach: int) -> None:
    assert p_value(discrete_laplace(100_000, rate, seeded(1)), float(rate), reach) > 1e-3


def test_a_rounded_laplace_would_not_fit() -> None:
    rounded = np.rint(np.random.default_rng(0).laplace(scale=1.0, size=100_000)).astype(np.int64)

    assert p_value(rounded, 1.0, 6) < 1e-9


@pytest.mark.parametrize("rate", [Fraction(0), Fraction(-1, 2), Fraction(1, 2**40 + 1)])
def test_a_rate_that_cannot_be_sampled_is_refused(rate: Fraction) -> None:
    with pytest.raises(ValueError, match="rate must be a positive fraction"):
        discrete_laplace(1, rate)


def test_csprng_noise_of_a_score_follows_no_seed() -> None:
    plan, drawn = ScorePlan(epsilon=0.001), set()
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)  # shown to have no part in it
        drawn.add(plan.noisy(0, 0))

    assert len(drawn) == 2


@pytest.mark.parametrize("epsilon", [0.1, 0.3, 0.5, 2.0, 7.7])
def test_no_outcome_of_two_integers_is_likelier_than_its_price_says(epsilon: float) -> None:
    plan = ScorePlan(epsilon=epsilon)
    rate = float(plan.rate)
    outcomes = list(itertools.product(range(-6, 7), repeat=2))
    losses = [
        math.log(mass(a, rate) * mass(b, rate) / (mass(a - score, rate) * mass(b - records, rate)))
        for a, b in outcomes
        for score, records in itertools.product((-1, 0, 1), repeat=2)
    ]

    assert max(losses) == pytest.approx(plan.epsilon_after(1), rel=1e-9)
    assert plan.epsilon_after(1) <= epsilon * (1 + 1e-9)
    assert plan.epsilon_after(1) >= epsilon - 2**-18


def test_two_laplace_mechanisms_cost_the_same() -> None:
    accountant = PLDAccountant(NeighboringRelation.ADD_OR_REMOVE_ONE, 1e-4)
    accountant.compose(LaplaceDpEvent(4.0), 2)

    assert ScorePlan(epsilon=0.5).epsilon_after(1) == pytest.approx(accountant.get_epsilon(1e-12), abs=1e-6)
    assert ScorePlan(epsilon=0.5).epsilon_after(0) == 0


@pytest.mark.parametrize(("epsilon", "probability"), [(0.5, 0.01), (2.0, 0.01), (8.0, 0.05)])
def test_the_noise_bound_is_the_least_that_holds(epsilon: float, probability: float) -> None:
    plan = ScorePlan(epsilon=epsilon)
    bound, rate = plan.noise_bound(probability), float(plan.rate)

    def beyond(k: int) -> float:
        return 1 - sum(mass(value, rate) for value in range(-k, k + 1))

    assert beyond(bound) <= probability < beyond(bound - 1)


@pytest.mark.parametrize("epsilon", [0.0, -1.0, math.nan, math.inf, 1e-9, 1e7, 1e305])
def test_an_epsilon_that_no_noise_fits_is_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match="epsilon"):
        ScorePlan(epsilon=epsilon)


def test_plans_are_read_back_as_what_they_were() -> None:
    plan = ScorePlan(epsilon=0.3)

    assert read_plan(plan.as_json()) == plan
    assert read_plan(TRAINING.as_json()) == TRAINING
    for changed in ({"unit": "subject"}, {"mechanism": "none"}, {"epsilon": 0.3}, {"rounds": 1}):
        with pytest.raises(ValueError, match=r"plan of a score|decimal"):
            read_plan(plan.as_json() | changed)


def opened(folder: Path, epsilon: float, delta: float = 1e-5) -> Ledger:
    return Ledger.open(folder / "ledger.jsonl", population="ward 7", epsilon=epsilon, delta=delta, simulated=True)


def test_a_score_is_charged_on_top_of_the_whole_training(tmp_path: Path) -> None:
    with opened(tmp_path, TRAINING.epsilon_after(4) + 0.5) as ledger:
        ledger.reserve(session="s", round=1, plan=TRAINING)
        ledger.release(session="s", round=1, digest="one")
        ledger.reserve(session="s/gain/1", round=1, plan=ScorePlan(epsilon=0.5))
        ledger.release(session="s/gain/1", round=1, digest="two")
        with pytest.raises(BudgetExhausted, match="epsilon"):
            ledger.reserve(session="s/gain/2", round=1, plan=ScorePlan(epsilon=0.5))

        assert ledger.epsilon_spent() == pytest.approx(TRAINING.epsilon_after(4) + 0.5)
    assert [row.score for row in read_book(tmp_path / "ledger.jsonl").rows()] == [False, True]


def test_training_goes_on_after_a_score_within_what_it_was_charged(tmp_path: Path) -> None:
    with opened(tmp_path, TRAINING.epsilon_after(4) + 0.5) as ledger:
        ledger.reserve(session="s", round=1, plan=TRAINING)
        ledger.release(session="s", round=1, digest="one")
        ledger.reserve(session="s/gain/1", round=1, plan=ScorePlan(epsilon=0.5))
        spent = ledger.epsilon_spent()
        for number in (2, 3, 4):
            ledger.reserve(session="s", round=number, plan=TRAINING)

        assert ledger.epsilon_spent() == spent


def test_a_ledger_without_delta_pays_for_scores_alone(tmp_path: Path) -> None:
    with opened(tmp_path, 100.0, delta=0.0) as ledger:
        ledger.reserve(session="s/gain/1", round=1, plan=ScorePlan(epsilon=1.0))
        with pytest.raises(BudgetExhausted, match="delta budget"):
            ledger.reserve(session="s", round=1, plan=TRAINING)
    with pytest.raises(ValueError, match="delta"):
        opened(tmp_path, 1.0, delta=-1e-9)
