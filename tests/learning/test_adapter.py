"""The flat vector: its order, its digest, and the paper's traffic by shape alone."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM, OPTConfig, OPTForCausalLM

from fedcollm_secure.config.models import Lora, ModelSource
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.models import load_base, with_lora
from fedcollm_secure.learning.vectors import digest


@pytest.fixture
def adapter(models: Path) -> Adapter:
    base = load_base(ModelSource(source=str(models / "slm")), "models.slm", torch.device("cpu"))
    return Adapter(with_lora(base, Lora(rank=2, targets=("q_proj", "v_proj")), seed=1), "fedavg")


def test_written_vector_is_read_back(adapter: Adapter) -> None:
    vector = np.arange(adapter.schema.length, dtype=np.float32)

    adapter.write(vector)

    assert (adapter.read() == vector).all()


def test_order_is_by_name_and_row_major(adapter: Adapter) -> None:
    adapter.write(np.arange(adapter.schema.length, dtype=np.float32))
    named = {name: p for name, p in adapter.model.named_parameters() if p.requires_grad}
    expected = np.concatenate([named[name].detach().numpy().ravel() for name in sorted(named)])

    assert (adapter.read() == expected).all()


def test_ffa_moves_only_b(models: Path) -> None:
    base = load_base(ModelSource(source=str(models / "slm")), "models.slm", torch.device("cpu"))
    ffa = Adapter(with_lora(base, Lora(rank=2, targets=("q_proj", "v_proj")), seed=1), "ffa")

    assert all("lora_B" in name for name in ffa.schema.shapes)
    assert ffa.frozen_digest != Adapter(ffa.model, "fedavg").frozen_digest


@pytest.mark.parametrize(
    ("vector", "message"),
    [
        (np.zeros(3, dtype=np.float32), r"expected float32\[\d+\], got float32\[3\]"),
        (np.zeros(192, dtype=np.float64), r"got float64"),
    ],
)
def test_a_vector_of_another_form_is_refused(adapter: Adapter, vector: np.ndarray, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        adapter.write(vector)


def test_a_vector_with_nan_is_refused_and_nothing_changes(adapter: Adapter) -> None:
    before = adapter.read()
    bad = before.copy()
    bad[0] = np.nan

    with pytest.raises(ValueError, match="expected finite values"):
        adapter.write(bad)

    assert (adapter.read() == before).all()


def test_digest_is_of_little_endian_float32() -> None:
    import hashlib

    assert digest(np.array([1.0], dtype=np.float32)) == hashlib.sha256(bytes.fromhex("0000803f")).hexdigest()


PAPER = [  # arXiv 2411.11707, table 2: millions of parameters per direction, client and round
    (GPT2LMHeadModel, GPT2Config(), ["c_attn"], True, 294_912),
    (
        OPTForCausalLM,
        OPTConfig(hidden_size=2048, num_hidden_layers=24, ffn_dim=8192, num_attention_heads=32),
        ["q_proj", "k_proj", "v_proj", "out_proj"],
        False,
        3_145_728,
    ),
    (
        LlamaForCausalLM,  # Sheared-LLaMA-1.3B
        LlamaConfig(hidden_size=2048, intermediate_size=5504, num_hidden_layers=24, num_attention_heads=16),
        ["q_proj", "k_proj", "v_proj", "o_proj"],
        False,
        3_145_728,
    ),
]


@pytest.mark.parametrize(("model", "shape", "targets", "transposed", "parameters"), PAPER)
def test_the_papers_traffic_follows_from_shapes(
    model: type, shape: object, targets: list[str], transposed: bool, parameters: int
) -> None:
    settings = LoraConfig(r=8, target_modules=targets, fan_in_fan_out=transposed)
    with torch.device("meta"), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        wrapped = get_peft_model(model(shape), settings)

    assert Adapter(wrapped, "fedavg").schema.length == parameters
