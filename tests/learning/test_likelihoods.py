"""Answers' likelihoods: each prompt read once gives what reading each answer with its prompt gives, in every family."""

from pathlib import Path

import pytest
import torch
import transformers as tr
from torch import nn

from fedcollm_secure.learning.batches import Encoder, Tokens, filled
from fedcollm_secure.learning.likelihoods import log_likelihoods
from tests.learning.test_families import DENSE, EXPERTS, GROUPED, WORDS

PROMPTS = ((5, 6, 7, 8, 9, 10, 11, 12, 13), (20, 21), (30, 31, 32, 33, 34))
ANSWERS = ((14,), (15, 16), (15, 17), (18, 19, 20, 21), (22, 23, 24))
SEQUENCES = [Tokens(prompt=prompt, answer=answer) for prompt in PROMPTS for answer in ANSWERS]
SHAPES = {
    **{name: shape for name, (shape, _) in DENSE.items()},
    **EXPERTS,
    "a window shorter than a prompt": lambda: tr.MistralConfig(sliding_window=4, **GROUPED),
    "windows and full layers": lambda: tr.Gemma2Config(sliding_window=4, head_dim=8, **GROUPED),
}


class Counted(nn.Module):
    """A model that counts the tokens which pass through it."""

    def __init__(self, model: tr.PreTrainedModel) -> None:
        super().__init__()
        self.inner, self.config, self.read, self.most_logits = model, model.config, 0, 0

    def forward(self, **arguments: torch.Tensor) -> object:
        self.read += arguments["input_ids"].numel()
        output = self.inner(**arguments)
        self.most_logits = max(self.most_logits, output.logits.numel())
        return output


@pytest.fixture
def encoder(models: Path) -> Encoder:
    return Encoder(tr.AutoTokenizer.from_pretrained(str(models / "slm")), 64, end_answers=False)


def model_of(shape: tr.PretrainedConfig) -> Counted:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return Counted(tr.AutoModelForCausalLM.from_config(shape, dtype=torch.float32)).eval()


def by_hand(model: nn.Module, sequence: Tokens) -> tuple[float, bool]:
    ids = torch.tensor([[*sequence.prompt, *sequence.answer]])
    with torch.no_grad():
        logs = model(input_ids=ids, use_cache=False).logits.double().log_softmax(-1)[0, len(sequence.prompt) - 1 : -1]
    answer = torch.tensor(sequence.answer)
    return float(logs.gather(1, answer[:, None]).sum()), bool((logs.argmax(1) == answer).all())


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("tokens_per_batch", [1, 1000])
def test_a_prompt_read_once_gives_what_reading_it_with_each_answer_gives(
    name: str, tokens_per_batch: int, encoder: Encoder
) -> None:
    model = model_of(SHAPES[name]())

    found = log_likelihoods(model, encoder, SEQUENCES, tokens_per_batch=tokens_per_batch)

    expected = [by_hand(model.inner, sequence) for sequence in SEQUENCES]
    assert [one.log for one in found] == pytest.approx([log for log, _ in expected], abs=1e-4)
    assert [one.greedy for one in found] == [greedy for _, greedy in expected]


def test_a_state_space_model_is_read_without_sharing(encoder: Encoder) -> None:
    shape = tr.MambaConfig(vocab_size=WORDS, hidden_size=32, num_hidden_layers=2, state_size=4)
    model = model_of(shape)

    found = log_likelihoods(model, encoder, SEQUENCES[:5], tokens_per_batch=1)

    expected = [by_hand(model.inner, sequence)[0] for sequence in SEQUENCES[:5]]
    assert [one.log for one in found] == pytest.approx(expected, abs=1e-4)


def test_each_prompt_is_read_once_and_each_answer_but_for_its_last_token(encoder: Encoder) -> None:
    model = model_of(tr.LlamaConfig(**GROUPED))

    log_likelihoods(model, encoder, SEQUENCES, tokens_per_batch=1)

    read_after_a_prompt = 1 + 3 + 2  # (15,) serves two answers, (14,) needs nothing beyond the prompt
    assert model.read == sum(map(len, PROMPTS)) + len(PROMPTS) * read_after_a_prompt


def test_answers_of_one_token_cost_a_pass_a_record(encoder: Encoder) -> None:
    model = model_of(tr.LlamaConfig(**GROUPED))
    sequences = [Tokens(prompt=(5, 6, 7), answer=(label,)) for label in range(10, 30)]

    log_likelihoods(model, encoder, sequences, tokens_per_batch=1000)

    assert model.read == 3


def test_no_pass_has_more_logits_than_allowed(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedcollm_secure.learning.likelihoods.MOST_LOGITS", 8 * WORDS)
    model = model_of(tr.LlamaConfig(**GROUPED))

    found = log_likelihoods(model, encoder, SEQUENCES, tokens_per_batch=1000)

    assert model.most_logits <= 8 * WORDS
    assert [one.log for one in found] == pytest.approx([by_hand(model.inner, one)[0] for one in SEQUENCES], abs=1e-4)


def test_a_batch_holds_no_more_padded_tokens_than_its_budget() -> None:
    lengths = [5, 1, 9, 3, 3, 30, 2]

    batches = list(filled(lengths, 10))

    assert sorted(index for batch in batches for index in batch) == list(range(7))
    assert all(len(batch) == 1 or len(batch) * max(lengths[i] for i in batch) <= 10 for batch in batches)
    assert [5] in batches  # longer than the budget, and alone


def test_a_batch_keeps_a_second_budget_too() -> None:
    assert list(filled([1, 1, 1, 1], 100, also=([2, 2, 2, 2], 4))) == [[0, 1], [2, 3]]
    assert list(filled([], 100)) == []
