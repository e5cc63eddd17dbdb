"""What stands before a text: as each family's tokenizer has it, and as lm-evaluation-harness reads it."""

import string
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from tokenizers.pre_tokenizers import ByteLevel
from tokenizers.processors import TemplateProcessing
from transformers import (
    AutoTokenizer,
    GemmaTokenizer,
    GPT2Tokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaTokenizer,
    PreTrainedTokenizerBase,
)

from fedcollm_secure.learning.batches import Encoder, beginning
from fedcollm_secure.learning.likelihoods import log_likelihoods
from fedcollm_secure.learning.models import tokenizer_fingerprint

PAIRS = [
    ("note : rash itch", " skin"),
    ("note : pulse ", "heart valve"),  # the blank goes to the answer
    ("", "eye lens"),
    ("note : lens blur", " eye"),
    ("note : " + "rash " * 40, "skin"),  # longer than the model: it loses its beginning, whatever stood there
]
LONGEST = 96


def _word_level(models: Path, before: str, after: str) -> PreTrainedTokenizerBase:
    """Return the tests' tokenizer with a post-processor, as Llama's and Gemma's files have one."""
    tokenizer = AutoTokenizer.from_pretrained(str(models / "slm"))
    tokenizer.add_special_tokens({"bos_token": "<pad>"})  # a token that no text of these tests holds
    single = " ".join(part for part in (before, "$A", after) if part)
    special = [(token, tokenizer.convert_tokens_to_ids(token)) for token in ("<pad>", "<eos>")]
    tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single=single, special_tokens=special)
    return tokenizer


def _gpt2(*, add_bos_token: bool) -> PreTrainedTokenizerBase:
    """Return a byte-level tokenizer as GPT-2's, or with the flag as OPT's: both ends of a text are </s>."""
    letters = ["</s>", "<pad>", *sorted(ByteLevel.alphabet())]
    vocabulary = {letter: place for place, letter in enumerate(letters)}
    names = {"bos_token": "</s>", "eos_token": "</s>", "unk_token": "</s>", "pad_token": "<pad>"}
    return GPT2Tokenizer(vocab=vocabulary, merges=[], add_bos_token=add_bos_token, **names)


def _letters(*special: str) -> dict[str, int]:
    return {token: place for place, token in enumerate([*special, "▁", ":", *string.ascii_letters])}


TOKENIZERS: dict[str, Callable[[Path], PreTrainedTokenizerBase]] = {
    "none": lambda models: _word_level(models, "", ""),
    "post-processor": lambda models: _word_level(models, "<pad>", ""),
    "gpt2": lambda _: _gpt2(add_bos_token=False),
    "opt": lambda _: _gpt2(add_bos_token=True),
    "llama": lambda _: LlamaTokenizer(vocab=_letters("<unk>", "<s>", "</s>"), merges=[], add_bos_token=True),
    "llama, without": lambda _: LlamaTokenizer(vocab=_letters("<unk>", "<s>", "</s>"), merges=[], add_bos_token=False),
    "gemma": lambda _: GemmaTokenizer(
        vocab=_letters("<pad>", "<eos>", "<bos>", "<unk>", "<mask>"), merges=[], add_bos_token=True
    ),
}
BEGIN = {"post-processor", "opt", "llama", "gemma"}


def _model(tokenizer: PreTrainedTokenizerBase) -> LlamaForCausalLM:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        shape = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=16,
            intermediate_size=32,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=LONGEST,
            bos_token_id=None,
            eos_token_id=None,
            pad_token_id=None,
        )
        return LlamaForCausalLM(shape).eval()


@pytest.mark.parametrize("kind", TOKENIZERS)
def test_a_text_begins_as_its_tokenizer_begins_one(models: Path, kind: str) -> None:
    tokenizer = TOKENIZERS[kind](models)
    (tokens,) = Encoder(tokenizer, LONGEST, end_answers=False).encode([("note : rash", " skin")])

    assert beginning(tokenizer) == ([tokenizer.bos_token_id] if kind in BEGIN else [])
    assert [*tokens.prompt, *tokens.answer] == tokenizer("note : rash skin")["input_ids"]


@pytest.mark.harness
@pytest.mark.parametrize("kind", TOKENIZERS)
def test_likelihoods_agree_with_lm_evaluation_harness_whatever_begins_a_text(models: Path, kind: str) -> None:
    tokenizer = TOKENIZERS[kind](models)
    model = _model(tokenizer)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the harness and its dependencies warn on import, in their own code
        harness = pytest.importorskip("lm_eval.models.huggingface", reason="lm-eval is in the dev extra only")
        from lm_eval.api.instance import Instance

        judge = harness.HFLM(pretrained=model, tokenizer=tokenizer, batch_size=2, device="cpu", max_length=LONGEST)
        asked = [Instance(request_type="loglikelihood", doc={}, arguments=pair, idx=i) for i, pair in enumerate(PAIRS)]
        theirs = judge.loglikelihood(asked, disable_tqdm=True)
    encoder = Encoder(tokenizer, LONGEST, end_answers=False)
    ours = log_likelihoods(model, encoder, encoder.encode(PAIRS), tokens_per_batch=4)

    assert [each.log for each in ours] == pytest.approx([log for log, _ in theirs], abs=1e-4)


def test_the_beginning_changes_a_likelihood(models: Path) -> None:
    """The twin of the comparison above: without what begins a text, figures would be others."""
    plain, begun = TOKENIZERS["none"](models), TOKENIZERS["post-processor"](models)
    model = _model(plain)
    logs = [
        log_likelihoods(model, encoder, encoder.encode(PAIRS[:1]), tokens_per_batch=1)[0].log
        for encoder in (Encoder(each, LONGEST, end_answers=False) for each in (plain, begun))
    ]

    assert abs(logs[0] - logs[1]) > 1e-3


@pytest.mark.parametrize("before", ["", "<pad>"])
def test_what_a_tokenizer_appends_is_left_out(models: Path, before: str) -> None:
    """With it a prompt would end before its answer begins, and the answer's first token would be cut off."""
    tokenizer, without = _word_level(models, before, "<eos>"), _word_level(models, before, "")
    pairs = [("note : rash", " skin heart")]

    assert tokenizer("note")["input_ids"][-1] == tokenizer.eos_token_id
    assert Encoder(tokenizer, LONGEST, end_answers=False).encode(pairs) == Encoder(
        without, LONGEST, end_answers=False
    ).encode(pairs)


def test_a_text_that_writes_the_token_out_gets_no_second_one() -> None:
    tokenizer = _gpt2(add_bos_token=True)
    (tokens,) = Encoder(tokenizer, LONGEST, end_answers=False).encode([("</s>note", " skin")])

    assert tokens.prompt.count(tokenizer.bos_token_id) == 1


def test_tokenizers_that_begin_texts_otherwise_are_not_the_same(models: Path) -> None:
    one, other = TOKENIZERS["none"](models), TOKENIZERS["post-processor"](models)

    assert tokenizer_fingerprint(one) != tokenizer_fingerprint(other)
    assert tokenizer_fingerprint(one) == tokenizer_fingerprint(TOKENIZERS["none"](models))
