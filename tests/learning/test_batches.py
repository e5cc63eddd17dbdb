"""Tokenising as the harness does, left padding, and logits that padding does not change."""

from pathlib import Path

import pytest
import torch

from fedcollm_secure.config.models import ModelSource
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.batches import Encoder, answer_logits, max_length
from fedcollm_secure.learning.models import Base, load_base

CPU = torch.device("cpu")


@pytest.fixture
def base(models: Path) -> Base:
    return load_base(ModelSource(source=str(models / "slm")), "models.slm", CPU)


def _encoder(base: Base, *, longest: int = 64, end: bool = False) -> Encoder:
    return Encoder(base.tokenizer, longest, end_answers=end)


def test_answer_is_what_follows_the_prompts_own_tokens(base: Base) -> None:
    (tokens,) = _encoder(base).encode([("note : rash", " skin")])
    words = base.tokenizer.convert_ids_to_tokens

    assert (words(list(tokens.prompt)), words(list(tokens.answer))) == (["note", ":", "rash"], ["skin"])


def test_free_text_ends_with_the_end_token(base: Base) -> None:
    (tokens,) = _encoder(base, end=True).encode([("note :", " skin rash")])

    assert tokens.answer[-1] == base.tokenizer.eos_token_id
    assert len(tokens.answer) == 3


def test_a_long_prompt_loses_its_beginning(base: Base) -> None:
    (tokens,) = _encoder(base, longest=4).encode([("note : rash itch mole burn", " skin")])

    assert base.tokenizer.convert_ids_to_tokens(list(tokens.prompt)) == ["rash", "itch", "mole", "burn"]


@pytest.mark.parametrize("answer", ["", " rash itch mole"])
def test_an_answer_that_is_empty_or_too_long_is_refused(base: Base, answer: str) -> None:
    with pytest.raises(ConfigError, match="expected an answer of 1 to 2 tokens"):
        _encoder(base, longest=2).encode([("note", answer)])


def test_an_empty_prompt_begins_with_the_end_token(base: Base) -> None:
    (tokens,) = _encoder(base).encode([("", " skin")])

    assert tokens.prompt == (base.tokenizer.eos_token_id,)


def test_padding_changes_no_logit(base: Base) -> None:
    encoder = _encoder(base)
    short, long = encoder.encode([("rash", " skin itch"), ("note : rash itch mole burn", " skin")])
    together = answer_logits(base.model, encoder.collate([short, long], CPU))
    alone = answer_logits(base.model, encoder.collate([short], CPU))

    assert torch.allclose(together[0], alone[0], atol=1e-6)


def test_logits_stand_where_targets_do(base: Base) -> None:
    encoder = _encoder(base)
    (tokens,) = encoder.encode([("note : rash", " skin itch")])
    batch = encoder.collate([tokens], CPU)
    whole = base.model(input_ids=torch.tensor([[*tokens.prompt, *tokens.answer]])).logits

    assert batch.targets.tolist() == [list(tokens.answer)]
    assert torch.allclose(answer_logits(base.model, batch)[0], whole[0, 2:4], atol=1e-6)


def test_an_empty_batch_has_no_rows(base: Base) -> None:
    assert _encoder(base).collate([], CPU).ids.shape[0] == 0


def test_records_do_not_print_their_text(base: Base) -> None:
    (tokens,) = _encoder(base).encode([("note : rash", " skin")])

    assert repr(tokens) == "Tokens()"


def test_longest_sequence_comes_from_the_model(base: Base) -> None:
    assert max_length(base.model) == 64
