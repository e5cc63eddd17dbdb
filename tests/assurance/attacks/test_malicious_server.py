"""A silo's update is hidden from a malicious server: A3 (two sets), A4 (swapped keys), A5 (replay).

Each attack succeeds against its twin, is refused by us, and works again once the one rule that stops it is taken away.
"""

from collections.abc import Callable

import pytest

from fedcollm_crypto.masking import rules
from fedcollm_secure.assurance.attacks import both_shares, replayed_messages, swapped_keys
from fedcollm_secure.assurance.attacks.attack_consortium import Consortium, random_updates
from fedcollm_secure.assurance.attacks.attack_outcome import Attack
from fedcollm_secure.assurance.attacks.malicious_server import Blocked, Mallory, added_up


@pytest.mark.parametrize(
    "attack", [both_shares.ATTACK, swapped_keys.ATTACK, replayed_messages.ATTACK], ids=lambda attack: attack.id
)
def test_the_twin_loses_an_update_to_the_last_bit(attack: Attack) -> None:
    outcome = attack.unprotected()

    assert outcome.succeeded
    assert 0 < outcome.figures["max_abs_error"] < 1e-7  # rounding, and nothing else


@pytest.mark.parametrize(
    ("attack", "reason"),
    [
        (both_shares.ATTACK, "second_answer, low_threshold, no_quorum"),
        (swapped_keys.ATTACK, "malformed, other_roster"),
        (replayed_messages.ATTACK, "old_attempt, other_manifest, other_manifest, malformed"),
    ],
    ids=lambda value: value.id if isinstance(value, Attack) else "",
)
def test_every_way_is_refused_with_its_reason(attack: Attack, reason: str) -> None:
    outcome = attack.protected()

    assert not outcome.succeeded
    assert outcome.reason == reason
    assert outcome.figures["ways_refused"] == outcome.figures["ways_tried"]


WAYS: list[tuple[Callable[[], bool], str, str]] = [
    (both_shares.ask_two_halves_about_two_sets, "require_threshold", "low_threshold"),
    (both_shares.show_everybody_another_set, "require_consents", "no_quorum"),
    (swapped_keys.pretend_to_be_everybody_else, "verify_sender", "malformed"),
    (replayed_messages.replay_the_manifest, "require_new_attempt", "old_attempt"),
    (replayed_messages.replay_the_hellos, "require_one_manifest", "other_manifest"),
    (replayed_messages.replay_across_cohorts, "require_one_manifest", "other_manifest"),
]


@pytest.mark.parametrize(("way", "rule", "code"), WAYS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_way_is_stopped_by_its_rule(way: Callable[[], bool], rule: str, code: str) -> None:
    with pytest.raises(Blocked, match=f"^{code}$"):
        way()


@pytest.mark.parametrize(("way", "rule", "code"), WAYS, ids=lambda value: getattr(value, "__name__", ""))
def test_a_way_works_without_its_rule(
    way: Callable[[], bool], rule: str, code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, rule, lambda *_: None)

    assert way()


def test_a_silo_reveals_once_even_if_it_answers_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "refuse_second_answer", lambda *_: None)

    with pytest.raises(Blocked, match=r"^closed$"):
        both_shares.ask_each_silo_about_two_sets()


def test_the_suite_notices_when_a_defence_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "verify_sender", lambda *_: None)
    outcome = swapped_keys.ATTACK.protected()

    assert outcome.succeeded
    assert "hellos in others' names: REACHES ITS GOAL" in outcome.told


def test_mallory_can_play_correctly() -> None:
    consortium = Consortium(random_updates(7))
    mallory = Mallory(consortium, consortium.manifest())
    mallory.collect()
    survivors = mallory.names[:6]

    assert (mallory.open_honestly(survivors) == added_up([consortium.vector(party) for party in survivors])).all()
