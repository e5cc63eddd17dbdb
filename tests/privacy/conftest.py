"""Tiny language models with LoRA, and the losses that DP-SGD needs."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

VOCABULARY, LENGTH = 61, 9


@dataclass(kw_only=True)
class Subject:
    """A model to train, its records int64[N, LENGTH], and how the loss of records is computed."""

    model: nn.Module
    records: Tensor

    def parameters(self) -> list[nn.Parameter]:
        return [each for each in self.model.parameters() if each.requires_grad]

    def losses(self, indices: Sequence[int]) -> Tensor:
        """Return float32[B]: each record's own mean over its tokens."""
        tokens = self.records[list(indices)]
        logits = self.model(input_ids=tokens).logits[:, :-1]  # [B, T-1, V]
        return F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none").mean(dim=1)

    def flat(self) -> Tensor:
        return torch.cat([each.detach().reshape(-1).double() for each in self.parameters()])


Build = Callable[..., Subject]


def _base(kind: str) -> tuple[nn.Module, list[str]]:
    from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

    if kind == "gpt2":
        config = GPT2Config(
            n_embd=16, n_layer=2, n_head=2, vocab_size=VOCABULARY, n_positions=32, bos_token_id=1, eos_token_id=2
        )
        return GPT2LMHeadModel(config), ["c_attn"]
    config = LlamaConfig(
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        num_key_value_heads=2,
        vocab_size=VOCABULARY,
    )
    return LlamaForCausalLM(config), ["q_proj", "v_proj", "o_proj"]


def _build(kind: str = "llama", *, only_b: bool = False, records: int = 24) -> Subject:
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(7)
    base, targets = _base(kind)
    with warnings.catch_warnings():
        # peft asks transformers 5 for a property under its old name.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        lora = LoraConfig(r=4, lora_alpha=8, target_modules=targets, fan_in_fan_out=kind == "gpt2")
        model = get_peft_model(base, lora)  # type: ignore[arg-type]  # every transformers model is accepted
    for name, parameter in model.named_parameters():
        if "lora_" in name:
            nn.init.normal_(parameter, std=0.3)  # away from B = 0, where the gradient of A vanishes
        if only_b and "lora_A" in name:
            parameter.requires_grad_(False)
    model.eval()
    return Subject(model=model, records=torch.randint(0, VOCABULARY, (records, LENGTH)))


@pytest.fixture
def build() -> Build:
    return _build
