"""A13: the rates are the textbook's, and a record that was learned by heart is found."""

import math

import numpy as np
import pytest
from scipy import stats

from fedcollm_secure.assurance.attacks import membership_scores
from fedcollm_secure.assurance.attacks.membership_rates import area, true_positives
from fedcollm_secure.assurance.attacks.membership_scores import MEMBERS, OTHERS, Found


def test_the_area_is_that_of_mann_and_whitney() -> None:
    random = np.random.default_rng(1)
    members, others = random.normal(0.5, 1, 80).round(1), random.normal(0, 1, 300).round(1)  # with ties
    expected = stats.mannwhitneyu(members, others).statistic / (80 * 300)

    assert area(members.tolist(), others.tolist()).value == pytest.approx(expected)


def test_the_areas_interval_covers_the_truth_as_often_as_it_says() -> None:
    random, truth, covered = np.random.default_rng(2), stats.norm.cdf(1 / math.sqrt(2)), 0
    for _ in range(400):
        found = area(random.normal(1, 1, 50).tolist(), random.normal(0, 1, 200).tolist())
        covered += found.low <= truth <= found.high

    assert 0.91 <= covered / 400 <= 0.98


def test_true_positives_stand_at_the_threshold_that_few_others_exceed() -> None:
    others = [float(value) for value in range(1000)]
    members = [988.5, 990.0, 998.5, 999.5]

    assert true_positives(members, others, false_positives=0.01).value == 0.75  # ten others lie above 989
    assert true_positives(members, others, false_positives=0.001).value == 0.5  # one other lies above 998
    assert true_positives(members, others, false_positives=0.0).value == 0.25


def test_the_interval_of_no_true_positive_follows_the_rule_of_three() -> None:
    found = true_positives([0.0] * 60, [1.0] * 100, false_positives=0.01)

    assert (found.value, found.low) == (0.0, 0.0)
    assert found.high == pytest.approx(1 - 0.025 ** (1 / 60))


def test_blind_scores_do_not_succeed_and_good_ones_do() -> None:
    random = np.random.default_rng(3)
    blind = random.normal(size=MEMBERS + OTHERS)
    good = blind + np.where(np.arange(MEMBERS + OTHERS) < MEMBERS, 3.0, 0.0)

    assert not Found.of("blind", blind).succeeds
    assert Found.of("good", good).succeeds
    assert membership_scores._outcome((Found.of("blind", blind), Found.of("good", good)), "noised").succeeded
    assert membership_scores._outcome((Found.of("blind", blind),) * 2, "noised").reason == "noised"
