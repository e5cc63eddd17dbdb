"""Per-record gradients of `nn.Linear` layers, clipped and summed without a backward pass for the weights.

The gradient of record b for a layer's weight is Σ_t g_bt a_btᵀ: inputs a [B, T, in] come from a forward hook, output
gradients g [B, T, out] from `torch.autograd.grad` with respect to the captured outputs, so autograd never forms the
batch's own weight gradient. Two exact ways lead from (a, g) to the clipped sum:

* outer: form every record's [out, in] gradient; cheapest for LoRA, where one side is the rank;
* ghost (Li et al. 2022, arXiv 2110.05679): ‖Σ_t g_t a_tᵀ‖² = Σ_ts (g_t·g_s)(a_t·a_s), then one weighted product;
  cheapest where the sequence is short and both sides are wide.

A layer may get [B·T, in] instead, records one after the other (OPT's feed-forward layers do): the same numbers, taken
apart again. Whatever else a layer does with rows is refused; `probe` finds out beforehand.

Sums over records run in float64: the rounding of one record's share must not depend on who else is in the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from fedcollm_privacy.clipping import clip_factors
from fedcollm_privacy.errors import NotPerRecord
from fedcollm_privacy.from_opacus import FromOpacus
from fedcollm_privacy.one_by_one import OneByOne

# A coordinate that is written and read again costs about this many multiplications (measured: privacy/README.md).
_COST_OF_A_COORDINATE = 16
_EPSILON = 2.0**-52  # of binary64


@dataclass(frozen=True, kw_only=True)
class Use:
    """One call of a layer: `inputs` [B, …, in] and `outputs` [B, …, out], the latter still in the graph."""

    inputs: Tensor
    outputs: Tensor
    versions: tuple[int, int]


@dataclass(frozen=True, kw_only=True)
class Taps:
    """What the hooks of `tapped` have seen since the last `clear`, by layer name."""

    layers: Mapping[str, nn.Linear]
    uses: dict[str, list[Use]] = field(default_factory=dict[str, list[Use]])

    def clear(self) -> None:
        """Forget all activations."""
        self.uses.clear()


Source = Taps | FromOpacus | OneByOne
"""Where the gradients of records come from."""


@contextmanager
def tapped(layers: Mapping[str, nn.Linear]) -> Generator[Taps]:
    """Keep inputs and outputs of `layers` while the context is open; the model is left without hooks."""
    taps = Taps(layers=layers)
    handles = [layer.register_forward_hook(_hook(taps, name)) for name, layer in layers.items()]
    try:
        yield taps
    finally:
        taps.clear()
        for handle in handles:
            handle.remove()


def clipped_sum(
    losses: Tensor, taps: Source, clip_norm: float, *, unit_sizes: Sequence[int] | None = None
) -> dict[Tensor, Tensor]:
    """Return, for each trainable parameter of the tapped layers, float64 Σ_u clip(mean of ∇ losses[b] over b in u).

    `losses` is float[B], one value per record. A unit u is one record, or `unit_sizes[u]` ≥ 1 successive records. The
    norm that is clipped is over all parameters together.

    Guarantee: one unit changes the sum by at most `clip_norm` in ℓ₂, provided that losses[b] and the activations
    in row b depend on record b alone. A unit with a non-finite loss or gradient contributes zero.

    Raises:
        NotPerRecord: a layer without a gradient, or whose rows are not records.
    """
    if not isinstance(taps, Taps):
        return taps.clipped_sum(losses, clip_norm, unit_sizes or [1] * len(losses))
    gradients = _layer_gradients(losses, taps)
    with torch.no_grad():
        usable = torch.isfinite(losses)
        if unit_sizes is not None:
            gradients = [gradient.joined(unit_sizes) for gradient in gradients]
            usable = torch.stack([each.all() for each in torch.split(usable, list(unit_sizes))])
        squared = torch.stack([gradient.squared_norms() for gradient in gradients]).sum(dim=0)  # float64[B]
        factors = clip_factors(squared, clip_norm, usable=usable)
        return {parameter: total for gradient in gradients for parameter, total in gradient.weighted_sums(factors)}


def gradient_of(losses: Tensor, taps: Taps | FromOpacus, record: int) -> dict[Tensor, Tensor]:
    """Return the float64 gradient of one record by the same way, neither clipped nor added to others."""
    if isinstance(taps, FromOpacus):
        return {parameter: rows[record].double() for parameter, rows in taps.gradients(losses).items()}
    gradients = _layer_gradients(losses, taps)
    with torch.no_grad():
        chosen = torch.zeros(len(losses), dtype=torch.float64, device=losses.device)
        chosen[record] = 1.0
        return {parameter: total for gradient in gradients for parameter, total in gradient.weighted_sums(chosen)}


def couples_records(losses: Tensor, taps: Taps | FromOpacus) -> bool:
    """Tell whether losses[0] depends on the activations of another record; without any activations it does not."""
    if isinstance(taps, FromOpacus):
        return taps.couples_records(losses)
    outputs = [use.outputs for uses in taps.uses.values() for use in uses]
    if not outputs:
        return False
    slopes = [slope for slope in _slopes(losses[0], outputs) if slope is not None]
    # [B, …] or [B·T, out]; what has other rows is refused where gradients are taken.
    others = [slope.reshape(len(losses), -1)[1:] for slope in slopes if slope.shape[0] % len(losses) == 0]
    return any(bool((torch.isfinite(other) & (other != 0)).any()) for other in others)


def _hook(taps: Taps, name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
    def keep(_layer: nn.Module, arguments: tuple[Tensor, ...], outputs: Tensor) -> None:
        if outputs.requires_grad:
            inputs = arguments[0].detach()
            use = Use(inputs=inputs, outputs=outputs, versions=_versions(inputs, outputs))
            taps.uses.setdefault(name, []).append(use)

    return keep


def _versions(inputs: Tensor, outputs: Tensor) -> tuple[int, int]:
    """Return torch's counters of in-place changes; a detached tensor shares the counter of its source."""
    return inputs._version, outputs._version  # pyright: ignore[reportPrivateUsage]  # torch has no public name for it


def _layer_gradients(losses: Tensor, taps: Taps) -> list[_LayerGradient]:
    """Back-propagate once, to the outputs of the tapped layers only."""
    # A copy: activation checkpointing runs the forward hooks again during the backward pass.
    uses = {name: tuple(taps.uses.get(name, ())) for name in taps.layers}
    shapes = [use.outputs.shape for each in uses.values() for use in each]
    positions = {shape[1] for shape in shapes if len(shape) > 2 and shape[0] == len(losses)}
    for name, each in uses.items():
        _check_uses(name, each, records=len(losses), positions=positions)
    outputs = [use.outputs for each in uses.values() for use in each]
    slopes = iter(_slopes(losses.sum(), outputs))
    return [
        _join(name, taps.layers[name], each, [next(slopes) for _ in each], len(losses)) for name, each in uses.items()
    ]


def _slopes(value: Tensor, outputs: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
    """Return ∂value/∂output for each output; None where `value` does not depend on it."""
    return torch.autograd.grad(value, outputs, allow_unused=True)


def _check_uses(name: str, uses: Sequence[Use], *, records: int, positions: set[int]) -> None:
    if not uses:
        raise NotPerRecord(
            f"{name} took no part in the forward pass, so its parameters have no per-record gradient: "
            f"freeze them, or make the model use the layer (is the adapter active, and not merged?)"
        )
    for use in uses:
        if use.versions != _versions(use.inputs, use.outputs):
            raise NotPerRecord(f"{name}: its input or output was changed in place; use the out-of-place operation")
        if not _rows_are_records(use.outputs.shape, records, positions):
            raise NotPerRecord(
                f"{name}: expected one row per record, [{records}, …], or per position, got {list(use.outputs.shape)}: "
                f"records must not be packed into one sequence"
            )


def _rows_are_records(shape: Sequence[int], records: int, positions: set[int]) -> bool:
    """Say whether outputs [B, …] are of B records, or [B·T, out] of all their T positions, as many as elsewhere."""
    if len(shape) < 2 or shape[0] == records:
        return len(shape) >= 2
    each, rest = divmod(shape[0], records)
    return len(shape) == 2 and rest == 0 and each > 0 and (not positions or each in positions)


def _join(
    name: str, layer: nn.Linear, uses: Sequence[Use], slopes: Sequence[Tensor | None], records: int
) -> _LayerGradient:
    """Concatenate all uses of one layer along the positions: its gradient is the sum over uses."""
    used = [(use.inputs, slope) for use, slope in zip(uses, slopes, strict=True) if slope is not None]
    if not used:
        raise NotPerRecord(f"{name}: the losses do not depend on it, so its parameters have no per-record gradient")
    inputs = [each.reshape(records, -1, layer.in_features).float() for each, _ in used]
    slope = [each.reshape(records, -1, layer.out_features).float() for _, each in used]
    return _LayerGradient(layer, _concatenated(inputs), _concatenated(slope))


def _concatenated(parts: Sequence[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(list(parts), dim=1)


class _LayerGradient:
    """The gradients of one layer for every record, kept as factors: `inputs` a [B, T, in], `slopes` g [B, T, out]."""

    def __init__(self, layer: nn.Linear, inputs: Tensor, slopes: Tensor) -> None:
        self._layer = layer
        self._inputs = inputs
        self._slopes = slopes
        self._outer: Tensor | None = None  # [B, out, in], where formed

    def joined(self, unit_sizes: Sequence[int]) -> _LayerGradient:
        """Return the gradients of units: a unit's records become positions of one row, weighted by 1 / its size."""
        weights = torch.cat([torch.full((size,), 1.0 / size) for size in unit_sizes]).to(self._slopes)  # [B]
        slopes = self._slopes * weights[:, None, None]
        return _LayerGradient(self._layer, _rows_joined(self._inputs, unit_sizes), _rows_joined(slopes, unit_sizes))

    def squared_norms(self) -> Tensor:
        """Return float64[B]: ‖∇weight‖² + ‖∇bias‖², of the parameters that are trainable."""
        squared = torch.zeros(self._slopes.shape[0], dtype=torch.float64, device=self._slopes.device)
        if self._layer.weight.requires_grad:
            squared += self._ghost_squared() if self._ghost_is_cheaper() else self._outer_squared()
        if _has_trainable_bias(self._layer):
            squared += self._slopes.double().sum(dim=1).square().sum(dim=1)
        return squared

    def weighted_sums(self, factors: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield each trainable parameter with float64 Σ_b factors[b] · ∇_b; a factor of 0 removes even a NaN."""
        left_out = factors == 0
        if self._layer.weight.requires_grad:
            yield self._layer.weight, self._weighted_weight(factors, left_out)
        if _has_trainable_bias(self._layer):
            slopes = _without(self._slopes.double().sum(dim=1), left_out)  # [B, out]
            yield self._layer.bias, factors @ slopes

    def _ghost_is_cheaper(self) -> bool:
        _, positions, width_in = self._inputs.shape
        width_out = self._slopes.shape[2]
        return positions**2 * (width_in + width_out) < _COST_OF_A_COORDINATE * width_in * width_out

    def _outer_squared(self) -> Tensor:
        # The narrow side first: the same product, up to four times faster where `out` is wide and `in` is the rank.
        if self._layer.out_features > self._layer.in_features:
            self._outer = (self._inputs.transpose(1, 2) @ self._slopes).transpose(1, 2)
        else:
            self._outer = self._slopes.transpose(1, 2) @ self._inputs
        return self._outer.double().square().sum(dim=(1, 2))

    def _ghost_squared(self) -> Tensor:
        # In float64: the terms of both signs may cancel, and a norm that came out too small would break the bound.
        inputs, slopes = self._inputs.double(), self._slopes.double()
        gram = (inputs @ inputs.transpose(1, 2)) * (slopes @ slopes.transpose(1, 2))  # [B, T, T]
        # What rounding can hide where they cancel (Higham 2002, 3.1): γ_n · (Σ_t ‖g_t‖·‖a_t‖)², n additions a product.
        additions = inputs.shape[1] ** 2 + inputs.shape[2] + slopes.shape[2]
        lengths: Tensor = inputs.square().sum(dim=2).sqrt() * slopes.square().sum(dim=2).sqrt()  # [B, T]
        return gram.sum(dim=(1, 2)).clamp(min=0.0) + _EPSILON * additions * lengths.sum(dim=1).square()

    def _weighted_weight(self, factors: Tensor, left_out: Tensor) -> Tensor:
        if self._outer is not None:
            outer = _without(self._outer, left_out).double()
            return torch.einsum("b,boi->oi", factors, outer)
        slopes = _without(self._slopes, left_out).double() * factors[:, None, None]
        inputs = _without(self._inputs, left_out).double()
        return torch.einsum("bto,bti->oi", slopes, inputs)


def _without(rows: Tensor, left_out: Tensor) -> Tensor:
    """Return `rows` [B, …] with zeros in the rows that are left out: 0 · NaN would be NaN."""
    return torch.where(left_out.reshape(-1, *[1] * (rows.dim() - 1)), 0.0, rows) if bool(left_out.any()) else rows


def _rows_joined(rows: Tensor, unit_sizes: Sequence[int]) -> Tensor:
    """Return [U, K·T, w] from [B, T, w]: each unit's rows one after the other, then zeros up to the largest K."""
    units = torch.split(rows, list(unit_sizes))
    return torch.nn.utils.rnn.pad_sequence([each.flatten(0, 1) for each in units], batch_first=True)


def _has_trainable_bias(layer: nn.Linear) -> bool:
    return any(name == "bias" and parameter.requires_grad for name, parameter in layer.named_parameters())
