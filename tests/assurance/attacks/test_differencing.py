"""One sum for one model: A11, and its approximation across models."""

import pytest

from fedcollm_crypto.masking import invariant
from fedcollm_crypto.masking.policy import SiloPolicy
from fedcollm_secure.assurance.attacks import differencing
from fedcollm_secure.assurance.attacks.malicious_server import Blocked


def test_in_the_twin_two_sums_give_one_update() -> None:
    outcome = differencing.against_twin()

    assert outcome.succeeded
    assert 0 < outcome.figures["max_abs_error"] < 1e-7


def test_a_second_sum_and_one_change_too_many_are_refused() -> None:
    outcome = differencing.against_us()

    assert not outcome.succeeded
    assert outcome.reason == "released, cohort_changes"
    assert outcome.figures["single_changes_allowed"] == SiloPolicy().max_single_changes


def test_a_second_sum_of_one_model_is_refused() -> None:
    with pytest.raises(Blocked, match=r"^released$"):
        differencing.open_two_sums_of_one_model()


@pytest.mark.parametrize("rule", ["require_unreleased", "require_one_dimension"])
def test_one_of_its_two_rules_is_enough(rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invariant, rule, lambda *_: None)

    with pytest.raises(Blocked, match=r"^(released|other_set)$"):
        differencing.open_two_sums_of_one_model()


def test_without_its_rules_two_sums_of_one_model_give_one_update(monkeypatch: pytest.MonkeyPatch) -> None:
    for rule in ("require_unreleased", "require_one_dimension"):
        monkeypatch.setattr(invariant, rule, lambda *_: None)

    assert differencing.open_two_sums_of_one_model()


def test_a_silo_can_forbid_single_changes_altogether() -> None:
    with pytest.raises(Blocked, match=r"^cohort_changes$"):
        list(differencing.drop_one_silo_round_after_round(1, SiloPolicy(max_single_changes=0)))


def test_what_the_limit_allows_does_give_updates_that_do_not_change() -> None:
    errors = list(differencing.drop_one_silo_round_after_round(SiloPolicy().max_single_changes))

    assert max(errors) < 1e-7  # the threat model says so


def test_without_its_rule_there_is_no_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(invariant, "limit_exposure", lambda *_: None)

    assert len(list(differencing.drop_one_silo_round_after_round(4))) == 4
    assert differencing.against_us().succeeded
