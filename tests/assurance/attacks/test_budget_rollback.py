"""A ledger that was put back to an older copy is refused when the next round begins, and found afterwards: A9."""

import pytest

from fedcollm_privacy.ledger import Ledger
from fedcollm_secure.assurance.attacks import budget_rollback
from fedcollm_secure.audit_log import ledger_heads
from fedcollm_secure.audit_log.events import RoundClosed
from fedcollm_secure.audit_log.unseen_lines import Recent, Told


def test_the_twin_spends_twice_unseen() -> None:
    outcome = budget_rollback.against_twin()

    assert outcome.succeeded
    assert (outcome.figures["rounds"], outcome.figures["epsilon_spent"]) == (4, 16.0)


def test_a_silo_with_an_older_ledger_refuses_to_begin_and_whoever_verifies_finds_it() -> None:
    outcome = budget_rollback.against_us()

    assert not outcome.succeeded
    assert (outcome.reason, outcome.figures["rounds_spent_twice"]) == ("ledger_rolled_back", 0)
    assert "an older copy was put back" in outcome.told
    assert "does not hold the head that the log commits to" in outcome.told


def test_a_silo_that_does_not_look_into_its_ledger_spends_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Ledger, "holds", lambda *_: True)
    outcome = budget_rollback.against_us()

    assert outcome.succeeded
    assert outcome.figures["rounds_spent_twice"] == 1


def test_a_silo_that_takes_any_closed_round_for_the_last_one_spends_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    def believed(recent: Recent, _: object, *, known: int) -> Told:
        closed = [entry.event for entry in recent._entries() if isinstance(entry.event, RoundClosed)]
        return Told(closed=closed[0], begun=(), agreed=())

    monkeypatch.setattr(Recent, "told", believed)
    outcome = budget_rollback.against_us()

    assert outcome.succeeded
    assert outcome.figures["rounds_spent_twice"] == 1


def test_without_the_committed_heads_it_goes_unseen_by_verify(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_heads, "_check_ledger", lambda *_: [])

    assert budget_rollback.against_us().succeeded
