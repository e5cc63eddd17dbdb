"""A1: what is read back from an update, a masked upload, sums, and under DP-SGD."""

from collections.abc import Mapping

import numpy as np
import pytest

from fedcollm_secure.assurance.attacks import token_readings
from fedcollm_secure.assurance.attacks.attack_outcome import Outcome
from fedcollm_secure.assurance.attacks.gradient_spans import nearness
from fedcollm_secure.assurance.attacks.token_readings import Reading

Table = Mapping[str, tuple[int, int]]


@pytest.fixture(scope="module")
def open_side() -> Outcome:
    return token_readings.in_the_clear()


@pytest.fixture(scope="module")
def our_side() -> Outcome:
    return token_readings.protected()


def table(outcome: Outcome) -> Table:
    """Return, for each thing the server holds, how many tokens were read and how many read back."""
    return {what: (int(tokens), int(found)) for what, tokens, found, _ in outcome.table[1:]}


def test_a_plain_update_gives_its_tokens_away(open_side: Outcome) -> None:
    tokens, found = table(open_side)["one silo's update"]

    assert open_side.succeeded
    assert found == tokens == 8


def test_fixing_a_narrows_the_leak_and_does_not_close_it(open_side: Outcome) -> None:
    rows = table(open_side)

    assert rows["one silo's B alone (FFA), rank 8"][1] <= 1
    assert rows["one silo's B alone (FFA), rank 32"][1] >= 6


def test_a_masked_upload_is_worth_a_blind_guess(our_side: Outcome) -> None:
    assert table(our_side)["one silo's masked upload"][1] <= 2
    assert not our_side.succeeded


def test_a_sum_of_few_silos_can_be_read(our_side: Outcome) -> None:
    for count in (3, 5):
        tokens, found = table(our_side)[f"the sum of {count} silos out of the masks"]
        assert found >= 0.8 * tokens
    assert "What remains without DP" in our_side.told


def test_nothing_is_read_under_dp(our_side: Outcome) -> None:
    rows = {what: found for what, (_, found) in table(our_side).items() if "DP-SGD" in what}

    assert len(rows) == 3
    assert all(found <= 6 for found in rows.values())  # of some forty; by chance more are found once in 10^6 runs


def test_a_reading_above_chance_would_be_a_success(monkeypatch: pytest.MonkeyPatch) -> None:
    readable = Reading(what="", tokens=8, found=7, vocabulary=4096)
    monkeypatch.setattr(token_readings, "_under_masks", lambda: (readable, [readable, readable]))
    monkeypatch.setattr(token_readings, "_read", lambda *_: Reading(what="", tokens=8, found=0, vocabulary=4096))

    assert token_readings.protected().succeeded


@pytest.mark.parametrize(("found", "is_chance"), [(0, True), (2, True), (4, False), (8, False)])
def test_chance_is_hypergeometric(found: int, is_chance: bool) -> None:
    assert Reading(what="", tokens=8, found=found, vocabulary=4096).is_chance == is_chance


def test_a_token_in_the_span_is_nearest() -> None:
    vocabulary = np.random.default_rng(1).normal(size=(50, 20))
    rows = np.random.default_rng(2).normal(size=(8, 3)) @ vocabulary[[4, 17, 33]]
    near = nearness([rows], [vocabulary], dimensions=3)

    assert set(np.argsort(-near)[:3].tolist()) == {4, 17, 33}
    assert near[[4, 17, 33]] == pytest.approx(1.0)
