"""The log's sums against themselves: what an honest server writes passes, whatever it leaves out or bends is found."""

import itertools
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedcollm_secure.audit_log.events import (
    Event,
    GateRejected,
    PartyConvicted,
    RunStarted,
)
from fedcollm_secure.audit_log.log import read_log
from fedcollm_secure.audit_log.logged_parties import check_convictions
from fedcollm_secure.audit_log.logged_sums import check_sums
from fedcollm_secure.errors import LogError
from tests.witnessed_log import DIGEST, attempt_lines, attempt_started, round_closed, round_lines

Begin = Callable[..., Any]
START, AVERAGE, OTHER = DIGEST, "bb" * 32, "cc" * 32
STARTED = attempt_started(1)
ATTEMPT = attempt_lines()
STAGES, AGREED = ATTEMPT[1:-2], ATTEMPT[-2]
RANGE, SUMMED, CLOSED = round_lines(averaged=AVERAGE)[-3:]


@pytest.fixture
def check(witnessed: Begin, tmp_path: Path) -> Callable[..., None]:
    """Return a function that writes events into a log and checks it."""

    runs = itertools.count()

    def checked(*events: Event) -> None:
        log = witnessed(tmp_path / str(next(runs)))
        for event in events:
            log.log.append(event)
        check_sums(read_log(log.path).entries)

    return checked


def test_a_round_that_closes_with_what_was_summed_is_in_order(check: Callable[..., None]) -> None:
    check(*ATTEMPT, RANGE, SUMMED, CLOSED)


def test_a_round_that_closes_with_another_average_is_found(check: Callable[..., None]) -> None:
    with pytest.raises(LogError, match="a reference of the server's own choice") as found:
        check(*ATTEMPT, RANGE, SUMMED, replace(CLOSED, averaged_digest=OTHER))
    assert found.value.first_bad == len(ATTEMPT) + 3


@pytest.mark.parametrize(
    ("gate", "average", "holds"),
    [
        ("norm", START, True),
        ("norm", AVERAGE, False),
        ("auxiliary_loss", START, True),
        ("trust_region", AVERAGE, True),
        ("trust_region", START, False),
    ],
)
def test_what_a_gate_threw_away_is_no_average(check: Callable[..., None], gate: str, average: str, holds: bool) -> None:
    events = (*ATTEMPT, RANGE, GateRejected(round=1, gate=gate, reason="above_limit"), SUMMED)
    closed = replace(CLOSED, averaged_digest=average)

    if holds:
        check(*events, closed)
    else:
        with pytest.raises(LogError, match="another average"):
            check(*events, closed)


def test_the_digests_of_all_replies_are_over_those_of_the_stages(check: Callable[..., None]) -> None:
    over = dict(SUMMED.replies)

    check(*ATTEMPT, RANGE, replace(SUMMED, replies=over), CLOSED)
    with pytest.raises(LogError, match="not over those of its stages"):
        check(*ATTEMPT[:-1], replace(SUMMED, replies=over), CLOSED)
    with pytest.raises(LogError, match="not over those of its stages"):
        check(*ATTEMPT, replace(SUMMED, replies={**over, "west": START}), CLOSED)


@pytest.mark.parametrize(
    ("stages", "match"),
    [
        (({"attempt": 2},), "which never began"),
        (({"stage": 0},), "not in their order"),
        (({"stage": 2}, {"stage": 1}), "not in their order"),
        (({}, {}), "not in their order"),
        (({"accepted": ("north", "west")},), "counts silos that did not answer"),
    ],
)
def test_a_stage_that_does_not_fit_its_attempt_is_found(
    check: Callable[..., None], stages: tuple[dict[str, Any], ...], match: str
) -> None:
    with pytest.raises(LogError, match=match):
        check(STARTED, *(replace(STAGES[0], **changes) for changes in stages))


def test_a_round_without_a_sum_closes_with_what_it_began_from(check: Callable[..., None]) -> None:
    rejected = GateRejected(round=1, gate="sum", reason="lost_in_a_crash")

    check(STARTED, *STAGES, AGREED, rejected, round_closed(1, averaged_digest=START))


def test_a_sum_that_nobody_agreed_to_is_found(check: Callable[..., None]) -> None:
    without = [event for event in ATTEMPT if event != AGREED]
    with pytest.raises(LogError, match="no line names that sum before it"):
        check(*without, SUMMED, CLOSED)
    with pytest.raises(LogError, match="no line names that sum before it"):
        check(*without, *attempt_lines(attempt=2), SUMMED, CLOSED)


def test_a_round_without_a_sum_moves_no_reference(check: Callable[..., None]) -> None:
    """Else a server could walk it wherever it likes through rounds in which it asks nobody."""
    second = (replace(STARTED, round=2, adapter_digest=OTHER), GateRejected(round=2, gate="sum", reason="lost"))
    closed = round_closed(2)
    first = (*ATTEMPT, RANGE, SUMMED, CLOSED)

    check(*first, *second, replace(closed, averaged_digest=AVERAGE))
    with pytest.raises(LogError, match="a reference of the server's own choice"):
        check(*first, *second, replace(closed, averaged_digest=OTHER))


def test_a_round_that_closes_over_others_than_those_who_agreed_is_found(check: Callable[..., None]) -> None:
    with pytest.raises(LogError, match="closed over other silos"):
        check(*ATTEMPT, RANGE, SUMMED, replace(CLOSED, contributors=("north", "west")))


def test_in_the_clear_nobody_has_to_agree(witnessed: Begin, tmp_path: Path) -> None:
    log = witnessed(tmp_path / "run")
    for event in round_lines("unsafe_plain"):
        log.log.append(event)
    entries = read_log(log.path).entries
    started = entries[0].event
    assert isinstance(started, RunStarted)

    check_sums([replace(entries[0], event=replace(started, aggregation="unsafe_plain")), *entries[1:]])
    with pytest.raises(LogError, match="was not opened before"):
        check_sums(entries)


def test_each_line_is_looked_at_once_however_long_the_round(witnessed: Begin, tmp_path: Path) -> None:
    """Each line is taken in by itself: nothing before it is read again."""
    reads = 0

    class Counted(list):  # type: ignore[type-arg]  # a test's own list
        def __iter__(self) -> Any:
            nonlocal reads
            for item in super().__iter__():
                reads += 1
                yield item

    log = witnessed(tmp_path / "run")
    for number in range(1, 31):
        for event in attempt_lines(attempt=number):
            log.log.append(event)
    entries = read_log(log.path).entries

    check_sums(Counted(entries))
    assert reads == len(entries)


def test_a_conviction_without_its_proof_is_incomplete_and_one_with_another_proof_is_found(
    witnessed: Begin, tmp_path: Path
) -> None:
    log = witnessed(tmp_path / "run")
    event = PartyConvicted(round=1, attempt=1, party="north", fault="seed", proof_digest="ab" * 32)
    log.log.append(event)
    audit, entries = log.folder / "audit", read_log(log.path).entries

    assert check_convictions(audit, entries, log.roster) == [f"proofs/{'ab' * 32}.json is missing"]
    (audit / "proofs").mkdir()
    (audit / "proofs" / f"{'ab' * 32}.json").write_bytes(b"{}")
    with pytest.raises(LogError, match="the proof against north"):
        check_convictions(audit, entries, log.roster)
