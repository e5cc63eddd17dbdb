"""Scores: by hand, shared prefixes against one at a time, and against lm-evaluation-harness itself."""

import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from fedcollm_secure.config.models import ModelSource
from fedcollm_secure.learning.batches import Encoder
from fedcollm_secure.learning.data import Record
from fedcollm_secure.learning.evaluate import Evaluation
from fedcollm_secure.learning.likelihoods import log_likelihoods
from fedcollm_secure.learning.models import Base, load_base


@pytest.fixture
def base(models: Path) -> Base:
    return load_base(ModelSource(source=str(models / "llm")), "models.llm", torch.device("cpu"))


RECORDS = [
    Record(prompt="note : rash itch", answers=(" skin", " heart", " eye"), gold=0),
    Record(prompt="note : pulse", answers=(" skin rash", " heart valve pulse", " eye"), gold=1),
    Record(prompt="blur glare note : lens", answers=(" eye", " eye lens"), gold=1),
]


def _by_hand(base: Base, prompt: str, answer: str) -> float:
    ids = base.tokenizer(prompt + answer, return_tensors="pt")["input_ids"]
    start = len(base.tokenizer(prompt)["input_ids"])
    logs = base.model(input_ids=ids).logits.double().log_softmax(-1)[0]
    return sum(float(logs[i - 1, ids[0, i]]) for i in range(start, ids.shape[1]))


@pytest.mark.parametrize("batch_size", [1, 2, 64])
def test_likelihoods_equal_the_sum_by_hand(base: Base, batch_size: int) -> None:
    encoder = Encoder(base.tokenizer, 64, end_answers=False)
    pairs = [(record.prompt, answer) for record in RECORDS for answer in record.answers]
    found = log_likelihoods(base.model, encoder, encoder.encode(pairs), tokens_per_batch=batch_size)

    assert [x.log for x in found] == pytest.approx([_by_hand(base, *pair) for pair in pairs], rel=1e-4)


def test_accuracy_takes_the_likeliest_answer_and_norm_the_likeliest_per_character(base: Base) -> None:
    logs = [[_by_hand(base, record.prompt, answer) for answer in record.answers] for record in RECORDS]
    right = [int(np.argmax(row)) == record.gold for row, record in zip(logs, RECORDS, strict=True)]
    lengths = [[len(answer) - 1 for answer in record.answers] for record in RECORDS]
    norm = [
        int(np.argmax(np.array(row) / np.array(size))) == record.gold
        for row, size, record in zip(logs, lengths, RECORDS, strict=True)
    ]
    evaluation = Evaluation(RECORDS, Encoder(base.tokenizer, 64, end_answers=False), tokens_per_batch=4)

    assert evaluation.score(base.model) == {"accuracy": sum(right) / 3, "accuracy_norm": sum(norm) / 3}


def test_free_text_has_perplexity_and_exact_match(base: Base) -> None:
    records = [Record(prompt="note :", answers=(" rash itch",), gold=0)]
    encoder = Encoder(base.tokenizer, 64, end_answers=True)
    ids = torch.tensor(
        [[*encoder.encode([("note :", " rash itch")])[0].prompt, *base.tokenizer("rash itch").input_ids]]
    )
    ids = torch.cat([ids, torch.tensor([[base.tokenizer.eos_token_id]])], dim=1)
    logs = base.model(input_ids=ids).logits.double().log_softmax(-1)[0]
    nats = -sum(float(logs[i - 1, ids[0, i]]) for i in range(2, 5))

    scores = Evaluation(records, encoder, tokens_per_batch=4).score(base.model)

    assert scores["perplexity"] == pytest.approx(math.exp(nats / 3), rel=1e-4)
    assert scores["exact_match"] == 0.0


def test_exact_match_is_what_greedy_decoding_would_yield(base: Base) -> None:
    prompt = base.tokenizer("note : rash", return_tensors="pt")["input_ids"]
    first = int(base.model(input_ids=prompt).logits[0, -1].argmax())
    word = base.tokenizer.convert_ids_to_tokens(first)
    records = [Record(prompt="note : rash", answers=(f" {word}",), gold=0)]

    assert (
        Evaluation(records, Encoder(base.tokenizer, 64, end_answers=False), tokens_per_batch=1).score(base.model)[
            "exact_match"
        ]
        == 1.0
    )


def test_scoring_leaves_the_model_in_its_mode(base: Base) -> None:
    base.model.train()
    Evaluation(RECORDS, Encoder(base.tokenizer, 64, end_answers=False), tokens_per_batch=4).score(base.model)

    assert base.model.training


@pytest.mark.harness
def test_likelihoods_agree_with_lm_evaluation_harness(base: Base) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the harness and its dependencies warn on import, in their own code
        harness = pytest.importorskip("lm_eval.models.huggingface", reason="lm-eval is in the dev extra only")
        from lm_eval.api.instance import Instance

        judge = harness.HFLM(pretrained=base.model, tokenizer=base.tokenizer, batch_size=2, device="cpu")
        pairs = [(record.prompt, answer) for record in RECORDS for answer in record.answers]
        asked = [Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=i) for i, pair in enumerate(pairs)]
        theirs = judge.loglikelihood(asked, disable_tqdm=True)
    encoder = Encoder(base.tokenizer, 64, end_answers=False)
    ours = log_likelihoods(base.model, encoder, encoder.encode(pairs), tokens_per_batch=4)

    assert [x.log for x in ours] == pytest.approx([log for log, _ in theirs], rel=1e-4)
    assert [x.greedy for x in ours] == [bool(greedy) for _, greedy in theirs]


def test_no_record_is_read_by_where_another_one_begins_to_answer(base: Base) -> None:
    encoder = Encoder(base.tokenizer, 64, end_answers=False)
    record, other = ("note : rash itch", " skin heart"), ("note :", " rash itch skin eye")  # the same but for the last
    alone = log_likelihoods(base.model, encoder, encoder.encode([record]), tokens_per_batch=1)
    beside = log_likelihoods(base.model, encoder, encoder.encode([other, record]), tokens_per_batch=1)

    assert beside[1] == alone[0]
