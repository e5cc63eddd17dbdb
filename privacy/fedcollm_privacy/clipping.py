"""Clipping: how much of one unit's gradient may enter the sum.

| gradient of the unit | contribution |
|---|---|
| ‖g‖ ≤ C | g |
| ‖g‖ > C | g · C/‖g‖, of norm C |
| zero | zero (the factor is 1; nothing is divided by zero) |
| NaN or ±∞ in any coordinate, or ‖g‖² beyond binary64 | zero: the unit is left out, and nobody is told |
| loss NaN or ±∞ | zero, by `usable` |
"""

import math

import torch
from torch import Tensor

LARGEST_CHANGE = 1.0
"""The most that one unit changes a step's sum, in units of C, whatever the model computes in. Who measures it holds
the measure against this, with nothing but the measure's own error on top."""

# n units of norm C add up in float64 with an error of at most n²·2⁻⁵³ C, with the unit and without it: together below
# 2⁻²² C for n ≤ 2¹⁵. Norms are known to about 1e-12 of themselves. Aiming this much lower pays for both.
_ROUNDING_GUARD = 1.0 - 2.0**-20


def clip_factors(squared_norms: Tensor, clip_norm: float, *, usable: Tensor | None = None) -> Tensor:
    """Return float64[B] factors in [0, 1] for gradients of `squared_norms` float[B]; `usable` bool[B] vetoes a unit.

    Guarantee: factor · ‖g‖ ≤ `clip_norm` for every unit, and a factor is exactly 0 for a unit that is left out. Such
    a gradient must be replaced by zeros, not multiplied: 0 · NaN is NaN.

    Raises:
        ValueError: a clip norm that is not a positive finite number.
    """
    if not (math.isfinite(clip_norm) and clip_norm > 0):
        raise ValueError(f"clip_norm must be a positive finite number, got {clip_norm!r}")
    squared = squared_norms.to(torch.float64)
    finite = torch.isfinite(squared)
    kept = finite if usable is None else finite & usable
    norms = torch.where(finite, squared, 0.0).clamp(min=0.0).sqrt()
    factors = (clip_norm * _ROUNDING_GUARD / norms.clamp(min=torch.finfo(torch.float64).tiny)).clamp(max=1.0)
    return torch.where(kept, factors, 0.0)
