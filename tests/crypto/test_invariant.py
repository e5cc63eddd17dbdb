"""The invariant over all sums, rule by rule: what is allowed, what is refused, and that silos hold to it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fedcollm_crypto.errors import Refused, TooFewSilos
from fedcollm_crypto.masking import invariant, rules
from fedcollm_crypto.masking.invariant import Memory
from fedcollm_crypto.masking.manifest import threshold
from fedcollm_crypto.masking.policy import SiloPolicy
from fedcollm_crypto.masking.protocol import run_masking
from fedcollm_crypto.masking.stages import Convicted, Heard, Released, StageEntry, Where

NAMES = [f"silo-{i:03}" for i in range(1, 11)]
DP, MODEL = "99" * 32, "bb" * 32


def at(session: str = "session", number: int = 1, attempt: int = 0, linear_pass: int = 0) -> Where:
    return Where(session_id=session, round=number, attempt=attempt, linear_pass=linear_pass)


def sum_over(silos: list[str], where: Where | None = None, *, kind: type = Released, model: str = MODEL, dp: str = ""):
    return kind(where=where or at(), model_version=model, survivors=tuple(sorted(silos)), dp_plan_hash=dp)


def bad(party: str, where: Where | None = None, fault: str = "seed") -> Convicted:
    return Convicted(where=where or at(), party=party, fault=fault, proof_hash="00")


def outcome(check: Callable[[], None]) -> str:
    """Return why a rule refuses; empty where it allows."""
    try:
        check()
    except Refused as refused:
        return refused.reason_code
    return ""


def manifest_of(tools, cohort: list[str] = NAMES, **changes: object):
    return replace(tools.Consortium(10).manifest, cohort=tuple(cohort), **changes)


# --- what is remembered ---


def test_a_sum_that_was_heard_of_and_helped_to_open_counts_once():
    mine, told = sum_over(NAMES), sum_over(NAMES, kind=Heard)
    other = sum_over(NAMES[:7], at(number=2), kind=Heard)

    memory = Memory.of([told, mine, other])

    assert memory.sums == (mine, other)
    assert Memory.of([told, other]).sums == (told, other)


def test_the_convicted_are_remembered_once_and_only_spoiled_sums_with_them():
    entries = [bad("silo-001"), bad("silo-001", at(number=2)), bad("silo-002", at(number=3), "disclosure")]

    memory = Memory.of(entries)

    assert memory.convicted == {"silo-001", "silo-002"}
    assert memory.spoiled == {at(), at(number=2)}
    assert memory.without_convicted(NAMES) == set(NAMES[2:])


def test_what_is_no_sum_is_no_memory(tools):
    consortium = tools.Consortium(3)
    tools.answers(tools.run_to(6, consortium.server(), silos := consortium.silos()), silos)

    memory = Memory.of(consortium.stages["silo-001"].entries())
    assert (memory.sums, memory.convicted, memory.spoiled) == ((), frozenset(), frozenset())
    assert [entry.members for entry in memory.sessions] == [tuple(NAMES[:3])]


# --- A14: t follows from the roster ---


@pytest.mark.parametrize("size", [3, 5, 7, 9])
def test_of_ten_silos_no_smaller_cohort_brings_its_own_threshold(tools, size: int):
    consortium = tools.Consortium(10)
    low = replace(consortium.manifest, cohort=tuple(NAMES[:size]), threshold=threshold(size, 1, "malicious"))
    request = consortium.signed("manifest", low.to_body())

    expected = "low_threshold" if threshold(size, 1, "malicious") < 7 else "hello"
    reply = tools.reply_of(b"".join(consortium.silo("silo-001").handle(request)))

    assert reply.body.get("reason_code", reply.kind) == expected


def test_a_smaller_cohort_with_the_rosters_threshold_is_allowed(tools):
    consortium = tools.Consortium(10)
    manifest = replace(consortium.manifest, cohort=tuple(NAMES[:8]))

    result = run_masking(consortium.server(manifest), consortium.silos(manifest))

    assert np.array_equal(result.total, consortium.total(NAMES[:8]))


def test_two_sums_of_one_roster_share_an_honest_silo_whatever_the_cohorts():
    """Two quorums of t have 2t − n members in common at least; more than n_c, so one of them is honest."""
    for n in range(2, 60):
        for colluding in range(n - 1):
            t = threshold(n, colluding, "malicious")
            assert 2 * t - n > colluding
            assert t <= n


def test_without_the_rosters_number_they_would_not(tools):
    consortium = tools.Consortium(10)
    low = replace(consortium.manifest, cohort=tuple(NAMES[7:]), threshold=3)
    small = replace(consortium.roster, members=(*consortium.roster.members[7:10], consortium.roster.members[-1]))

    assert outcome(lambda: rules.require_threshold(low, consortium.roster, consortium.policy)) == "low_threshold"
    assert outcome(lambda: rules.require_threshold(low, small, consortium.policy)) == ""


# --- (1) one dimension: one set for each model version and pass ---

REFUSED_AT_ONCE: dict[str, tuple[list[StageEntry], dict[str, object], str]] = {
    "nothing was opened": ([], {}, ""),
    "the same model": ([sum_over(NAMES)], {"round": 2}, "released"),
    "the same model over others": ([sum_over(NAMES[:7])], {"round": 2}, "released"),
    "another model": ([sum_over(NAMES, model="01" * 32)], {"round": 2}, ""),
    "another pass without the first": ([], {"linear_pass": 1}, "other_pass"),
    "another pass": ([sum_over(NAMES)], {"linear_pass": 1, "attempt": 1}, ""),
    "a pass twice": (
        [sum_over(NAMES), sum_over(NAMES, at(attempt=1, linear_pass=1))],
        {"linear_pass": 1, "attempt": 2},
        "released",
    ),
    "another pass over fewer": ([sum_over(NAMES[:9])], {"linear_pass": 1, "attempt": 1}, "other_pass"),
    "another pass of another round": ([sum_over(NAMES)], {"linear_pass": 1, "round": 2}, "other_pass"),
    "another pass of a sum that others opened": (
        [sum_over(NAMES, kind=Heard)],
        {"linear_pass": 1, "attempt": 1},
        "other_pass",
    ),
    "the same model in another session": ([sum_over(NAMES, at("other"))], {}, ""),  # the survivors tell
    "a sum that others opened": ([sum_over(NAMES[:7], kind=Heard)], {"round": 2}, ""),  # the survivors tell
    "a spoiled sum, over all again": ([sum_over(NAMES), bad("silo-010")], {"attempt": 1}, "released"),
}


@pytest.mark.parametrize("what", REFUSED_AT_ONCE)
def test_a_second_sum_is_refused_before_it_begins(tools, what: str):
    entries, changes, code = REFUSED_AT_ONCE[what]
    manifest = manifest_of(tools, **changes)

    assert outcome(lambda: invariant.require_unreleased(manifest, Memory.of(entries))) == code


@pytest.mark.parametrize(
    ("entries", "cohort", "code"),
    [
        ([sum_over(NAMES), bad("silo-010")], NAMES[:9], ""),
        ([sum_over(NAMES), bad("silo-010"), bad("silo-010")], NAMES[:9], ""),
        ([sum_over(NAMES), bad("silo-010")], NAMES[:8], "released"),
        ([sum_over(NAMES), bad("silo-010")], NAMES[1:], "released"),
        ([sum_over(NAMES), bad("silo-010", at(attempt=5))], NAMES[:9], "released"),  # that sum was opened well
        ([sum_over(NAMES), bad("silo-010", at("other"))], NAMES[:9], "released"),
        ([sum_over(NAMES), bad("silo-010", fault="disclosure")], NAMES[:9], "released"),
        ([sum_over(NAMES[:9]), bad("silo-010", fault="key")], NAMES[:9], ""),  # it was lost before the vectors
        ([sum_over(NAMES), bad("silo-010"), sum_over(NAMES[:9], at(attempt=1))], NAMES[:9], "released"),
        (
            [sum_over(NAMES), bad("silo-010"), sum_over(NAMES[:9], at(attempt=1)), bad("silo-009", at(attempt=1))],
            NAMES[:8],
            "",
        ),
    ],
)
def test_a_sum_that_could_not_be_opened_is_opened_over_exactly_those_who_are_left(tools, entries, cohort, code):
    manifest = manifest_of(tools, cohort, attempt=6)

    assert outcome(lambda: invariant.require_unreleased(manifest, Memory.of(entries))) == code


ONE_SET: dict[str, tuple[list[StageEntry], list[str], dict[str, object], str]] = {
    "the first": ([], NAMES, {}, ""),
    "the same set": ([sum_over(NAMES, kind=Heard)], NAMES, {"round": 2}, ""),
    "a smaller set": ([sum_over(NAMES, kind=Heard)], NAMES[:9], {"round": 2}, "other_set"),
    "a larger set": ([sum_over(NAMES[:9], kind=Heard)], NAMES, {"round": 2}, "other_set"),
    "a smaller set of another model": ([sum_over(NAMES, model="01" * 32)], NAMES[:9], {"round": 2}, ""),
    "a smaller set in another session": ([sum_over(NAMES, at("other"))], NAMES[:9], {}, "other_set"),
    "the same set in another session": ([sum_over(NAMES, at("other"))], NAMES, {}, ""),
    "a smaller set of another pass": ([sum_over(NAMES, at(linear_pass=1))], NAMES[:9], {}, ""),
    "less the convicted": ([sum_over(NAMES), bad("silo-010")], NAMES[:9], {}, ""),
    "with the convicted again": ([sum_over(NAMES[:9]), bad("silo-010")], NAMES, {}, ""),
    "less the convicted and another": ([sum_over(NAMES), bad("silo-010")], NAMES[:8], {}, "other_set"),
}


@pytest.mark.parametrize("kind", [Released, Heard])
@pytest.mark.parametrize("what", ONE_SET)
def test_all_sums_of_one_model_and_pass_are_over_one_set(tools, what: str, kind: type):
    entries, survivors, changes, code = ONE_SET[what]
    entries = [kind(**vars(e)) if isinstance(e, Released | Heard) else e for e in entries]
    manifest = manifest_of(tools, **changes)

    assert outcome(lambda: invariant.require_one_dimension(manifest, survivors, Memory.of(entries))) == code


@pytest.mark.parametrize(
    ("earlier", "later", "session", "code"),
    [
        ("", "", "other", "other_set"),  # training is deterministic: the same update again
        (DP, DP, "other", ""),  # each session draws its own noise, and the ledger pays for both
        (DP, "", "other", ""),
        (DP, DP, "session", "other_set"),  # in one session it is the very same noise
    ],
)
def test_with_differential_privacy_an_equal_model_in_another_session_is_another(tools, earlier, later, session, code):
    manifest = manifest_of(tools, dp_plan_hash=later)
    memory = Memory.of([sum_over(NAMES, at(session), dp=earlier)])

    assert outcome(lambda: invariant.require_one_dimension(manifest, NAMES[:9], memory)) == code


# --- (2) nobody exposed ---


def exposure(tools, entries: list[StageEntry], survivors: list[str], bears_with: int = 0, **changes: object) -> str:
    policy = SiloPolicy(max_single_changes=bears_with)
    manifest = manifest_of(tools, adapter_hash="77" * 32, **changes)
    return outcome(lambda: invariant.limit_exposure(manifest, survivors, policy, Memory.of(entries)))


def without(*numbers: int) -> list[str]:
    return [name for i, name in enumerate(NAMES, start=1) if i not in numbers]


def series(*lost: tuple[int, ...], kind: type = Released, **changes: object) -> list[StageEntry]:
    """Return sums of one model each, over all but some."""
    return [
        sum_over(without(*each), at(number=i), kind=kind, model=f"{i:064x}", **changes) for i, each in enumerate(lost)
    ]


@pytest.mark.parametrize("kind", [Released, Heard])
def test_pairs_that_together_tell_of_one_silo_are_refused(tools, kind: type):
    """A19. Whoever opened the earlier sums: what this silo has heard of counts as well."""
    assert exposure(tools, series((), kind=kind), without(1, 2)) == "cohort_changes"
    assert exposure(tools, series((), kind=kind), without(1, 2), bears_with=1) == ""
    assert exposure(tools, series((), (1, 2), (2, 3), kind=kind), without(1, 3), bears_with=2) == "cohort_changes"


def test_silos_that_leave_in_threes_are_not_limited(tools):
    assert exposure(tools, series((), (1, 2, 3)), without(4, 5, 6)) == ""
    assert exposure(tools, series((), (1, 2, 3)), without()) == ""


def test_the_last_three_of_ten_leave_one_behind(tools):
    """The sum over all, less the threes that left in turn, is the tenth silo's update."""
    assert exposure(tools, series((), (1, 2, 3), (4, 5, 6)), without(7, 8, 9)) == "cohort_changes"


def test_threes_that_together_tell_of_few_are(tools):
    """Without 1 2 3, and without 1 2 3 4: the difference is one silo."""
    assert exposure(tools, series((), (1, 2, 3)), without(1, 2, 3, 4)) == "cohort_changes"


def test_sums_with_differential_privacy_are_no_part_of_it(tools):
    assert exposure(tools, series((), dp=DP), without(1)) == ""
    assert exposure(tools, series(()), without(1), dp_plan_hash=DP) == ""
    assert exposure(tools, series(()), without(1)) == "cohort_changes"


def test_one_sum_in_two_entries_counts_once(tools):
    entries = [*series((), (1,)), *series((), (1,), kind=Heard)]

    assert exposure(tools, entries, without(2), bears_with=2) == ""
    assert exposure(tools, [*series((), (1,)), *series((), (1,), (1,), kind=Heard)], without(2), 2) == "cohort_changes"


def test_what_is_told_of_a_convicted_silo_alone_does_not_count(tools):
    entries = [*series((), (1,)), bad("silo-001")]

    assert exposure(tools, entries, without(1)) == ""
    assert exposure(tools, series((), (1,)), without(1)) == "cohort_changes"
    assert exposure(tools, entries, without(1, 2)) == "cohort_changes"


# --- (3) enough noise ---


@pytest.mark.parametrize(
    ("shares", "colluding", "code"),
    [
        (0, 1, ""),
        (6, 1, ""),
        (7, 1, "too_little_noise"),
        (6, 0, ""),
        (7, 0, "too_little_noise"),
        (5, 2, ""),
        (6, 2, "too_little_noise"),
    ],
)
def test_a_floor_that_does_not_carry_the_plans_honest_shares_is_refused(tools, shares: int, colluding: int, code: str):
    """A15. Of ten t is 7; from it go the n_c in league, and at least one: a silo knows its own share."""
    consortium = tools.Consortium(10)
    assert consortium.manifest.floor == 7
    policy = SiloPolicy(colluding=colluding, min_cohort=4)
    expected = replace(consortium.expected(), noise_shares=shares)

    assert outcome(lambda: invariant.require_noise_shares(consortium.manifest, expected, policy)) == code


# --- silos hold to all of it, whatever happens between the sums ---


def open_sum(consortium, manifest, lost: tuple[str, ...] = ()) -> str:
    """Open one sum with silos that have just restarted; return what the first of them said last."""
    server, silos = consortium.server(manifest), consortium.silos(manifest)
    try:
        run_masking(server, silos, lambda stage, party: stage < 5 or party not in lost)
    except TooFewSilos:
        return ", ".join(sorted(set(server.refused.values())))
    return "opened"


def test_the_same_job_again_is_opened_over_the_same_silos_only(tools):
    """A23: another session, the same first adapter."""
    consortium = tools.Consortium(7)
    again = replace(consortium.manifest, session_id="again")
    smaller = replace(again, cohort=consortium.manifest.cohort[:6])

    assert open_sum(consortium, consortium.manifest) == "opened"
    assert open_sum(consortium, smaller) == "other_set"
    assert open_sum(consortium, replace(again, attempt=1), lost=("silo-007",)) == "other_set"
    assert open_sum(consortium, replace(again, attempt=2)) == "opened"


def test_with_differential_privacy_the_same_job_may_be_smaller(tools):
    consortium = tools.Consortium(7, dp_plan_hash=DP)
    smaller = replace(consortium.manifest, session_id="again", cohort=consortium.manifest.cohort[:6])

    assert open_sum(consortium, consortium.manifest) == "opened"
    assert open_sum(consortium, smaller) == "opened"


def test_a_sum_that_was_only_heard_of_binds_as_well(tools):
    consortium = tools.Consortium(7)
    heard = sum_over(list(consortium.manifest.cohort[:6]), at("earlier"), kind=Heard)
    for stages in consortium.stages.values():
        stages.append(heard)

    assert open_sum(consortium, consortium.manifest) == "other_set"
    assert open_sum(consortium, replace(consortium.manifest, attempt=1, cohort=heard.survivors)) == "opened"


def test_a_cohort_that_holds_too_little_noise_is_refused_by_every_silo(tools):
    consortium = tools.Consortium(7, dp_plan_hash=DP)

    def said(shares: int) -> str:
        expected = replace(consortium.expected(), noise_shares=shares)
        reply = consortium.silo("silo-001", expected=lambda _: expected).handle(
            consortium.signed("manifest", consortium.manifest.to_body())
        )
        message = tools.reply_of(b"".join(reply))
        return str(message.body.get("reason_code", message.kind))

    assert consortium.manifest.floor == 5
    assert said(5) == "too_little_noise"
    assert said(4) == "hello"
