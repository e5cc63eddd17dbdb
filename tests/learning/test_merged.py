"""Merging an adapter for a while: the same outputs, and afterwards the same weights bit for bit."""

from pathlib import Path

import pytest
import torch
from torch import nn

from fedcollm_secure.config.models import Lora, ModelSource
from fedcollm_secure.learning import merged as room
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.merged import merged
from fedcollm_secure.learning.models import load_base, with_lora

IDS = torch.tensor([[5, 6, 7, 8]])


@pytest.fixture
def model(models: Path) -> nn.Module:
    base = load_base(ModelSource(source=str(models / "slm")), "models.slm", torch.device("cpu"))
    adapter = Adapter(with_lora(base, Lora(rank=2, alpha=4), seed=1), "fedavg")
    adapter.write(adapter.read() + torch.linspace(-0.3, 0.3, adapter.schema.length).numpy())
    return adapter.model.eval()


def outputs(model: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits  # type: ignore[no-any-return]


def test_outputs_are_the_same_and_the_weights_come_back_bit_for_bit(model: nn.Module) -> None:
    before, weights = outputs(model), {name: each.clone() for name, each in model.named_parameters()}

    with merged(model):
        inside = outputs(model)
        assert any(not torch.equal(each, weights[name]) for name, each in model.named_parameters())

    assert torch.allclose(inside, before, atol=1e-5)
    assert all(torch.equal(each, weights[name]) for name, each in model.named_parameters())
    assert torch.equal(outputs(model), before)


def test_weights_come_back_after_an_error(model: nn.Module) -> None:
    before = outputs(model)

    with pytest.raises(ValueError, match="inside"), merged(model):
        raise ValueError("inside")

    assert torch.equal(outputs(model), before)


@pytest.mark.parametrize("why", ["coarse", "large"])
def test_a_model_whose_weights_are_coarse_or_large_stays_as_it_is(
    model: nn.Module, why: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if why == "coarse":
        model.to(torch.bfloat16)
    else:
        monkeypatch.setattr(room, "MOST_COPIED", 100)
    before = {name: each.clone() for name, each in model.named_parameters()}

    with merged(model):
        assert all(torch.equal(each, before[name]) for name, each in model.named_parameters())


def test_a_model_without_an_adapter_stays_as_it_is(models: Path) -> None:
    base = load_base(ModelSource(source=str(models / "slm")), "models.slm", torch.device("cpu"))

    with merged(base.model):
        assert outputs(base.model).shape[0] == 1
