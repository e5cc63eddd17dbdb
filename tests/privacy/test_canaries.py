"""The one-run audit: an honest run stays under its claim, each sabotage is above it."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import pytest
import torch
from scipy import stats
from torch import Tensor, nn

from fedcollm_privacy import dpsgd
from fedcollm_privacy.canaries import Guesses, choose_included, epsilon_lower_bound, guess, p_value, scaled
from fedcollm_privacy.dpsgd import train
from fedcollm_privacy.plan import RecordPlan

CANARIES, GUESSES = 2000, 400
PLAN = RecordPlan.calibrated(
    epsilon=2.0, delta=1e-5, clip_norm=1.0, sampling_rate=0.2, steps_per_round=10, rounds=1, batch_size=200
)


@pytest.mark.parametrize(("epsilon", "needed"), [(1, 10), (2, 24), (3, 62), (4, 166)])
def test_power_is_that_of_the_paper(epsilon: float, needed: int) -> None:
    def bound(count: int) -> float:
        return epsilon_lower_bound(Guesses(canaries=count, made=count, right=count), delta=0.0, confidence=0.95)

    assert bound(needed - 1) < epsilon <= bound(needed)


def test_p_value_without_delta_is_a_binomial_tail() -> None:
    outcome = Guesses(canaries=50, made=30, right=25)
    expected = stats.binom.sf(24, 30, 1 / (1 + 2.718281828459045**-0.7))

    assert p_value(outcome, epsilon=0.7, delta=0.0) == pytest.approx(expected)


def test_p_value_with_delta_follows_the_reference() -> None:
    """The loop of appendix D of arXiv 2305.08846, as printed."""
    m, r, v, epsilon, delta = 500, 100, 90, 1.0, 1e-4
    q = 1 / (1 + 2.718281828459045**-epsilon)
    alpha = total = 0.0
    for i in range(1, v + 1):
        total += stats.binom.pmf(v - i, r, q)
        alpha = max(alpha, total / i)
    expected = stats.binom.sf(v - 1, r, q) + alpha * delta * 2 * m

    assert p_value(Guesses(canaries=m, made=r, right=v), epsilon=epsilon, delta=delta) == pytest.approx(expected)


def test_coin_tosses_refute_nothing() -> None:
    assert epsilon_lower_bound(Guesses(canaries=1000, made=400, right=205), delta=1e-5, confidence=0.95) == 0


def test_guessing_takes_the_two_ends() -> None:
    outcome = guess([0.1, 5.0, -3.0, 0.2, 4.0, -2.0], [True, True, False, True, False, False], guesses=4)

    assert outcome == Guesses(canaries=6, made=4, right=3)


def test_guesses_may_all_be_of_inclusion() -> None:
    outcome = guess([0.1, 5.0, -3.0, 0.2], [True, True, False, False], guesses=2, out=0)

    assert outcome == Guesses(canaries=4, made=2, right=1)
    with pytest.raises(ValueError, match="between 0 and the 2 guesses, got 3"):
        guess([0.1, 5.0], [True, True], guesses=2, out=3)


@pytest.mark.parametrize(
    ("scores", "guesses"), [([1.0], 2), ([1.0, 2.0], 3), ([1.0, 2.0], 0), ([1.0, float("nan")], 2)]
)
def test_impossible_guesses_are_refused(scores: list[float], guesses: int) -> None:
    with pytest.raises(ValueError, match=r"guesses|scores"):
        guess(scores, [True] * len(scores), guesses=guesses)


def test_impossible_outcome_is_refused() -> None:
    with pytest.raises(ValueError, match="right ≤ made"):
        Guesses(canaries=5, made=4, right=5)


def test_csprng_inclusion_is_a_fair_secret_coin() -> None:
    included = choose_included(4000)

    assert abs(sum(included) - 2000) < 6 * 4000**0.5 / 2
    assert included != choose_included(4000)


def test_scores_are_counted_in_their_own_noise() -> None:
    assert scaled([1.0, -4.0, 3.0], [2.0, 1.0, 0.5]) == [0.5, -4.0, 6.0]


def test_a_score_without_noise_stands_out_and_divides_by_no_zero() -> None:
    loud, silent = scaled([50.0, 1.0], [100.0, 0.0])

    assert silent > 10 * loud
    assert scaled([2.0, 3.0], [0.0, 0.0]) == [2.0, 3.0]
    assert scaled([], []) == []


@pytest.mark.parametrize("noise", [[1.0], [1.0, -1.0], [1.0, float("nan")]])
def test_impossible_noise_is_refused(noise: list[float]) -> None:
    with pytest.raises(ValueError, match="finite and at least 0"):
        scaled([1.0, 2.0], noise)


def audit(plan: RecordPlan, size: float = 1e3) -> float:
    """Train on gradient canaries: canary i's gradient is the i-th axis, of length `size`, clipped like any other."""
    included = choose_included(CANARIES)
    present = [index for index, each in enumerate(included) if each]
    model = nn.Linear(CANARIES, 1, bias=False)
    before = model.weight.detach().clone()

    def losses(indices: Sequence[int]) -> Tensor:
        rows = torch.zeros(len(indices), CANARIES)
        rows[range(len(indices)), [present[index] for index in indices]] = size
        return model(rows)[:, 0]

    optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
    train(
        model=model,
        parameters=list(model.parameters()),
        optimizer=optimizer,
        plan=plan,
        population=len(present),
        losses=losses,
    )
    scores: list[float] = (before - model.weight.detach())[0].tolist()
    return epsilon_lower_bound(guess(scores, included, guesses=GUESSES), delta=plan.delta, confidence=0.95)


def test_honest_run_stays_under_its_claim() -> None:
    assert audit(PLAN) <= PLAN.epsilon


def test_missing_noise_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dpsgd, "gaussian", lambda shape, std, random: torch.randn(*shape).double() * std * 1e-3)

    assert audit(PLAN) > PLAN.epsilon


def test_missing_clipping_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    real: Callable[..., dict[Tensor, Tensor]] = dpsgd.clipped_sum
    monkeypatch.setattr(dpsgd, "clipped_sum", lambda values, taps, _, **options: real(values, taps, 1e9, **options))

    assert audit(PLAN) > PLAN.epsilon


def test_plan_with_less_noise_than_claimed_is_caught() -> None:
    assert audit(replace(PLAN, noise_multiplier=0.1, epsilon=1e5)) > PLAN.epsilon
