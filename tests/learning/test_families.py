"""Every family of models that transformers offers offline: tiny, random, with LoRA, and trained record by record.

What `check` asks of a model on made-up records is held here against the gradients of one record at a time.
"""

import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tr
from torch import nn

from fedcollm_privacy import dpsgd
from fedcollm_privacy.one_by_one import gradient
from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.config.models import Lora
from fedcollm_secure.config.training import LocalTraining
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.batches import Encoder
from fedcollm_secure.learning.models import Base, with_lora
from fedcollm_secure.learning.probe import why_apart
from fedcollm_secure.learning.training import Learner

PLAN = RecordPlan(
    epsilon=1e6,
    delta=1e-5,
    clip_norm=1.0,
    sampling_rate=1.0,
    noise_multiplier=1.0,
    steps_per_round=1,
    rounds=1,
    batch_size=4,
)
WORDS = 60
SHAPE = {
    "vocab_size": WORDS,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "intermediate_size": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
NAMED = {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1, "vocab_size": WORDS}
OLD = {
    "n_embd": 32,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 64,
    "vocab_size": WORDS,
    "bos_token_id": 1,
    "eos_token_id": 1,
}
OPT = {**{name: value for name, value in SHAPE.items() if name != "intermediate_size"}, "ffn_dim": 64}
GROUPED = {**SHAPE, "num_key_value_heads": 2}
HEADS = {**GROUPED, "head_dim": 8}
QKV, NEOX = ("q_proj", "k_proj", "v_proj"), ("query_key_value",)
DENSE: dict[str, tuple[Callable[[], tr.PretrainedConfig], tuple[str, ...]]] = {
    "llama": (lambda: tr.LlamaConfig(**GROUPED), QKV),
    "mistral": (lambda: tr.MistralConfig(**GROUPED), QKV),
    "qwen2": (lambda: tr.Qwen2Config(**GROUPED), QKV),
    "qwen3": (lambda: tr.Qwen3Config(**HEADS), QKV),
    "gemma": (lambda: tr.GemmaConfig(**HEADS), QKV),
    "gemma2": (lambda: tr.Gemma2Config(**HEADS), QKV),
    "gemma3": (lambda: tr.Gemma3TextConfig(**HEADS), QKV),
    "phi": (lambda: tr.PhiConfig(**SHAPE), QKV),
    "phi3": (lambda: tr.Phi3Config(**GROUPED), ("qkv_proj",)),
    "olmo2": (lambda: tr.Olmo2Config(**SHAPE), QKV),
    "stablelm": (lambda: tr.StableLmConfig(**GROUPED), QKV),
    "starcoder2": (lambda: tr.Starcoder2Config(**GROUPED), QKV),
    "granite": (lambda: tr.GraniteConfig(**GROUPED), QKV),
    "gpt2": (lambda: tr.GPT2Config(**OLD), ("c_attn",)),
    "gptj": (lambda: tr.GPTJConfig(rotary_dim=4, **OLD), QKV),
    "gpt_neox": (lambda: tr.GPTNeoXConfig(**SHAPE), NEOX),
    "opt": (lambda: tr.OPTConfig(word_embed_proj_dim=32, **OPT), QKV),
    "opt, projected": (lambda: tr.OPTConfig(word_embed_proj_dim=16, **OPT), ("fc1", "fc2")),
    "bloom": (lambda: tr.BloomConfig(hidden_size=32, n_layer=2, n_head=4, **NAMED), NEOX),
    "falcon": (lambda: tr.FalconConfig(hidden_size=32, num_hidden_layers=2, num_attention_heads=4, **NAMED), NEOX),
}
EXPERTS: dict[str, Callable[[], tr.PretrainedConfig]] = {
    "mixtral": lambda: tr.MixtralConfig(num_local_experts=4, **GROUPED),
    "qwen2_moe": lambda: tr.Qwen2MoeConfig(
        moe_intermediate_size=32, shared_expert_intermediate_size=32, num_experts=4, num_experts_per_tok=2, **GROUPED
    ),
    "qwen3_moe": lambda: tr.Qwen3MoeConfig(moe_intermediate_size=32, num_experts=4, num_experts_per_tok=2, **HEADS),
    "olmoe": lambda: tr.OlmoeConfig(num_experts=4, num_experts_per_tok=2, **SHAPE),
}


def learner(
    models: Path, shape: tr.PretrainedConfig, targets: str | tuple[str, ...], dtype: torch.dtype = torch.float32
) -> Learner:
    """Return a silo's training of a tiny random model, away from B = 0."""
    tokenizer = tr.AutoTokenizer.from_pretrained(str(models / "slm"))
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' and peft's own, about each other
        torch.manual_seed(0)
        model = tr.AutoModelForCausalLM.from_config(shape, dtype=dtype).eval().requires_grad_(False)
        base = Base(model=model, tokenizer=tokenizer, digest="")
        adapter = Adapter(with_lora(base, Lora(rank=2, alpha=4, targets=targets), seed=1), "fedavg")
    noise = np.random.default_rng(1).normal(0, 0.1, adapter.schema.length)
    adapter.write((adapter.read() + noise).astype(np.float32))
    encoder = Encoder(tokenizer, 64, end_answers=False)
    texts = ["rash itch mole", "pulse", "lens blur tear pupil glare rash itch mole burn scar", "valve", "murmur rhythm"]
    return Learner(
        adapter=adapter,
        encoder=encoder,
        records=encoder.encode(
            [(f"note : {text}", " skin heart"[: 5 + number % 2 * 6]) for number, text in enumerate(texts)]
        ),
        settings=LocalTraining(steps=1, batch_size=4),
        rounds=1,
        seed=1,
        name="north",
        plan=PLAN,
    )


def one_by_one(one: Learner, clip: float) -> torch.Tensor:
    """Return Σ clip(∇) from passes of a single record, clipped by hand."""
    total = torch.zeros(one.adapter.schema.length, dtype=torch.float64)
    for index in range(len(one.records)):
        parts = gradient(one.losses([index])[0], one.adapter.parameters)
        flat = torch.cat([part.reshape(-1) for part in parts])
        total += flat * min(1.0, clip / float(flat.norm()))
    return total


def as_trained(one: Learner, clip: float) -> torch.Tensor:
    """Return the sum that training noises, all records drawn."""
    return dpsgd.gradient_sum(
        model=one.adapter.model,
        parameters=one.adapter.parameters,
        clip_norm=clip,
        sampling_rate=1.0,
        population=len(one.records),
        losses=one.losses,
        microbatch=one.rows,
        shape_of=one._shape,
        gradients="one_by_one" if why_apart(one, WORDS) else one.gradients,
    )


@pytest.mark.parametrize("attention", [False, True], ids=["all-linear", "attention"])
@pytest.mark.parametrize("family", DENSE)
def test_records_of_every_dense_family_share_a_pass_and_are_clipped_exactly(
    models: Path, family: str, attention: bool
) -> None:
    shape, names = DENSE[family]
    one = learner(models, shape(), names if attention else "all-linear")
    norms = [float(gradient(one.losses([0])[0], [parameter])[0].norm()) for parameter in one.adapter.parameters]
    clip = 0.5 * float(np.linalg.norm(norms))
    found, expected = as_trained(one, clip), one_by_one(one, clip)

    assert why_apart(one, WORDS) == ""
    assert (found - expected).norm() <= 1e-4 * expected.norm()
    assert min(norms) > 0


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2", "opt", "gpt_neox", "bloom"])
def test_in_bfloat16_too_no_record_shows_in_anothers_gradient(models: Path, family: str) -> None:
    assert why_apart(learner(models, DENSE[family][0](), "all-linear", torch.bfloat16), WORDS) == ""


@pytest.mark.parametrize("targets", ["all-linear", QKV], ids=["all-linear", "attention"])
@pytest.mark.parametrize("family", EXPERTS)
def test_records_of_a_model_with_experts_go_one_at_a_time(
    models: Path, family: str, targets: str | tuple[str, ...]
) -> None:
    one = learner(models, EXPERTS[family](), targets)
    found, expected = as_trained(one, 0.05), one_by_one(one, 0.05)

    assert "the model sends rows to experts" in why_apart(one, WORDS)
    assert (found - expected).norm() <= 1e-6 * expected.norm()


def test_asking_leaves_the_adapter_as_it_was(models: Path) -> None:
    one = learner(models, DENSE["llama"][0](), "all-linear")
    before = one.adapter.read()
    why_apart(one, WORDS)

    assert (one.adapter.read() == before).all()
    assert not any(module._forward_hooks for module in one.adapter.model.modules())


def test_a_layer_that_no_record_reaches_is_refused_by_name(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = learner(models, DENSE["llama"][0](), ("q_proj", "up_proj"))
    feed_forward = one.adapter.model.base_model.model.model.layers[1].mlp  # type: ignore[union-attr]
    monkeypatch.setattr(feed_forward, "forward", lambda hidden: hidden)

    with pytest.raises(
        ConfigError, match=r"lora\.targets: .*layers\.1\.mlp\.up_proj\.lora_A.* took no part in the forward"
    ):
        why_apart(one, WORDS)


def test_a_model_that_its_adapter_breaks_is_refused(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = learner(models, DENSE["llama"][0](), "all-linear")

    def broken(*_: object, **__: object) -> None:
        raise AttributeError("'tuple' object has no attribute 'dtype'")

    monkeypatch.setattr(one.adapter.model, "forward", broken)
    before = one.adapter.read()

    with pytest.raises(
        ConfigError, match=r"lora\.targets: the model cannot be trained with its adapter .*no attribute"
    ):
        why_apart(one, WORDS)
    assert (one.adapter.read() == before).all()


def test_one_record_in_memory_needs_no_company(models: Path) -> None:
    one = learner(models, DENSE["llama"][0](), "all-linear")
    object.__setattr__(one, "settings", LocalTraining(steps=1, batch_size=4, microbatch=1))

    assert why_apart(one, WORDS) == "one record is in memory at a time"
    assert isinstance(one.adapter.model, nn.Module)


@pytest.mark.parametrize("targets", [("q_proj", "embed_tokens"), ("embed_tokens",), ".*embed_tokens"])
def test_a_target_that_is_no_linear_layer_is_refused_by_name(models: Path, targets: str | tuple[str, ...]) -> None:
    with pytest.raises(
        ConfigError, match=r"lora\.targets: '.*embed_tokens' is a layer of kind Embedding, which no round"
    ):
        learner(models, DENSE["llama"][0](), targets)


@pytest.mark.parametrize("family", EXPERTS)
def test_experts_may_be_named_as_their_parameters_are(models: Path, family: str) -> None:
    assert learner(models, EXPERTS[family](), ("q_proj", "experts.gate_up_proj")).adapter.schema.length


def test_a_rank_above_a_layer_s_width_is_refused_but_for_a_gate_under_all_linear(models: Path) -> None:
    base = learner(models, DENSE["llama"][0](), ("q_proj",))
    assert base.adapter.schema.length
    with pytest.raises(ConfigError, match=r"lora\.rank: expected at most 1, the width of .*shared_expert_gate, got 2"):
        learner(models, EXPERTS["qwen2_moe"](), ("q_proj", "shared_expert_gate"))
