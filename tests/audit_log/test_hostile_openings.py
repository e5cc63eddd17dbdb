"""A keeper that opens what no line names, or says of a round what cannot be: both verifiers find it, at one line."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedcollm_secure.audit_log.attempt_stages import PROTOCOLS, Protocol
from fedcollm_secure.audit_log.events import (
    Event,
    GatePassed,
    GateRejected,
    HeadAttested,
    PartyConvicted,
    RoundClosed,
    RunFinished,
    RunResumed,
    RunStopped,
    StageAnswered,
    SumAgreed,
    SumDecrypted,
)
from fedcollm_secure.audit_log.log import read_log
from fedcollm_secure.audit_log.log_entry import Entry
from fedcollm_secure.audit_log.logged_attempt import Attempt
from fedcollm_secure.audit_log.logged_end import check_end
from fedcollm_secure.audit_log.logged_sums import check_sums
from fedcollm_secure.audit_log.run_verification import check_config
from fedcollm_secure.errors import LogError
from fedcollm_secure.operations.verify_command import verify_directory
from tests.changed_lines import bent, without
from tests.second_verifier import needs_node, node, require_found_by_both
from tests.witnessed_log import DIGEST, attempt_lines, attempt_started, logged, round_lines, summed

Begin = Callable[..., Any]
Lines = Sequence[Event]
MASKED, BFV, CKKS, PLAIN = (round_lines(one) for one in ("masked", "bfv", "ckks", "unsafe_plain"))
RANGE = GatePassed(round=1, gate="range")


def moved(lines: Lines, kind: type[Event], *, behind: int) -> list[Event]:
    """Return the lines with the first of a kind behind the stage of this number."""
    line = next(line for line in lines if isinstance(line, kind))
    found = [one for one in lines if one is not line]
    place = 1 + next(place for place, one in enumerate(found) if isinstance(one, StageAnswered) and one.stage == behind)
    return [*found[:place], line, *found[place:]]


def second_attempt() -> list[Event]:
    """Return what is left of a masked round whose first attempt gave nothing."""
    lines = attempt_lines(attempt=2)
    return [*lines, RANGE, summed(lines), MASKED[-1]]


CONVICTED = PartyConvicted(round=1, attempt=1, party="south", fault="seed", proof_digest=DIGEST)


def next_round(**changes: object) -> list[Event]:
    """Return a first round, and a second one with another end."""
    return [*MASKED, *bent(round_lines(number=2), RoundClosed, **changes)]


HOSTILE: dict[str, tuple[str, Lines, str]] = {
    "a sum that no line names": (
        "masked",
        [*without(attempt_lines(), SumAgreed), *second_attempt()],
        "stage 7 opens the sum of round 1, attempt 1, and no line names",
    ),
    "a sum named after its shares": ("masked", moved(MASKED, SumAgreed, behind=7), "no line names that sum before it"),
    "a sum named after the decryptor": ("bfv", moved(BFV, SumAgreed, behind=8), "no line names that sum before it"),
    "a sum named after both": ("bfv", moved(BFV, SumAgreed, behind=9), "stage 8 opens the sum"),
    "a sum named after the trustee": ("ckks", moved(CKKS, SumAgreed, behind=6), "stage 6 opens the sum"),
    "opened before the decryptor was asked": (
        "bfv",
        [*BFV[:8], *(line for line in BFV if isinstance(line, SumDecrypted)), *without(BFV[8:], SumDecrypted)],
        "nobody's answer to stage 8 was accepted",
    ),
    "opened by a decryptor whose answer did not count": (
        "ckks",
        bent(CKKS, StageAnswered, 5, accepted=()),
        "opened by a decryptor, and nobody's answer to stage 6 was accepted",
    ),
    # a gate that judges what is not there
    "a gate before any stage": (
        "masked",
        [MASKED[0], RANGE, *MASKED[1:]],
        "the gate range spoke of a sum, and the sum",
    ),
    "a gate before the shares": ("masked", [*MASKED[:-4], RANGE, *MASKED[-4:]], "answer to stage 7 was accepted"),
    "a gate before the decryptor": ("bfv", [*BFV[:-4], RANGE, *BFV[-4:]], "was not opened before"),
    "a gate that rejects no sum": (
        "masked",
        [MASKED[0], GateRejected(round=1, gate="norm", reason="above_limit"), *MASKED[1:]],
        "the gate norm spoke of a sum",
    ),
    # a silo that cheated, and is in the sum all the same
    "a convict in the sum": ("masked", [*MASKED[:-3], CONVICTED, *MASKED[-3:]], "summed over south, who was convicted"),
    "a convict behind the sum": ("masked", [*MASKED[:-1], CONVICTED, MASKED[-1]], "south is convicted of its part in"),
    "a convict of another attempt": (
        "masked",
        [*attempt_lines()[:4], replace(CONVICTED, attempt=2)],
        "a silo is convicted of round 1, attempt 2, which never began",
    ),
    # a round that does not follow the one before
    "from another adapter": ("masked", next_round(adapter_before="cd" * 32), "from another adapter than the round"),
    "with no weight": ("masked", next_round(total_weight=0), "a weight of less than 1 for each silo"),
    "with too little weight": ("masked", next_round(total_weight=1), "a weight of less than 1 for each silo"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_what_cannot_be_is_found(name: str, witnessed: Begin, tmp_path: Path) -> None:
    aggregation, lines, reason = HOSTILE[name]
    log = logged(witnessed, tmp_path / "run", aggregation, lines)

    with pytest.raises(LogError, match=reason):
        check_sums(read_log(log.path).entries)


@needs_node
@pytest.mark.parametrize("name", HOSTILE)
def test_both_find_it_at_the_same_line(name: str, witnessed: Begin, tmp_path: Path) -> None:
    aggregation, lines, _ = HOSTILE[name]
    log = logged(witnessed, tmp_path / "run", aggregation, lines)

    require_found_by_both(log.folder)


@needs_node
@pytest.mark.parametrize(("size", "fits"), [(1, True), (2, True), (3, False), (99, False)])
def test_a_head_is_attested_once_it_is_there(size: int, fits: bool, witnessed: Begin, tmp_path: Path) -> None:
    log = logged(witnessed, tmp_path / "run", "masked", [MASKED[0], HeadAttested(size=size, silos=())])

    _, found = verify_directory(log.folder, None, None)
    assert found["first_bad"] == node(log.folder)[1]["first_bad"] == (None if fits else 2), found


ROUNDS, DONE = "name: test\nrounds: {}\n", RunFinished(summary_digest=DIGEST)
STOPPED = RunStopped(reason="budget_exhausted", rounds_done=1)
ENDS: dict[str, tuple[str, Lines, str]] = {
    "all rounds": ("1", [*MASKED, DONE], ""),
    "a stop": ("2", [*MASKED, STOPPED, DONE], ""),
    "no end yet": ("2", MASKED, ""),
    "too few": ("2", [*MASKED, DONE], "finished after 1 rounds, config.yaml asks for 2"),
    "too many": ("1", [*MASKED, *round_lines(number=2), DONE], "finished after 2 rounds, config.yaml asks for 1"),
    "a stop that was over": ("3", [*MASKED, STOPPED, *round_lines(number=2), DONE], "finished after 2 rounds"),
    "no number of rounds": ("all", [*MASKED, DONE], "rounds stands there once"),
    "two of them": ("1\nrounds: 2", [*MASKED, DONE], "rounds stands there once"),
}


@needs_node
@pytest.mark.parametrize("name", ENDS)
def test_a_run_finishes_after_all_its_rounds_or_says_why(name: str, witnessed: Begin, tmp_path: Path) -> None:
    rounds, lines, reason = ENDS[name]
    log = witnessed(tmp_path / "run", config=ROUNDS.format(rounds))
    for line in lines:
        log.log.append(line)
    log.attest()

    code, found = node(log.folder)
    assert (code, reason in found["reason"]) == (1 if reason else 3, True), found
    if not reason:
        check_config(log.folder, read_log(log.path))
        return
    with pytest.raises(LogError, match=reason) as ours:
        check_config(log.folder, read_log(log.path))
    assert ours.value.first_bad == found["first_bad"]


def test_a_stop_does_not_count_once_the_run_was_resumed() -> None:
    resumed = RunResumed(rounds_done=1, config_digest=DIGEST, software={}, environment_digest=DIGEST)
    lines = [*MASKED, STOPPED, resumed, DONE]
    entries = [Entry(index=index, time="", event=line, leaf=b"") for index, line in enumerate(lines)]

    with pytest.raises(LogError, match="it did not stop"):
        check_end(entries, ROUNDS.format(2))


def wide(count: int) -> tuple[Attempt, list[Event]]:
    """Return an attempt at a ckks sum of so many silos, open, and its lines."""
    silos = tuple(f"silo-{number}" for number in range(count))
    started = replace(attempt_started(1), cohort=silos)
    told = Attempt(started, PROTOCOLS["ckks"])
    asked = {1: ("auditor",), 2: silos, 3: silos, **dict.fromkeys(range(4, 5 + count), ("auditor",))}
    stages = [
        StageAnswered(round=1, attempt=1, stage=stage, accepted=who, replies=dict.fromkeys(who, DIGEST))
        for stage, who in asked.items()
    ]
    for line in stages[:-1]:
        told.answer(line, 1)
    told.agree(SumAgreed(round=1, attempt=1, linear_pass=0, adapter_digest=DIGEST, survivors=silos), 1)
    told.answer(stages[-1], 1)
    told.decrypt(next(line for line in CKKS if isinstance(line, SumDecrypted)), 1)
    return told, [started, *stages]


def test_each_line_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    listed: list[int] = []
    real = Protocol.of_decryptor
    monkeypatch.setattr(Protocol, "of_decryptor", lambda self, vectors: listed.append(vectors) or real(self, vectors))
    for count in (2, 40):
        told, lines = wide(count)
        for _ in range(count):
            told.sum_up(summed(lines), 1)

    assert listed == [2, 2, 40, 40]  # where silos agree to it, and where it is summed: not once for each line
