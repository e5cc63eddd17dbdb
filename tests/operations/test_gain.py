"""Paired gains: a published interval, what it says, and what follows from two noisy integers."""

import itertools
import math

import pytest

from fedcollm_privacy.score_plan import ScorePlan
from fedcollm_secure.operations.gain.noisy_release import statement
from fedcollm_secure.operations.gain.paired_gain import Paired, verdict


def test_pairs_are_counted_by_how_they_differ() -> None:
    before, after = (False, False, True, True, False), (True, True, False, True, False)
    paired = Paired.of(before, after)

    assert (paired.won, paired.lost, paired.records, paired.net, paired.gain) == (2, 1, 5, 1, 0.2)


def test_the_interval_is_the_published_one() -> None:
    # Fagerland, Lydersen and Laake 2014 (Stat. Med. 33), hyper-responsive airways, 1 against 7 of 21: −0.508 to −0.013
    low, high = Paired(won=1, lost=7, records=21).ci95

    assert (low, high) == (pytest.approx(-0.508, abs=5e-4), pytest.approx(-0.013, abs=5e-4))


def test_no_difference_at_all_still_has_an_interval() -> None:
    low, high = Paired(won=0, lost=0, records=10).ci95

    assert -0.4 < low < 0 < high < 0.4
    assert low == -high


@pytest.mark.parametrize(
    ("low", "high", "said"), [(0.01, 0.2, "gained"), (-0.2, -0.01, "lost"), (-0.1, 0.1, "cannot_tell")]
)
def test_an_interval_says_gained_lost_or_nothing(low: float, high: float, said: str) -> None:
    assert verdict(low, high) == said


@pytest.mark.parametrize(("net", "records"), [(30, 200), (-30, 200), (0, 200), (3, 5), (-5, 5)])
def test_the_told_interval_holds_the_gain_whatever_the_noise_within_its_bound(net: int, records: int) -> None:
    plan = ScorePlan(epsilon=2.0)
    reach = plan.noise_bound(0.01)
    for x, y in itertools.product(range(-reach, reach + 1), repeat=2):
        said = statement(plan, net + x, records + y)
        kept_low, kept_high = (float(bound) for bound in said["kept_ci95"])
        low, high = (float(bound) for bound in said["ci95"])
        half = math.sqrt(2 * math.log(2 / 0.03) / records)

        assert kept_low - 1e-6 <= net / records <= kept_high + 1e-6
        assert low <= max(-1.0, net / records - half) + 1e-6
        assert high >= min(1.0, net / records + half) - 1e-6
        assert said["verdict"] == verdict(low, high)


def test_a_large_gain_on_many_records_is_told_as_one() -> None:
    plan = ScorePlan(epsilon=2.0)

    assert statement(plan, 300, 1000)["verdict"] == "gained"
    assert statement(plan, -300, 1000)["verdict"] == "lost"
    assert statement(plan, 30, 1000)["verdict"] == "cannot_tell"
    assert statement(plan, 3, -2)["gain_per_record"] == "1.000000"
