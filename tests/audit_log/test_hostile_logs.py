"""A keeper that signs whatever it likes: what it leaves out, adds or bends, both verifiers find, at the same line.

Each case is an honest log with one thing wrong. What an honest server writes, in any aggregation and after any loss or
crash, passes both.
"""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from fedcollm_secure.audit_log.events import (
    Event,
    GatePassed,
    GateRejected,
    PartyConvicted,
    PartyDropped,
    RoundClosed,
    RoundSummed,
    RunResumed,
    RunStopped,
    StageAnswered,
    SumAgreed,
    SumDecrypted,
)
from fedcollm_secure.audit_log.log import read_log
from fedcollm_secure.audit_log.logged_sums import check_sums
from fedcollm_secure.errors import LogError
from tests.changed_lines import bent, summed_again, without
from tests.second_verifier import needs_node, node, require_found_by_both
from tests.witnessed_log import (
    DIGEST,
    attempt_lines,
    attempt_started,
    logged,
    lost_sum,
    round_closed,
    round_lines,
    summed,
    without_a_sum,
)

Begin = Callable[..., Any]
Lines = Sequence[Event]
MASKED, BFV, CKKS, PLAIN = (round_lines(one) for one in ("masked", "bfv", "ckks", "unsafe_plain"))
CONFIG, NOTHING = sha256(b"name: test\n").hexdigest(), sha256(b"").hexdigest()
WEST_LEFT = PartyDropped(round=1, party="west", reason_code="left_the_round")
RANGE = GatePassed(round=1, gate="range")


def two_passes(*numbers: int) -> list[Event]:
    """Return a round of attempts with these linear passes, all of them summed."""
    attempts = [attempt_lines(attempt=place + 1, linear_pass=number) for place, number in enumerate(numbers)]
    return [*itertools.chain(*attempts), RANGE, *(summed(lines) for lines in attempts), MASKED[-1]]


def with_west(lost: Lines, *, stage: int) -> list[Event]:
    """Return a masked round of three silos, of which one is lost before a stage; `lost` says so."""
    lines: list[Event] = []
    for line in attempt_lines(silos=("north", "south", "west")):
        if isinstance(line, StageAnswered) and line.stage >= stage:
            replies = {party: reply for party, reply in line.replies.items() if party != "west"}
            line = replace(line, accepted=("north", "south"), replies=replies)
        lines.append(replace(line, survivors=("north", "south")) if isinstance(line, SumAgreed) else line)
    return [*lines, *lost, RANGE, summed(lines), MASKED[-1]]


def refused_by_the_trustee(*, named: bool) -> list[Event]:
    """Return a ckks round of two silos, one of whose vectors the decryptor refused."""
    lines = bent(CKKS[:-3], SumAgreed, survivors=("north",))
    left = [PartyDropped(round=1, party="south", reason_code="left_the_round")] * named
    closed = replace(CKKS[-1], contributors=("north",), total_weight=1)
    return [*lines, *left, RANGE, summed(lines), closed]


def second_attempt() -> list[Event]:
    """Return what is left of a masked round whose first attempt gave nothing."""
    lines = attempt_lines(attempt=2)
    return [*lines, RANGE, summed(lines), MASKED[-1]]


ACCUSED = StageAnswered(round=1, attempt=1, stage=4, accepted=("north",), replies={"north": DIGEST})
WEST_CONVICTED = [
    *attempt_lines(silos=("north", "south", "west")),
    PartyConvicted(round=1, attempt=1, party="west", fault="seed", proof_digest=DIGEST),
]
STOPPED = RunStopped(reason="too_few_silos", rounds_done=1)
RESUMED = RunResumed(rounds_done=1, config_digest=CONFIG, software={}, environment_digest=NOTHING)

HONEST: dict[str, tuple[str, Lines]] = {
    "masked": ("masked", MASKED),
    "bfv": ("bfv", BFV),
    "ckks": ("ckks", CKKS),
    "in the clear": ("unsafe_plain", PLAIN),
    "two passes": ("masked", two_passes(0, 1)),
    "a silo lost before the vectors": ("masked", with_west([WEST_LEFT], stage=5)),
    "a silo lost at once": ("masked", with_west([WEST_LEFT], stage=1)),
    "a vector that the trustee refused": ("ckks", refused_by_the_trustee(named=True)),
    "an attempt that was lost": ("masked", [*attempt_lines()[:4], *second_attempt()]),
    "a sum that was opened and lost": ("masked", [*attempt_lines(), *second_attempt()]),
    "a sum that was lost, and found": ("masked", [attempt_started(1), lost_sum(1), *second_attempt()]),
    "a silo that was accused": (
        "masked",
        [*MASKED[:4], ACCUSED, *summed_again([*MASKED[:4], ACCUSED, *MASKED[4:]])[5:]],
    ),
    "a silo that was convicted": ("masked", [*WEST_CONVICTED, *second_attempt()]),
    "stopped and resumed": ("masked", [*MASKED, STOPPED, RESUMED, *round_lines(number=2)]),
    "a round without a sum": ("masked", [*without_a_sum(1), *round_lines(number=2)]),
    "summed twice, after a crash": ("masked", [*MASKED[:-1], MASKED[-2], MASKED[-1]]),
}


def accepting(stage: int, *silos: str) -> list[Event]:
    """Return a masked round whose stage accepts these alone, whatever the stages behind it say."""
    return [
        replace(line, accepted=silos) if isinstance(line, StageAnswered) and line.stage == stage else line
        for line in MASKED
    ]


def left_out(lines: Lines, *stages: int) -> list[Event]:
    """Return the lines without these stages, and with a sum of replies that fits what is left."""
    return summed_again([line for line in lines if not isinstance(line, StageAnswered) or line.stage not in stages])


def without_west_again() -> list[Event]:
    """Return a second attempt that loses a silo without a word."""
    lines = with_west([], stage=5)
    over = [line for line in lines if not isinstance(line, RoundClosed | GatePassed)]
    return [*(replace(line, attempt=2) for line in over), *lines[-3:-2], lines[-1]]  # type: ignore[call-arg]  # all have one


def as_if_lost(lines: Lines) -> list[Event]:
    """Return the lines without the sum, and with one that says so, the contributors being as they were."""
    return without([lost_sum(1) if isinstance(line, GatePassed) else line for line in lines], RoundSummed)


HOSTILE: dict[str, tuple[str, Lines, str]] = {
    # stages: whose answer counts, and who is asked next
    "nobody's hello counts": ("masked", accepting(1), "that the stage before lost"),
    "one dealer less, and he goes on": ("masked", accepting(2, "north"), "that the stage before lost"),
    "nobody's vector counts": ("masked", accepting(5), "that the stage before lost"),
    "nobody's consent counts": ("masked", accepting(6), "answer to stage 6 was accepted"),
    "nobody's share counts": ("masked", accepting(7), "answer to stage 7 was accepted"),
    "a vector less than agreed": (
        "masked",
        bent(bent(accepting(5, "north"), StageAnswered, 4, replies={"north": DIGEST}, accepted=("north",)), SumAgreed),
        "over others than those whose vectors came",
    ),
    "agreed over fewer than came": ("masked", bent(MASKED, SumAgreed, survivors=("north",)), "whose vectors came"),
    "agreed over nobody": ("masked", bent(MASKED, SumAgreed, survivors=()), "whose vectors came"),
    "agreed over nobody, by a trustee": ("ckks", bent(CKKS, SumAgreed, survivors=()), "whose vectors came"),
    "a stage that there is not": (
        "masked",
        [*MASKED[:-3], replace(ACCUSED, stage=8), *MASKED[-3:]],
        "has a stage 8, which its aggregation does not ask",
    ),
    "silos where the decryptor is asked": (
        "bfv",
        bent(BFV, StageAnswered, 0, accepted=("north",), replies={"north": DIGEST}),
        "has a stage 1, which its aggregation does not ask",
    ),
    "a stage of an attempt that is over": (
        "masked",
        [*attempt_lines()[:3], attempt_started(2), attempt_lines()[3]],
        "which never began, or is over",
    ),
    # a sum without its stages
    "a sum without stages": ("masked", left_out(MASKED, 1, 2, 3, 5, 6, 7), "whose vectors came"),
    "a sum without stages, in the clear": ("unsafe_plain", left_out(PLAIN, 1), "answer to stage 1 was accepted"),
    "a sum without its consents": ("masked", left_out(MASKED, 6), "answer to stage 6 was accepted"),
    "a sum without its shares": ("masked", left_out(MASKED, 7), "answer to stage 7 was accepted"),
    "a sum without the key": ("bfv", left_out(BFV, 1), "answer to stage 1 was accepted"),
    "a sum without a deposit": ("ckks", left_out(CKKS, 4), "answer to stage 4 was accepted"),
    # a sum that a decryptor opened
    "bfv that nobody opened": ("bfv", without(BFV, SumDecrypted), "was not opened before"),
    "ckks that nobody opened": ("ckks", without(CKKS, SumDecrypted), "was not opened before"),
    "masks that a decryptor opened": (
        "masked",
        [*MASKED[:-3], next(line for line in BFV if isinstance(line, SumDecrypted)), *MASKED[-3:]],
        "by a decryptor, which its aggregation has not",
    ),
    "agreed in the clear": (
        "unsafe_plain",
        [*PLAIN[:2], next(line for line in MASKED if isinstance(line, SumAgreed)), *PLAIN[2:]],
        "in the clear nobody is asked",
    ),
    # a round and its sums
    "contributors without a sum": ("masked", as_if_lost(MASKED), "closed with contributors, and none"),
    "a weight without a sum": ("masked", [*without_a_sum(1, total_weight=2)], "closed with contributors, and none"),
    "a sum without contributors": ("masked", bent(MASKED, RoundClosed, contributors=()), "closed over other silos"),
    "a sum in the clear over others": (
        "unsafe_plain",
        bent(PLAIN, RoundClosed, contributors=("north",)),
        "closed over other silos",
    ),
    "a round that never began": ("masked", [round_closed(1)], "no attempt at it began"),
    "a pass left out": ("masked", without(two_passes(0, 1), RoundSummed, 0), "not each of its passes was summed once"),
    "the last pass left out": ("masked", without(two_passes(0, 1), RoundSummed, 1), "not with its last attempt's"),
    "a pass taken twice": ("masked", two_passes(0, 0), "not each of its passes was summed once"),
    "passes with two averages": (
        "masked",
        bent(two_passes(0, 1), RoundSummed, 0, averaged_digest="cd" * 32),
        "come to two averages",
    ),
    "summed twice, otherwise": (
        "masked",
        [*MASKED[:-1], replace(MASKED[-2], averaged_digest="cd" * 32), MASKED[-1]],
        "summed twice, to two ends",
    ),
    # attempts and silos that nothing is said of
    "an attempt left out": ("masked", second_attempt(), "begins out of turn"),
    "an attempt begun twice": ("masked", [attempt_started(1), *MASKED], "begins out of turn"),
    "a round left out": ("masked", round_lines(number=2), "begins out of turn"),
    "a silo that is lost without a word": ("masked", with_west([], stage=5), "nothing says what became of it"),
    "a silo whose loss another attempt told": (
        "masked",
        [replace(attempt_started(1), cohort=("north", "south", "west")), WEST_LEFT, *without_west_again()],
        "nothing says what became of it",
    ),
    "a vector refused without a word": ("ckks", refused_by_the_trustee(named=False), "nothing says what became of it"),
    "a convict who is asked again": (
        "masked",
        [*WEST_CONVICTED, replace(attempt_started(2), cohort=("north", "south", "west"))],
        "asks west, who was convicted before",
    ),
    "a loss between rounds": ("masked", [*MASKED, WEST_LEFT], "which is not under way"),
    # gates
    "no gate": ("masked", without(MASKED, GatePassed), "the gate range says nothing"),
    "a gate of an attempt before": (
        "masked",
        [attempt_started(1), RANGE, *without(second_attempt(), GatePassed)],
        "range",
    ),
    "no sum and no reason": ("masked", without(without_a_sum(1), GateRejected), "no gate says why"),
    "no sum, and it passed": (
        "masked",
        [attempt_started(1), lost_sum(1), RANGE, round_closed(1)],
        "was not opened before",
    ),
    "a sum that a gate denies": (
        "masked",
        bent([lost_sum(1) if line == RANGE else line for line in MASKED], RoundClosed),
        "a gate says that there is none",
    ),
    # the run
    "stopped elsewhere": ("masked", [*MASKED, replace(STOPPED, rounds_done=0)], "stood at 1 closed rounds"),
    "resumed elsewhere": ("masked", [*MASKED, replace(RESUMED, rounds_done=2)], "stood at 1 closed rounds"),
    "resumed otherwise": ("masked", [*MASKED, replace(RESUMED, config_digest=DIGEST)], "another configuration"),
    "an aggregation of its own": ("local", MASKED, "is no aggregation"),
}


@pytest.mark.parametrize("name", HONEST)
def test_what_an_honest_server_writes_passes(name: str, witnessed: Begin, tmp_path: Path) -> None:
    aggregation, lines = HONEST[name]
    log = logged(witnessed, tmp_path / "run", aggregation, lines)

    check_sums(read_log(log.path).entries)


@needs_node
@pytest.mark.parametrize("name", HONEST)
def test_what_an_honest_server_writes_passes_the_second_verifier(name: str, witnessed: Begin, tmp_path: Path) -> None:
    aggregation, lines = HONEST[name]
    log = logged(witnessed, tmp_path / "run", aggregation, lines)

    code, found = node(log.folder)
    assert (code, found["first_bad"]) == (3, None), found["reason"]  # its manifests are missing, and nothing is bad


@pytest.mark.parametrize("name", HOSTILE)
def test_what_a_keeper_leaves_out_or_adds_is_found(name: str, witnessed: Begin, tmp_path: Path) -> None:
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
