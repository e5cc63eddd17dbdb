"""Gradients of one unit at a time, by autograd itself: exact for every model, whatever its layers do with rows.

This is what the faster way of `per_record` is held against, and what models take that have no rows of records: experts
that get as many rows as a router sends them, layers that are called for some records alone.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from fedcollm_privacy.clipping import clip_factors


@dataclass(frozen=True, kw_only=True)
class OneByOne:
    """Clip the gradient of each unit by itself, as autograd gives it for all of `parameters`."""

    parameters: Sequence[nn.Parameter]

    def clear(self) -> None:
        """Forget nothing: nothing was kept."""

    def clipped_sum(self, losses: Tensor, clip_norm: float, unit_sizes: Sequence[int]) -> dict[Tensor, Tensor]:
        """Return float64 Σ_u clip(∇ mean of the losses of u) for each parameter; see `per_record.clipped_sum`."""
        totals: dict[Tensor, Tensor] = {each: torch.zeros_like(each, dtype=torch.float64) for each in self.parameters}
        for values in torch.split(losses, list(unit_sizes)):
            gradients = gradient(values.mean(), self.parameters)
            squared = torch.stack([each.square().sum() for each in gradients]).sum().reshape(1)
            factor = clip_factors(squared, clip_norm, usable=torch.isfinite(values).all().reshape(1))[0]
            if factor == 0:  # 0 · NaN would be NaN
                continue
            for parameter, each in zip(self.parameters, gradients, strict=True):
                totals[parameter] += factor * each
        return totals


def gradient(value: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    """Return float64 ∇value for each parameter; zeros where `value` does not depend on it. The graph is kept."""
    found = torch.autograd.grad(value, list(parameters), retain_graph=True, allow_unused=True, materialize_grads=True)
    return [each.double() for each in found]
