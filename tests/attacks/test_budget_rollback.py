"""A ledger that was put back to an older copy is found: A9."""

import pytest

from fedcollm_secure.audit import ledgers
from fedcollm_secure.studies.attacks import budget_rollback


def test_the_twin_spends_twice_unseen() -> None:
    outcome = budget_rollback.against_twin()

    assert outcome.succeeded
    assert (outcome.figures["rounds"], outcome.figures["epsilon_spent"]) == (4, 16.0)


def test_whoever_verifies_the_run_finds_the_older_ledger() -> None:
    outcome = budget_rollback.against_us()

    assert not outcome.succeeded
    assert outcome.reason == "detected_by_verify"
    assert "does not hold the head that the log commits to" in outcome.told


def test_the_silo_itself_does_not_notice() -> None:
    assert budget_rollback.against_us().figures["spent_twice_before_detection"] == 1  # the threat model says so


def test_without_the_committed_heads_it_goes_unseen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledgers, "_check_ledger", lambda *_: [])

    assert budget_rollback.against_us().succeeded
