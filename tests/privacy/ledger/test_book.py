"""What a ledger charges, through its file, and what it refuses."""

from dataclasses import replace
from pathlib import Path

import pytest

from fedcollm_privacy.errors import BudgetExhausted, LedgerError
from fedcollm_privacy.ledger import Ledger, RoundState, read_book, read_ledger
from fedcollm_privacy.plan import RecordPlan

PLAN = RecordPlan(
    epsilon=4.0,
    delta=1e-6,
    clip_norm=1.0,
    sampling_rate=0.05,
    noise_multiplier=1.0,
    steps_per_round=20,
    rounds=4,
    batch_size=8,
)
OTHER = replace(PLAN, sampling_rate=0.04, rounds=2)


def opened(folder: Path, *, epsilon: float = 100.0, delta: float = 1e-5) -> Ledger:
    return Ledger.open(folder / "ledger.jsonl", population="ward 7", epsilon=epsilon, delta=delta, simulated=True)


def run_round(ledger: Ledger, session: str, number: int, plan: RecordPlan = PLAN) -> None:
    ledger.reserve(session=session, round=number, plan=plan)
    ledger.release(session=session, round=number, digest=f"{session}-{number}")
    ledger.done(session=session, round=number)


def test_new_ledger_has_spent_nothing(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        assert ledger.epsilon_spent() == 0
        assert ledger.rows() == ()
        assert len(ledger.head) == 64


def test_rounds_of_one_session_compose_by_pld(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        for number in range(3):
            run_round(ledger, "first", number)

        assert ledger.epsilon_spent() == PLAN.epsilon_after(3)
        assert PLAN.epsilon_after(3) < 3 * PLAN.epsilon_after(1)


def test_reserved_round_is_charged_before_it_is_released(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger.reserve(session="first", round=0, plan=PLAN)

        assert ledger.epsilon_spent() == PLAN.epsilon_after(1)


def test_retry_of_a_round_is_not_charged_twice(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger.reserve(session="first", round=0, plan=PLAN)
        head = ledger.head
        ledger.reserve(session="first", round=0, plan=PLAN)

        assert ledger.head == head
        assert ledger.epsilon_spent() == PLAN.epsilon_after(1)


def test_coordinator_that_aborts_every_attempt_does_not_drain_the_budget(tmp_path: Path) -> None:
    with opened(tmp_path, epsilon=PLAN.epsilon_after(1)) as ledger:
        for _ in range(20):
            ledger.reserve(session="first", round=0, plan=PLAN)
        for attempt in range(5):
            ledger.reserve(session=f"aborted {attempt}", round=0, plan=PLAN)

        assert ledger.epsilon_spent() == PLAN.epsilon_after(1)


def test_budget_pays_for_exactly_what_fits(tmp_path: Path) -> None:
    with opened(tmp_path, epsilon=PLAN.epsilon_after(2)) as ledger:
        run_round(ledger, "first", 0)
        run_round(ledger, "first", 1)
        head = ledger.head
        with pytest.raises(BudgetExhausted, match="epsilon budget is exhausted") as refusal:
            ledger.reserve(session="first", round=2, plan=PLAN)

        assert refusal.value.needed == PLAN.epsilon_after(3)
        assert refusal.value.spent == refusal.value.budget == PLAN.epsilon_after(2)
        assert ledger.head == head
        run_round(ledger, "first", 1)  # what was paid can still be repeated


def test_later_session_adds_to_the_whole_plan_of_an_earlier_one(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        run_round(ledger, "first", 0)
        run_round(ledger, "second", 0, OTHER)

        assert ledger.epsilon_spent() == pytest.approx(PLAN.epsilon_after(4) + OTHER.epsilon_after(1))


def test_earlier_session_that_could_not_afford_its_whole_plan_is_charged_what_it_could(tmp_path: Path) -> None:
    budget = PLAN.epsilon_after(2) + OTHER.epsilon_after(1)
    with opened(tmp_path, epsilon=budget) as ledger:
        run_round(ledger, "first", 0)
        affordable = max(k for k in range(1, 5) if PLAN.epsilon_after(k) <= budget)
        with pytest.raises(BudgetExhausted) as refusal:
            ledger.reserve(session="second", round=0, plan=OTHER)

        assert refusal.value.needed == pytest.approx(PLAN.epsilon_after(affordable) + OTHER.epsilon_after(1))


def test_earlier_session_goes_on_within_its_plan_at_no_further_cost(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        run_round(ledger, "first", 0)
        run_round(ledger, "second", 0, OTHER)
        spent = ledger.epsilon_spent()
        run_round(ledger, "first", 1)

        assert ledger.epsilon_spent() == spent


def test_earlier_session_that_released_nothing_costs_nothing_and_is_closed(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger.reserve(session="first", round=0, plan=PLAN)
        run_round(ledger, "second", 0, OTHER)

        assert ledger.epsilon_spent() == OTHER.epsilon_after(1)
        with pytest.raises(LedgerError, match="it was closed"):
            ledger.release(session="first", round=0, digest="late")
        with pytest.raises(LedgerError, match="it was closed"):
            ledger.reserve(session="first", round=1, plan=PLAN)


def test_voided_early_session_cannot_come_back_behind_a_later_one(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger.reserve(session="first", round=0, plan=PLAN)
        ledger.void(session="first", round=0, reason="power cut")
        run_round(ledger, "second", 0, OTHER)

        with pytest.raises(LedgerError, match="it was closed"):
            ledger.reserve(session="first", round=0, plan=PLAN)


def test_deltas_of_sessions_add_up_too(tmp_path: Path) -> None:
    with opened(tmp_path, delta=1.5e-6) as ledger:
        run_round(ledger, "first", 0)
        with pytest.raises(BudgetExhausted, match="delta budget is exhausted"):
            ledger.reserve(session="second", round=0, plan=OTHER)
        ledger.reserve(session="third", round=0, plan=replace(OTHER, delta=5e-7))


def test_session_is_bound_to_its_plan(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        run_round(ledger, "first", 0)
        with pytest.raises(LedgerError, match="a changed plan needs a new session"):
            ledger.reserve(session="first", round=1, plan=OTHER)


def test_session_ends_with_its_plan(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        for number in range(4):
            run_round(ledger, "first", number)
        with pytest.raises(LedgerError, match="all 4 rounds of its plan"):
            ledger.reserve(session="first", round=4, plan=PLAN)


def test_second_update_of_a_round_is_refused_and_the_same_one_is_not(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        run_round(ledger, "first", 0)
        ledger.release(session="first", round=0, digest="first-0")
        with pytest.raises(LedgerError, match="second look at the data"):
            ledger.release(session="first", round=0, digest="another")


def test_round_that_was_not_reserved_can_neither_be_released_nor_done_nor_voided(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        with pytest.raises(LedgerError, match="never reserved"):
            ledger.release(session="first", round=0, digest="x")
        with pytest.raises(LedgerError, match="never reserved"):
            ledger.done(session="first", round=0)
        with pytest.raises(LedgerError, match="never reserved"):
            ledger.void(session="first", round=0, reason="none")


def test_reservation_that_is_voided_is_given_back(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger.reserve(session="first", round=0, plan=PLAN)
        ledger.void(session="first", round=0, reason="power cut before training")

        assert ledger.epsilon_spent() == 0
        with pytest.raises(LedgerError, match="is void"):
            ledger.release(session="first", round=0, digest="x")
        run_round(ledger, "first", 0)
        assert ledger.epsilon_spent() == PLAN.epsilon_after(1)


def test_released_round_cannot_be_voided(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger.reserve(session="first", round=0, plan=PLAN)
        ledger.release(session="first", round=0, digest="x")
        with pytest.raises(LedgerError, match="released: only a reservation"):
            ledger.void(session="first", round=0, reason="regret")


def test_voiding_needs_a_reason(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger.reserve(session="first", round=0, plan=PLAN)
        with pytest.raises(ValueError, match="operator's reason"):
            ledger.void(session="first", round=0, reason=" ")


def test_round_that_was_not_released_cannot_be_done(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        ledger.reserve(session="first", round=0, plan=PLAN)
        with pytest.raises(LedgerError, match="only a released round"):
            ledger.done(session="first", round=0)


def test_rows_show_state_cost_and_what_remains(tmp_path: Path) -> None:
    with opened(tmp_path, epsilon=4.0) as ledger:
        run_round(ledger, "first", 1)
        ledger.reserve(session="first", round=2, plan=PLAN)
        rows = ledger.rows()

    assert [(row.session, row.round, row.state) for row in rows] == [
        ("first", 1, RoundState.DONE),
        ("first", 2, RoundState.RESERVED),
    ]
    assert [row.epsilon for row in rows] == [PLAN.epsilon_after(1), PLAN.epsilon_after(2)]
    assert [row.remaining for row in rows] == [4.0 - PLAN.epsilon_after(1), 4.0 - PLAN.epsilon_after(2)]


def test_resumed_ledger_is_the_one_that_was_closed(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        run_round(ledger, "first", 0)
        ledger.reserve(session="first", round=1, plan=PLAN)
        before = (ledger.head, ledger.epsilon_spent(), ledger.rows())
    with opened(tmp_path) as resumed:
        assert (resumed.head, resumed.epsilon_spent(), resumed.rows()) == before
        resumed.release(session="first", round=1, digest="x")


def test_reading_needs_no_lock_and_sees_the_same(tmp_path: Path) -> None:
    with opened(tmp_path) as ledger:
        run_round(ledger, "first", 0)

        assert read_ledger(tmp_path / "ledger.jsonl") == ledger.rows()
        assert read_book(tmp_path / "ledger.jsonl").head == ledger.head
