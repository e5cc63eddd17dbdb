"""The embedded pair: small, of one tokenizer, honest about what it read, and as good as its card says."""

import hashlib
import importlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

import fedcollm_secure
from fedcollm_secure.learning.icd10cm import SPECIALTIES, normalise, split, terms

EMBEDDED = Path(fedcollm_secure.__file__).parent / "embedded"
EXAMPLES = Path(__file__).parents[2] / "examples" / "models"
NAMES = ("llm", "slm")


@pytest.fixture(scope="module")
def public_text() -> Iterator[ModuleType]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        yield importlib.import_module("public_text")


@pytest.fixture(scope="module", params=NAMES)
def folder(request: pytest.FixtureRequest) -> Path:
    return EMBEDDED / str(request.param)


@pytest.fixture(scope="module")
def tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(folder)


@pytest.fixture(scope="module")
def model(folder: Path) -> PreTrainedModel:
    return AutoModelForCausalLM.from_pretrained(folder).eval()


def test_no_pretraining_line_is_or_holds_a_term(public_text: ModuleType) -> None:
    secret = {f" {normalise(term.term)} " for term in terms()}
    longest = max(len(term.split()) for term in secret)

    for line in (*public_text.whole_catalogue(), *public_text.pocket_edition()):
        words = normalise(line.text).split()
        runs = {
            f" {' '.join(words[start:end])} "
            for start in range(len(words))
            for end in range(start + 1, min(start + longest, len(words)) + 1)
        }
        assert not runs & secret, line


def test_a_line_that_holds_a_term_would_be_left_out(public_text: ModuleType) -> None:
    held = [public_text.Line(text=text, specialty="genetics", depth=3) for text in (
        "Congenital flat foot", "CONGENITAL flat-foot", "Repair of congenital flat foot, left", "Left hallux, zygotic",
    )]  # fmt: skip

    assert [line.text for line in public_text.permitted(held)] == ["Left hallux, zygotic"]


def test_the_llm_has_read_more_than_the_slm(public_text: ModuleType) -> None:
    llm, slm = public_text.whole_catalogue(), public_text.pocket_edition()

    assert len(llm) > 2 * len(slm)
    assert {line.specialty for line in slm} == set(SPECIALTIES)


def test_a_note_is_labelled_with_the_specialty_it_points_to(public_text: ModuleType) -> None:
    notes = {line.text: line.specialty for line in public_text.notes()}

    assert notes["chronic asthmatic (obstructive) bronchitis"] == "pulmonology"


def test_both_have_one_tokenizer() -> None:
    digests = {hashlib.sha256((EMBEDDED / name / "tokenizer.json").read_bytes()).digest() for name in NAMES}

    assert len(digests) == 1


def test_each_specialty_is_one_token_of_its_own(tokenizer: PreTrainedTokenizerBase) -> None:
    tokens = [tokenizer.encode(f" {specialty}") for specialty in SPECIALTIES]

    assert all(len(token) == 1 for token in tokens)
    assert len({token[0] for token in tokens}) == len(SPECIALTIES)


def test_prompt_and_answer_tokenize_apart_as_together(tokenizer: PreTrainedTokenizerBase) -> None:
    prompt, answer = "Wet lung syndrome. Specialty:", " neonatology"

    assert tokenizer.encode(prompt) + tokenizer.encode(answer) == tokenizer.encode(prompt + answer)


def test_tokenizer_ignores_case_and_accents_and_knows_any_byte(tokenizer: PreTrainedTokenizerBase) -> None:
    assert tokenizer.encode("MÉNIÈRE") == tokenizer.encode("meniere")
    assert tokenizer.decode(tokenizer.encode("σ ≤ 8 🫀")).strip() == "σ ≤ 8 🫀"


def test_tokenizer_names_its_special_tokens(tokenizer: PreTrainedTokenizerBase) -> None:
    assert (tokenizer.pad_token, tokenizer.eos_token, tokenizer.unk_token) == ("<pad>", "<eos>", "<unk>")
    assert (tokenizer.pad_token_id, tokenizer.eos_token_id) == (0, 1)


def test_models_load_in_single_precision_with_the_tokenizers_vocabulary(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    assert model.dtype == torch.float32
    assert model.config.vocab_size == len(tokenizer)
    assert model.config.pad_token_id == tokenizer.pad_token_id


def test_the_pair_is_small() -> None:
    assert sum(file.stat().st_size for file in EMBEDDED.rglob("*")) < 25 * 2**20


def test_there_is_no_pickle() -> None:
    assert {file.suffix for file in EMBEDDED.rglob("*") if file.is_file()} <= {".json", ".md", ".safetensors"}


def test_the_card_states_the_parameters_and_the_accuracy(
    folder: Path, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase
) -> None:
    card = (folder / "README.md").read_text()
    stated = re.search(r"zero-shot \| ([\d.]+)%", card)

    assert f"{model.num_parameters():,} parameters" in card
    assert stated is not None
    assert 100 * _accuracy(model, tokenizer) == pytest.approx(float(stated[1]), abs=0.3)


def test_the_llm_is_the_larger() -> None:
    sizes = {name: json.loads((EMBEDDED / name / "config.json").read_text())["hidden_size"] for name in NAMES}

    assert sizes["llm"] > sizes["slm"]


@torch.inference_mode()
def _accuracy(model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> float:
    """Score with another padding, another batch and another prompt code than the one that wrote the card."""
    answers = [tokenizer.encode(f" {specialty}")[0] for specialty in SPECIALTIES]
    test = sorted(split(terms()).test, key=lambda term: len(term.term))
    correct = 0
    for start in range(0, len(test), 100):
        batch = test[start : start + 100]
        inputs = tokenizer(
            [f"{term.term}. Specialty:" for term in batch], padding=True, padding_side="right", return_tensors="pt"
        )
        last = inputs["attention_mask"].sum(1) - 1
        hidden = model.model(**inputs).last_hidden_state[torch.arange(len(batch)), last]
        guesses = model.lm_head(hidden)[:, answers].argmax(1).tolist()
        pairs = zip(guesses, batch, strict=True)
        correct += sum(SPECIALTIES[guess] == term.specialty for guess, term in pairs)
    return correct / len(test)
