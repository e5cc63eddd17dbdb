"""A14 to A19 and A23: what a server that chooses, or a silo that deals badly, gains of us, and of silos that forget."""

import math

import pytest

from fedcollm_secure.assurance.attacks import (
    bad_dealing,
    chosen_reference,
    cohort_pairs,
    second_session,
    too_little_noise,
    two_cohorts,
    two_manifests,
)
from fedcollm_secure.assurance.attacks.attack_outcome import Attack
from fedcollm_secure.assurance.attacks.malicious_server import Blocked

ATTACKS: dict[str, tuple[Attack, set[str]]] = {
    "A14": (two_cohorts.ATTACK, {"low_threshold", "released"}),
    "A15": (too_little_noise.ATTACK, {"low_threshold", "too_little_noise"}),
    "A16": (two_manifests.ATTACK, {"protocol_violation", "other_plan", "malformed"}),
    "A17": (chosen_reference.ATTACK, {"malformed", "trust_region", "no_reference", "found_by_verify"}),
    "A18": (bad_dealing.ATTACK, {"gains_nothing", "released"}),
    "A19": (cohort_pairs.ATTACK, {"cohort_changes"}),
    "A23": (second_session.ATTACK, {"other_set", "cohort_changes"}),
}


@pytest.mark.parametrize("name", ATTACKS)
def test_the_attack_works_on_silos_that_look_at_one_attempt(name: str) -> None:
    assert ATTACKS[name][0].unprotected().succeeded


@pytest.mark.parametrize("name", ATTACKS)
def test_every_way_is_refused_with_its_reason_or_gains_nothing(name: str) -> None:
    attack, codes = ATTACKS[name]
    outcome = attack.protected()

    assert not outcome.succeeded
    assert set(outcome.reason.split(", ")) == codes
    assert outcome.figures["ways_refused"] == outcome.figures["ways_tried"]


def test_less_noise_costs_what_the_accountant_says() -> None:
    """Two honest shares of five: σ falls by √(2/5), as a plan with that much less noise says by itself."""
    counted_on = too_little_noise.plan()
    true = too_little_noise.true_epsilon(counted_on, honest=2)

    assert counted_on.honest == 5
    assert true == pytest.approx(14.1, abs=0.05)
    assert too_little_noise.true_epsilon(counted_on, honest=5) <= counted_on.epsilon
    assert true > counted_on.epsilon * math.sqrt(5 / 2)  # more than in proportion


def test_a_plan_that_counts_on_more_shares_than_the_floor_surely_brings_is_refused_by_its_own_rule() -> None:
    """Where t is high enough for the sum, the rule on noise is what stands between (A15)."""
    with pytest.raises(Blocked, match="too_little_noise"):
        too_little_noise.open_over(too_little_noise.SILOS, shares=7)
