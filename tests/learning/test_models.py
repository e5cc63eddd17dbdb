"""Loading, tokenizer fingerprints and reproducible adapters."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from fedcollm_secure.config.models import Lora, ModelSource
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.models import load_base, require_same_tokenizer, weights_digest, with_lora

CPU = torch.device("cpu")
LORA = Lora(rank=2, alpha=4, targets=("q_proj", "v_proj"))


def _load(folder: Path, **settings: object) -> object:
    return load_base(ModelSource(source=str(folder), **settings), "models.slm", CPU)  # type: ignore[arg-type]


def test_same_seed_gives_the_same_adapter(models: Path) -> None:
    first = Adapter(with_lora(_load(models / "slm"), LORA, seed=5), "fedavg").read()
    torch.rand(7)  # another state of the global generator changes nothing
    second = Adapter(with_lora(_load(models / "slm"), LORA, seed=5), "fedavg").read()
    other = Adapter(with_lora(_load(models / "slm"), LORA, seed=6), "fedavg").read()

    assert (first == second).all()
    assert (first != other).any()


def test_initial_adapter_changes_no_logit(models: Path) -> None:
    base = _load(models / "slm")
    ids = torch.tensor([[3, 4, 9, 10]])
    before = base.model(input_ids=ids).logits

    after = with_lora(base, LORA, seed=1)(input_ids=ids).logits

    assert torch.equal(before, after)


def test_first_layers_make_a_smaller_model(models: Path) -> None:
    assert _load(models / "llm", layers=1).model.config.num_hidden_layers == 1


def test_bfloat16_keeps_adapters_in_float32(models: Path) -> None:
    base = _load(models / "slm", dtype="bfloat16")
    adapter = Adapter(with_lora(base, LORA, seed=1), "fedavg")

    assert base.model.dtype == torch.bfloat16
    assert {parameter.dtype for parameter in adapter.parameters} == {torch.float32}


def test_digest_tells_one_changed_weight(models: Path) -> None:
    base = _load(models / "slm")
    before = weights_digest(base.model)
    with torch.no_grad():
        next(base.model.parameters())[0, 0] += 1e-3

    assert weights_digest(base.model) != before


def test_another_tokenizer_is_refused_with_both_fingerprints(models: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(models / "slm", other)
    file = other / "tokenizer.json"
    content = json.loads(file.read_text())
    words = content["model"]["vocab"]
    words["w8"], words["w9"] = words["w9"], words["w8"]
    file.write_text(json.dumps(content))

    with pytest.raises(ConfigError, match=r"(?s)llm: 60 tokens, fingerprint [0-9a-f]{64}.*slm: 60 tokens, fingerprint"):
        require_same_tokenizer(_load(models / "llm"), _load(other))


def test_the_same_tokenizer_is_accepted(models: Path) -> None:
    require_same_tokenizer(_load(models / "llm"), _load(models / "slm"))


@pytest.mark.parametrize(
    ("source", "message"),
    [("embedded:xl", "not shipped; expected embedded:llm or embedded:slm"), ("no/such-model", "no tokenizer at")],
)
def test_a_model_that_is_not_there_is_named(source: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_base(ModelSource(source=source), "models.slm", CPU)


@pytest.mark.parametrize("targets", [("nowhere",), ("c_attn", "c_proj"), "nowhere", ("mlp",), ("q_proj", "c_attn")])
def test_targets_that_fit_no_module_are_told_with_the_names_that_exist(
    models: Path, targets: str | tuple[str, ...]
) -> None:
    given = targets if isinstance(targets, str) else targets[-1] if "q_proj" in targets else targets[0]
    names = "down_proj, gate_proj, k_proj, o_proj, q_proj, up_proj, v_proj"
    with pytest.raises(ConfigError, match=f"lora.targets: no linear module of the llama .* fits '{given}'.*{names}$"):
        with_lora(_load(models / "slm"), Lora(targets=targets), seed=1)


@pytest.mark.parametrize("targets", [("q_proj",), "all-linear", r".*\.(q_proj|v_proj)"])
def test_targets_that_fit_a_module_are_accepted(models: Path, targets: str | tuple[str, ...]) -> None:
    assert Adapter(with_lora(_load(models / "slm"), Lora(targets=targets), seed=1), "fedavg").schema.length


def test_more_layers_than_there_are_is_refused(models: Path) -> None:
    with pytest.raises(ConfigError, match=r"models\.slm\.layers: expected at most 1, got 2"):
        _load(models / "slm", layers=2)


def test_targets_that_match_nothing_are_refused(models: Path) -> None:
    with pytest.raises(ConfigError, match=r"lora\.targets"):
        with_lora(_load(models / "slm"), Lora(targets=("no_such_layer",)), seed=0)


def test_a_pickled_model_is_never_loaded(models: Path, tmp_path: Path) -> None:
    folder = tmp_path / "pickled"
    shutil.copytree(models / "slm", folder)
    weights = load_base(ModelSource(source=str(models / "slm")), "models.slm", CPU).model.state_dict()
    (folder / "model.safetensors").unlink()
    torch.save(weights, folder / "pytorch_model.bin")

    with pytest.raises(ConfigError, match=r"pytorch_model\.bin alone, a pickle"):
        _load(folder)
