"""The silos' word counts beside a model: β comes from public records alone, and at β = 0 the model stands alone."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from fedcollm_secure.assemble import prepare
from fedcollm_secure.config import parse
from fedcollm_secure.learning.data.tasks import Record
from fedcollm_secure.learning.evaluate import Evaluation
from fedcollm_secure.research import counts_expert
from fedcollm_secure.research.counts_expert import best_beta

Tree = Callable[..., dict[str, Any]]


def records(*gold: int) -> list[Record]:
    return [Record(prompt="x", answers=(" a", " b"), gold=each) for each in gold]


def test_a_beta_is_the_smallest_of_those_with_which_most_is_right() -> None:
    known = np.log([[0.6, 0.4], [0.6, 0.4]])
    helps = np.log([[0.1, 0.9], [0.9, 0.1]])

    assert best_beta(known, helps, records(1, 0)) == 0.2  # 0.1 · ln 9 < ln 1.5 < 0.2 · ln 9
    assert best_beta(known, helps, records(0, 0)) == 0.0
    assert best_beta(known, np.zeros((2, 2)), records(1, 0)) == 0.0


def test_counts_that_hurt_on_public_records_leave_the_model_as_it_is(
    tree: Tree, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(parse(tree()))
    evaluation = Evaluation(prepared.holdings.test, prepared.encoder, tokens_per_batch=4096)
    monkeypatch.setattr(counts_expert, "BETAS", (0.0,))

    found = counts_expert.judge(prepared)

    assert found["slm"].right == evaluation.judge(prepared.server_slm.model).right
    assert found["llm"].right == evaluation.judge(prepared.server_llm.model).right


def test_counts_teach_a_model_that_knows_nothing(tree: Tree) -> None:
    prepared = prepare(parse(tree()))

    found = counts_expert.judge(prepared)

    assert found["slm"].scores["accuracy"] > 0.9  # a word of the text names its topic; before, chance is a third
