"""Whole runs under DP-SGD of families whose layers do not get the records' rows: OPT's and a mixture of experts."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import transformers as tr

from fedcollm_secure.assemble import prepare, start
from fedcollm_secure.audit_log.run_verification import verify_run
from fedcollm_secure.config import parse
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.operations.check_command import check
from fedcollm_secure.operations.check_summary import check_words
from fedcollm_secure.operations.run_command import run
from tests.end_to_end.conftest import Quiet

Make = Callable[..., dict[str, object]]
SHAPE = {"vocab_size": 60, "hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 4}
ENDS = {"max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1}
EXPERTS = {"num_local_experts": 4, "num_key_value_heads": 2, "intermediate_size": 64}


@pytest.fixture
def families(models: Path, tmp_path: Path) -> Path:
    """Return a folder with tiny models of both kinds and the tests' tokenizer."""
    shapes = {
        "opt": tr.OPTConfig(ffn_dim=64, word_embed_proj_dim=32, **SHAPE, **ENDS),
        "mixtral": tr.MixtralConfig(**EXPERTS, **SHAPE, **ENDS),
    }
    for name, shape in shapes.items():
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # transformers' own
            torch.manual_seed(1)
            tr.AutoModelForCausalLM.from_config(shape).save_pretrained(tmp_path / name)
        tr.AutoTokenizer.from_pretrained(str(models / "slm")).save_pretrained(tmp_path / name)
    return tmp_path


def _of(families: Path, name: str) -> dict[str, object]:
    source = {"from": str(families / name)}
    lora = {"rank": 2, "alpha": 4, "targets": "all-linear"}
    return {"models": {"llm": source, "slm": source}, "lora": lora, "rounds": 1, "aggregation": {"masked": {}}}


@pytest.mark.parametrize(
    ("family", "told"),
    [
        ("opt", "16 records in a forward pass"),
        ("mixtral", "one record at a time, which is slow: the model sends rows to"),
    ],
)
def test_a_family_trains_under_dp_from_check_to_verify(private: Make, families: Path, family: str, told: str) -> None:
    config, out = parse(private(**_of(families, family))), families / "run"
    told_before = check(config)
    run(config, out, resuming=False, show=Quiet())

    assert f"gradients: {told}" in check_words(told_before)
    assert verify_run(out).incomplete is None


def test_training_of_experts_moves_every_matrix(private: Make, families: Path) -> None:
    prepared = prepare(parse(private(**_of(families, "mixtral"))))
    change = prepared.learner("silo-1").update(prepared.server_slm.read(), 1)

    assert np.count_nonzero(change) > 0.99 * len(change)


@pytest.mark.parametrize("factors", ["fedsvd", "exact"])
def test_experts_in_one_pair_are_not_decomposed(private: Make, families: Path, factors: str) -> None:
    with pytest.raises(ConfigError, match=f"{factors} decomposes products .* several products in one pair"):
        prepare(parse(private(**_of(families, "mixtral"), factors=factors)))


def test_what_cannot_train_is_refused_before_anything_is_written(
    private: Make, families: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, whole = parse(private(**_of(families, "opt"))), tr.OPTForCausalLM.forward

    def broken(*given: Any, **named: Any) -> object:
        if "logits_to_keep" in named:  # as it trains; it is loaded and asked whether it is causal without
            raise AttributeError("no such thing")
        return whole(*given, **named)

    monkeypatch.setattr(tr.OPTForCausalLM, "forward", broken)
    with pytest.raises(ConfigError, match=r"lora\.targets: the model cannot be trained with its adapter"):
        start(prepare(config), families / "run", lambda _, __: None)

    assert not (families / "run").exists()
