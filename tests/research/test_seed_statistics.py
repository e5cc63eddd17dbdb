"""Intervals over seeds and test records hold the truth as often as they say, and gains are paired by both."""

import numpy as np
import pytest

from fedcollm_secure.research.seed_statistics import Measured, interval, paired, score_interval

TRIALS, SEEDS, RECORDS = 400, 4, 200


def measured(rng: np.random.Generator, of_seed: float, of_records: float, *, own_test: bool) -> list[Measured]:
    """Draw scores whose truth is 0: one part by seed, one by record, the same for all seeds or not, one by both."""
    shared = rng.normal(0, of_records, RECORDS)
    values: list[Measured] = []
    for seed in range(SEEDS):
        records = rng.normal(0, of_records, RECORDS) if own_test else shared
        shares = rng.normal(0, of_seed) + records + rng.normal(0, 0.3, RECORDS)
        values.append(
            Measured(
                score=float(shares.mean()),
                by_record=tuple(map(float, shares)),
                test=f"drawn-{seed}" if own_test else "one",
            )
        )
    return values


def covered(values: list[Measured]) -> bool:
    bounds = interval(values).ci95
    assert bounds is not None
    return bounds[0] <= 0 <= bounds[1]


@pytest.mark.parametrize(("of_seed", "of_records"), [(0.0, 0.5), (0.02, 0.5), (0.05, 0.2), (0.1, 0.05)])
@pytest.mark.parametrize("own_test", [False, True])
def test_an_interval_holds_the_truth_as_often_as_it_says(of_seed: float, of_records: float, own_test: bool) -> None:
    rng = np.random.default_rng(5)
    held = sum(covered(measured(rng, of_seed, of_records, own_test=own_test)) for _ in range(TRIALS))

    assert held / TRIALS >= 0.92  # 0.95 less three standard errors of 400 trials


def test_seeds_alone_would_not_tell_of_one_lucky_test_set() -> None:
    rng = np.random.default_rng(5)
    drawn = [measured(rng, 0.0, 0.5, own_test=False) for _ in range(TRIALS)]
    seeds_alone = sum(covered([Measured(score=value.score) for value in values]) for values in drawn)

    assert seeds_alone / TRIALS < 0.85


def test_a_gain_is_paired_by_seed_and_record() -> None:
    before = {1: Measured(score=0.5, by_record=(1.0, 1.0, 0.0, 0.0), test="t")}
    after = {1: Measured(score=0.75, by_record=(1.0, 1.0, 1.0, 0.0), test="t")}
    difference = after[1].minus(before[1])

    assert difference.score == 0.25
    assert difference.by_record == (0.0, 0.0, 1.0, 0.0)
    assert paired(after, before).mean == 0.25
    assert paired(after, before).ci95 is None
    assert after[1].minus(Measured(score=0.5, by_record=(0.0,) * 4, test="another")).by_record == ()


def test_records_that_all_gain_alike_add_no_doubt_of_their_own() -> None:
    before = {seed: Measured(score=0.5, by_record=(0.5,) * 100, test="t") for seed in (1, 2, 3)}
    after = {seed: Measured(score=0.6, by_record=(0.6,) * 100, test="t") for seed in (1, 2, 3)}
    bounds = paired(after, before).ci95

    assert bounds == pytest.approx((0.1, 0.1))


def test_a_score_among_some_records_is_their_rate() -> None:
    score = Measured(score=0.5, by_record=(1.0, 1.0, 0.0, 0.0), test="t")

    assert score.among([True, False, True, True]).score == pytest.approx(1 / 3)
    with pytest.raises(ValueError, match="no test record is left"):
        score.among([False] * 4)


def test_scores_that_are_not_known_by_record_have_intervals_over_seeds() -> None:
    found = score_interval([Measured(score=9.0), Measured(score=11.0)], "perplexity")

    assert found.mean == 10
    assert found.ci95 is not None
    assert found.ci95[1] == pytest.approx(10 + 12.7062 * 1.0, abs=1e-3)
