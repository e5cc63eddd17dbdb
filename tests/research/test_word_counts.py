"""The word-count baseline: what one record adds is bounded, the plan prices its noise, and it answers by counts."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest

from fedcollm_privacy.accountant import PLDAccountant
from fedcollm_privacy.event import Gaussian
from fedcollm_privacy.plan import RecordPlan
from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure.assemble import prepare
from fedcollm_secure.config import Config, parse
from fedcollm_secure.config.protection import SiloDP
from fedcollm_secure.learning.data.tasks import Record
from fedcollm_secure.research import word_counts
from fedcollm_secure.research.word_counts import CELLS, MOST_CELLS, Release, SiloCounts

Tree = Callable[..., dict[str, Any]]
PLAN = RecordPlan(
    epsilon=2.0,
    delta=1e-5,
    clip_norm=1.0,
    sampling_rate=0.1,
    noise_multiplier=1.0,
    steps_per_round=1,
    rounds=1,
    batch_size=8,
)
NONE: frozenset[int] = frozenset()


def record(text: str, gold: int) -> Record:
    return Record(prompt=text, answers=(" a", " b"), gold=gold)


@pytest.mark.parametrize("text", ["one", "a long text of many words beyond the ten that a record may fill " * 3])
def test_one_record_adds_a_vector_no_longer_than_the_noise_was_priced_for(text: str) -> None:
    added = word_counts._counts([record(text, 1)], 2, NONE, None)

    assert np.linalg.norm(added) <= math.sqrt(MOST_CELLS) + 1e-9
    assert added[:, 0].sum() == 0
    assert added[:, 1].sum() > 0


def test_one_person_with_many_records_adds_no_more_than_one_record_may() -> None:
    records = [record(f"word{number} other{number}", number % 2) for number in range(50)]

    added = word_counts._counts(records, 2, NONE, [range(50)])

    assert np.linalg.norm(added) == pytest.approx(math.sqrt(MOST_CELLS))


def test_noise_of_each_silo_is_priced_at_the_plans_epsilon() -> None:
    release = Release.under(PLAN, 4)
    accountant = PLDAccountant()
    accountant.spend(Gaussian(noise_multiplier=release.each / math.sqrt(MOST_CELLS)))

    assert accountant.epsilon(PLAN.delta) == pytest.approx(PLAN.epsilon, rel=1e-3)
    assert release.total == pytest.approx(2 * release.each)


def test_silos_that_share_the_noise_add_less_each() -> None:
    shared = SharedPlan(
        epsilon=2.0,
        delta=1e-5,
        clip_norm=1.0,
        sampling_rate=0.1,
        noise_multiplier=9.0,
        rounds=1,
        batch_size=8,
        unit="record",
        grid=1e-6,
        rounding=1e-6,
        dimension=4,
        silos=4,
        honest=4,
    )

    assert Release.under(shared, 4).each == pytest.approx(Release.under(PLAN, 4).each / 2)


def test_without_a_plan_nothing_is_added() -> None:
    assert Release.under(None, 4) == Release(each=0.0, total=0.0)


def test_counts_answer_what_their_words_say() -> None:
    counts = word_counts._counts([record("rash itch", 0), record("pulse valve", 1)], 2, NONE, None)

    asked = [record("an itch", 1), record("a valve", 0)]
    odds = SiloCounts(released=counts, public=np.zeros_like(counts), shared=NONE).odds(asked)

    assert odds.argmax(axis=1).tolist() == [0, 1]
    assert counts.shape == (CELLS, 2)


def test_the_servers_own_counts_are_added_only_where_asked() -> None:
    none = np.zeros((CELLS, 2))
    own = word_counts._counts([record("an itch", 1)], 2, NONE, None)
    counts = SiloCounts(released=none, public=own, shared=NONE)

    assert np.ptp(counts.odds([record("an itch", 1)])) == 0
    assert counts.with_public().odds([record("an itch", 1)]).argmax() == 1


def test_what_every_public_prompt_says_is_not_counted() -> None:
    shared = word_counts._everywhere([record("rash. Specialty:", 0), record("pulse. Specialty:", 1)])

    assert word_counts._cells("Specialty:", shared) == []
    assert word_counts._cells("rash. Specialty:", shared)


def test_a_job_is_answered_from_all_silos_counts(tree: Tree) -> None:
    prepared = prepare(parse(tree()))
    found = word_counts.judge(prepared)

    assert len(found.right) == len(prepared.holdings.test)
    assert found.scores == {"accuracy": sum(found.right) / len(found.right)}


def test_a_plan_for_whole_silos_is_refused(tree: Tree) -> None:
    privacy = SiloDP(epsilon=4.0, delta=1e-5, clip_norm=1.0)
    config = cast(Config, SimpleNamespace(data=parse(tree()).data, privacy=privacy))

    assert not word_counts.can_follow(config)
    with pytest.raises(ValueError, match="protect records or persons"):
        word_counts.judge(cast(Any, SimpleNamespace(config=config)))
