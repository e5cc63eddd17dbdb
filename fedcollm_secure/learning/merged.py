"""A model with its adapter merged into copies of its weights: what only reads it then pays for no adapter.

    W, B·A  ──▶  W + scaling·B·A, for as long as the context lasts  ──▶  W itself again, not W + BA − BA

Only in float32, where merging moves an output by rounding alone, and only while the copies stay small.
"""

from collections.abc import Generator
from contextlib import contextmanager

import torch
from peft.tuners.lora import Linear as LoraLinear
from torch import Tensor, nn

MOST_COPIED = 1 << 29
"""Bytes of merged weights that may lie beside the model's own."""


@contextmanager
def merged(model: nn.Module) -> Generator[None]:
    """Let the model's own weights hold its adapter for a while; where that is not possible, it stays as it is."""
    layers = _mergeable(model)
    weights = [_weight(layer) for layer in layers]
    kept: list[Tensor] = [weight.data for weight in weights]
    try:
        with torch.no_grad():
            for layer, weight, own in zip(layers, weights, kept, strict=True):
                weight.data = own + layer.get_delta_weight(layer.active_adapters[0])
                layer.merged_adapters.append(layer.active_adapters[0])
        yield
    finally:
        for layer, weight, own in zip(layers, weights, kept, strict=True):
            weight.data = own
            layer.merged_adapters.clear()


def _mergeable(model: nn.Module) -> list[LoraLinear]:
    """Return the layers to merge: all that bear an adapter, or none."""
    layers = [module for module in model.modules() if isinstance(module, LoraLinear)]
    plain = all(
        len(layer.active_adapters) == 1
        and not layer.merged_adapters
        and not layer.disable_adapters
        and not any(layer.use_dora.values())
        and _weight(layer).dtype == torch.float32
        for layer in layers
    )
    copied = sum(_weight(layer).numel() * 4 for layer in layers)
    return layers if plain and copied <= MOST_COPIED else []


def _weight(layer: LoraLinear) -> nn.Parameter:
    weight = layer.get_base_layer().weight
    if not isinstance(weight, nn.Parameter):
        raise TypeError(f"expected a layer with a weight, got {type(weight).__name__}")
    return weight
