"""A14 to A19 and A23: what a server that chooses, or a silo that deals badly, gains of us, and of silos that forget."""

import math
from collections.abc import Callable, Generator, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from pathlib import Path
from unittest.mock import patch

import pytest

from fedcollm_crypto.homomorphic.worker import Worker
from fedcollm_crypto.masking import invariant
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
from fedcollm_secure.assurance.attacks.attack_variants import WaysUnder, try_under_each, try_ways
from fedcollm_secure.assurance.attacks.malicious_server import Blocked
from fedcollm_secure.assurance.attacks.protection import CLASSICAL, POST_QUANTUM, Protection, bfv, ckks
from fedcollm_secure.assurance.attacks.toy_federation import Session
from fedcollm_secure.assurance.attacks.toy_region import Neighbourhood, version
from fedcollm_secure.assurance.attacks.twins import former_rules as former
from fedcollm_secure.federation import admission, log_reader

ATTACKS: dict[str, Attack] = {
    "A14": two_cohorts.ATTACK,
    "A15": too_little_noise.ATTACK,
    "A16": two_manifests.ATTACK,
    "A17": chosen_reference.ATTACK,
    "A18": bad_dealing.ATTACK,
    "A19": cohort_pairs.ATTACK,
    "A23": second_session.ATTACK,
}
UNDER_EACH: dict[str, tuple[WaysUnder, set[str]]] = {
    "A14": (two_cohorts.ways, {"low_threshold", "released"}),
    "A15": (too_little_noise.ways, {"low_threshold", "too_little_noise"}),
    "A16": (two_manifests.ways, {"protocol_violation", "other_plan", "malformed"}),
    "A18": (bad_dealing.ways, {"gains_nothing", "released"}),
    "A19": (cohort_pairs.ways, {"cohort_changes"}),
    "A23": (second_session.ways, {"other_set", "cohort_changes"}),
}


@contextmanager
def two_views_of_the_log() -> Generator[None]:
    with (
        patch.object(admission, "require_named_head", former.allow),
        patch.object(log_reader, "quorum_cosigned", former.cosigned_by_anybody),
    ):
        yield


@contextmanager
def a_conviction_opens_anything() -> Generator[None]:
    with ExitStack() as stack:
        for name, instead in (
            ("require_unreleased", former.no_second_sum_unless_somebody_was_convicted),
            ("require_one_dimension", former.one_set_unless_somebody_was_convicted),
            ("limit_exposure", former.allow),
        ):
            stack.enter_context(patch.object(invariant, name, instead))
        yield


@contextmanager
def a_decryptor_that_forgets() -> Generator[None]:
    """Take its own rule from a decryptor without masks: a version is opened once, whoever asks."""
    with patch.object(invariant, "require_unreleased", former.allow):
        yield


Without = Callable[[], AbstractContextManager[None]]
WITHOUT: dict[str, tuple[Without, Callable[[Protection], bool]]] = {
    "A14": (former.rules_that_look_at_one_attempt, lambda p: two_cohorts.split_into_two_sums(3, protection=p)),
    "A15": (former.rules_that_look_at_one_attempt, lambda p: too_little_noise.open_over(3, protection=p)),
    "A16": (two_views_of_the_log, two_manifests.two_logs),
    "A18": (a_conviction_opens_anything, bad_dealing.two_sums_by_a_conviction),
    "A19": (
        former.rules_that_look_at_one_attempt,
        lambda p: cohort_pairs.recover_from_pairs(cohort_pairs.STRICT, protection=p),
    ),
    "A23": (
        former.rules_that_look_at_one_attempt,
        lambda p: second_session.recover_in_a_second_session(smaller_roster=True, protection=p),
    ),
}


PROTECTIONS = ["masked_classical", "masked_post_quantum", "bfv", "ckks"]


@pytest.fixture(params=PROTECTIONS)
def protection(request: pytest.FixtureRequest) -> Iterator[Protection]:
    with Worker() as worker:
        yield {one.name: one for one in (CLASSICAL, POST_QUANTUM, bfv(worker), ckks(worker))}[request.param]


@pytest.mark.parametrize("name", ATTACKS)
def test_the_attack_works_on_silos_that_look_at_one_attempt(name: str) -> None:
    assert ATTACKS[name].unprotected().succeeded


@pytest.mark.parametrize("name", UNDER_EACH)
def test_every_way_is_refused_with_its_reason_or_gains_nothing(name: str, protection: Protection) -> None:
    ways, codes = UNDER_EACH[name]
    if (name, protection.name) == ("A18", "ckks"):  # nobody deals shares there
        assert ways(protection) == {}
        return
    outcome = try_ways(ways(protection))

    assert not outcome.succeeded
    assert set(outcome.reason.split(", ")) == codes
    assert outcome.figures["ways_refused"] == outcome.figures["ways_tried"]


@pytest.mark.parametrize("name", WITHOUT)
def test_without_its_rules_the_attack_works_under_each_protection(name: str, protection: Protection) -> None:
    without, attack = WITHOUT[name]
    if (name, protection.name) == ("A18", "ckks"):  # nobody deals shares there
        assert bad_dealing.ways(protection) == {}
        return
    with without(), a_decryptor_that_forgets() if protection.trusting else nullcontext():
        assert attack(protection)


def test_the_decryptors_memory_alone_stops_a_second_sum_under_ckks() -> None:
    """Without the rules of the silos, and with that one: what the silos do not remember, the decryptor does (A14)."""
    with Worker() as worker, former.rules_that_look_at_one_attempt(), pytest.raises(Blocked, match="released"):
        two_cohorts.split_into_two_sums(3, protection=ckks(worker))


def test_another_decryptor_opens_a_second_sum_where_silos_remember_none(protection: Protection) -> None:
    """Silos remember which sums they helped to open; under CKKS they do not know, and a second decryptor does not."""
    if protection.trusting:
        assert second_session.recover_under_another_decryptor(protection)
    else:
        with pytest.raises(Blocked, match="other_set"):
            second_session.recover_under_another_decryptor(protection)


def test_an_honest_manifest_leaves_the_trace_that_no_other_does(protection: Protection) -> None:
    assert two_manifests.honest_payload(protection)


def test_every_way_to_a_reference_of_the_servers_own_is_refused() -> None:
    outcome = chosen_reference.ATTACK.protected()

    assert not outcome.succeeded
    assert set(outcome.reason.split(", ")) == {"malformed", "trust_region", "no_reference", "found_by_verify"}


def _one_sum(folder: Path, protection: Protection, *, log_it: bool) -> frozenset[str]:
    session = Session(Neighbourhood(5, folder, protection=protection))
    summed = session.attempt(session.manifest(adapter=version(0)), version(0), log_it=log_it)
    assert (summed.total == session.total(session.members)).all()
    return summed.contributors


def test_an_honest_sum_comes_out_under_each_protection(protection: Protection, tmp_path: Path) -> None:
    assert len(_one_sum(tmp_path, protection, log_it=True)) == 5


def test_only_the_decryptor_keeps_a_sum_shut_that_the_log_does_not_name_yet(
    protection: Protection, tmp_path: Path
) -> None:
    if protection.worker is None:  # the silos find it unnamed when they are asked again: see test_interleaved
        assert len(_one_sum(tmp_path, protection, log_it=False)) == 5
    else:
        with pytest.raises(Blocked, match="unlogged_sum"):
            _one_sum(tmp_path, protection, log_it=False)


@pytest.mark.parametrize("falls", ["", *PROTECTIONS[1:]])
def test_an_outcome_counts_the_ways_under_each_protection(falls: str) -> None:
    outcome = try_under_each(lambda one: {"refused": refuse, "open": lambda: one.name == falls})

    assert outcome.succeeded == bool(falls)
    assert (outcome.figures["protections"], outcome.figures["ways_tried"]) == (4, 8)
    for name in PROTECTIONS:
        assert (outcome.figures[f"{name}_ways"], outcome.figures[f"{name}_refused"]) == (2, 1 if name == falls else 2)
    assert outcome.reason == "no_reason, gains_nothing"
    assert outcome.table[1] == ("refused", *["refused (no_reason)"] * 4)
    assert outcome.table[2].count("REACHES ITS GOAL") == outcome.succeeded


def test_an_outcome_says_where_an_attack_has_no_meaning() -> None:
    outcome = try_under_each(lambda one: {} if one.trusting else {"refused": refuse})

    assert not outcome.succeeded
    assert (outcome.figures["protections"], outcome.figures["ways_tried"], outcome.figures["ckks_ways"]) == (3, 3, 0)
    assert outcome.table == [
        ("way", "masked classical", "masked post quantum", "bfv", "ckks"),
        ("refused", *["refused (no_reason)"] * 3, "has no meaning here"),
    ]
    assert outcome.told == "1 ways under each of masked classical, masked post quantum, bfv: none reaches the goal"


def refuse() -> bool:
    raise Blocked("no_reason")


def test_less_noise_costs_what_the_accountant_says() -> None:
    """Two honest shares of five: σ falls by √(2/5), as a plan with that much less noise says by itself."""
    counted_on = too_little_noise.plan()
    true = too_little_noise.true_epsilon(counted_on, honest=2)

    assert counted_on.honest == 5
    assert true == pytest.approx(14.1, abs=0.05)
    assert too_little_noise.true_epsilon(counted_on, honest=5) <= counted_on.epsilon
    assert true > counted_on.epsilon * math.sqrt(5 / 2)  # more than in proportion


def test_a_plan_that_counts_on_more_shares_than_the_floor_surely_brings_is_refused_by_its_own_rule(
    protection: Protection,
) -> None:
    """Where t is high enough for the sum, the rule on noise is what stands between (A15)."""
    with pytest.raises(Blocked, match="too_little_noise"):
        too_little_noise.open_over(too_little_noise.SILOS, shares=7, protection=protection)
