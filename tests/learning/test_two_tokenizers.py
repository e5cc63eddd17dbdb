"""Two tokenizers: which tokens are one, where, and a loss that is the plain one where the tokenizers are."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from fedcollm_secure.assemble import prepare
from fedcollm_secure.assemble.server_work import make_aligned, make_co_tuning
from fedcollm_secure.audit_log.run_verification import verify_run
from fedcollm_secure.config import parse
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.batches import Encoder
from fedcollm_secure.learning.two_tokenizers import align, both, require_offsets, shared_vocabulary
from fedcollm_secure.operations.check_command import check
from fedcollm_secure.operations.check_summary import check_words
from fedcollm_secure.operations.run_command import run
from fedcollm_secure.operations.work_prediction import work_parts
from tests.conftest import TOPICS
from tests.end_to_end.conftest import Quiet

Make = Callable[..., dict[str, object]]
CPU = torch.device("cpu")
TEXTS = [f"note : {a} {b} is {topic}" for topic, words in TOPICS.items() for a in words for b in words]


def bytes_pairs(vocabulary: int) -> PreTrainedTokenizerFast:
    """Return a byte-level tokenizer, as GPT-2's, trained on the tests' texts."""
    core = Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    core.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=vocabulary, special_tokens=["<|end|>"], initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(tokenizer_object=core, eos_token="<|end|>", pad_token="<|end|>", model_max_length=64)


@pytest.fixture(scope="session")
def foreign(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of a tiny LLM with a tokenizer of pairs of bytes, where the SLM's has words."""
    folder, tokenizer = tmp_path_factory.mktemp("foreign") / "llm", bytes_pairs(320)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        shape = LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=64,
            bos_token_id=None,
            eos_token_id=0,
            pad_token_id=0,
        )
        LlamaForCausalLM(shape).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def words(models: Path) -> PreTrainedTokenizerFast:
    return AutoTokenizer.from_pretrained(str(models / "slm"))  # type: ignore[no-any-return]


def encoder(tokenizer: PreTrainedTokenizerFast) -> Encoder:
    return Encoder(tokenizer, 64, end_answers=True)


def test_shared_tokens_stand_for_the_same_text(words: PreTrainedTokenizerFast) -> None:
    pairs = bytes_pairs(320)
    shared = shared_vocabulary(pairs, words)
    found = {words.decode([slm]): pairs.decode([llm]) for llm, slm in zip(shared.llm, shared.slm, strict=True)}

    assert found["<eos>"] == "<|end|>"
    assert {"itch", "skin", "is"} <= set(found)
    assert all(slm == llm.strip() for slm, llm in found.items() if slm != "<eos>")
    assert len(found) == len(set(found.values())) < len(words)


@pytest.mark.parametrize("vocabulary", [300, 320])
def test_all_tokens_of_equal_tokenizers_are_shared_and_aligned(words: PreTrainedTokenizerFast, vocabulary: int) -> None:
    for one, other in ((bytes_pairs(vocabulary), bytes_pairs(vocabulary)), (words, words)):
        shared = shared_vocabulary(one, other)
        found = align([("note : é  rash", " skin  is \n heart☃")], encoder(one), encoder(other), shared)

        assert shared.llm.tolist() == shared.slm.tolist() == list(range(len(one)))
        assert found.places == [tuple((place, place) for place in range(len(found.llm_records[0].answer)))]


def test_tokens_are_one_where_they_cover_the_same_characters(words: PreTrainedTokenizerFast) -> None:
    pairs = bytes_pairs(262)  # few merges: most words fall into letters
    llm, slm = encoder(pairs), encoder(words)
    texts = [("note : pulse", " heart is skin"), ("note : rash", " skin is skin")]
    found = align(texts, llm, slm, shared_vocabulary(pairs, words))

    for (_, answer), places, ours, theirs in zip(
        texts, found.places, slm.encode(texts), found.llm_records, strict=True
    ):
        for one, other in places:
            text = pairs.decode([theirs.answer[one]]).strip()
            assert text == words.decode([ours.answer[other]]) or (text, other) == ("<|end|>", len(ours.answer) - 1)
            assert pairs.decode(list(theirs.answer[:one])).split() == answer.split()[:other]
        assert (len(theirs.answer) - 1, len(ours.answer) - 1) in places
    assert 0 < found.share < 1


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_loss_equals_the_plain_one_where_tokenizers_are_equal(tree: Make, temperature: float) -> None:
    given = {"steps": 2, "batch_size": 5, "temperature": temperature}
    plain = prepare(parse(tree(distill=given)))
    two = replace(make_co_tuning(plain.server_side), aligned=make_aligned(plain.server_side, plain.holdings.auxiliary))
    one = make_co_tuning(plain.server_side)
    (expected,), (found,) = list(one._parts([3, 1, 4])), list(two._parts([3, 1, 4]))
    logits = {name: torch.randn(3, expected.slm.keep, 60) for name in ("llm", "slm")}

    assert found.at is not None
    assert expected.at is None
    for name, other in (("llm", "slm"), ("slm", "llm")):
        losses = [each.divergence(name, logits[name], logits[other], temperature) for each in (expected, found)]  # type: ignore[arg-type]
        assert torch.allclose(losses[0], losses[1], rtol=1e-6)
        assert losses[0].min() > 0


def test_both_sides_move_as_in_plain_co_tuning_where_tokenizers_are_equal(tree: Make) -> None:
    moved = []
    for align_by in ("same", "tokens"):
        prepared = prepare(parse(tree(distill={"steps": 3, "batch_size": 5, "align": align_by, "weight": 2.0})))
        make_co_tuning(prepared.server_side).run(1)
        moved.append((prepared.server_llm.read(), prepared.server_slm.read()))

    for plain, aligned in zip(*moved, strict=True):
        assert plain == pytest.approx(aligned, abs=1e-5)


def test_the_teacher_has_no_gradient_and_a_record_without_a_common_token_counts_nothing(
    words: PreTrainedTokenizerFast,
) -> None:
    pairs = bytes_pairs(320)
    llm, slm = encoder(pairs), encoder(words)
    texts = [("note : rash", " skin"), ("note : rash", " w37w")]
    found = replace(align(texts, llm, slm, shared_vocabulary(pairs, words)))
    found = replace(found, places=[found.places[0], ()])
    batch = both(found, slm.encode(texts), slm, [1, 0], CPU)
    student, teacher = (
        torch.randn(2, part.keep, size, requires_grad=True) for part, size in ((batch.slm, 60), (batch.llm, 320))
    )
    losses = batch.divergence("slm", student, teacher, 1.0)
    losses.sum().backward()

    assert losses[0] == 0 < losses[1]
    assert teacher.grad is None
    assert student.grad is not None
    assert [bool(row.any()) for row in student.grad] == [False, True]


def test_a_run_of_two_tokenizers_from_check_to_verify(tree: Make, models: Path, foreign: Path, tmp_path: Path) -> None:
    sources = {"llm": {"from": str(foreign)}, "slm": {"from": str(models / "slm")}}
    settings = {"steps": 2, "batch_size": 5, "align": "tokens"}
    config = parse(tree(models=sources, distill=settings, rounds=1))
    told = check_words(check(config))
    run(config, tmp_path / "run", resuming=False, show=Quiet())
    parts = {part.name: part.work for part in work_parts(prepare(config))}

    assert "tokenizers: 320 and 60 tokens" in told
    assert verify_run(tmp_path / "run").incomplete is None
    assert parts["server, llm"].real > parts["server, slm"].real
    with pytest.raises(ConfigError, match=r"or say distill\.align: tokens, which compares them"):
        prepare(parse(tree(models=sources)))


def test_both_models_come_nearer_to_each_other_across_tokenizers(tree: Make, models: Path, foreign: Path) -> None:
    sources = {"llm": {"from": str(foreign)}, "slm": {"from": str(models / "slm")}}
    rates = {"slm": 0.02, "llm": 0.02}

    def apart(weight: float) -> float:
        settings = {"steps": 20, "batch_size": 15, "align": "tokens", "learning_rate": rates, "weight": weight}
        prepared = prepare(parse(tree(models=sources, distill=settings)))
        co_tuning = make_co_tuning(prepared.server_side)
        co_tuning.run(1)
        found = []
        for part in co_tuning._parts(range(len(co_tuning.records))):
            with torch.no_grad():
                logits = [
                    model(input_ids=batch.ids, attention_mask=batch.mask, logits_to_keep=batch.keep).logits
                    for model, batch in ((prepared.server_slm.model, part.slm), (prepared.server_llm.model, part.llm))
                ]
            found.append(part.divergence("slm", logits[0], logits[1], 1.0))
        return float(torch.cat(found).mean())

    assert apart(20.0) < 0.5 * apart(0.0)


def test_tokenizers_without_a_common_token_and_without_offsets_are_refused(
    words: PreTrainedTokenizerFast, tree: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepared = prepare(parse(tree(distill={"steps": 1, "align": "tokens"})))
    nothing = shared_vocabulary(words, words)
    empty = replace(nothing, llm=nothing.llm[:0], slm=nothing.slm[:0])
    monkeypatch.setattr("fedcollm_secure.assemble.server_work.shared_vocabulary", lambda *_: empty)

    with pytest.raises(ConfigError, match=r"distill\.align: no token of any auxiliary answer is one for both"):
        make_co_tuning(prepared.server_side)
    monkeypatch.setattr(PreTrainedTokenizerFast, "is_fast", False)
    with pytest.raises(ConfigError, match=r"models\.llm: distill\.align: tokens needs a tokenizer that says"):
        require_offsets(words, "models.llm")
