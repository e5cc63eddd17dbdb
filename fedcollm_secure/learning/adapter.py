"""A model's adapter as one flat float32 vector, in one canonical order that all parties hash and compare.

Order: shared tensors sorted by name, each in row-major order. `ffa` (FFA-LoRA, arXiv 2403.12313) fixes every A, so
that of each pair only B is shared; every other rule of `learning.factors` shares both. DoRA's magnitudes and modules
that are trained in full are shared with them.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from fedcollm_secure.config.training import Factors
from fedcollm_secure.learning.vectors import Float32

Float64 = NDArray[np.float64]
Matrices = Literal["A", "B", "AB"]
"""One factor of each LoRA product B·A, or both."""


PAIR = (".lora_A.", ".lora_B.")
BESIDE = (".lora_magnitude_vector.", ".modules_to_save.")
"""What peft calls that which trains: the factors of B·A, and what may train beside them."""


@dataclass(frozen=True, kw_only=True)
class Schema:
    """Names and shapes of what travels: everything that gives a flat vector its meaning."""

    shapes: Mapping[str, tuple[int, ...]]

    @property
    def length(self) -> int:
        """Return d, the number of parameters that travel."""
        return sum(int(np.prod(shape)) for shape in self.shapes.values())

    @property
    def digest(self) -> str:
        """Return SHA-256 of the canonical description."""
        description = json.dumps([[name, list(shape)] for name, shape in self.shapes.items()], separators=(",", ":"))
        return hashlib.sha256(description.encode()).hexdigest()


class Adapter:
    """The shared part of a model's adapter, readable and writable as float32[d]."""

    def __init__(self, model: nn.Module, factors: Factors) -> None:
        """Choose what is shared, and trains until `choose` says otherwise: under `ffa` every lora_A is frozen."""
        lora = {name: p for name, p in model.named_parameters() if any(part in name for part in (*PAIR, *BESIDE))}
        for name, parameter in lora.items():
            parameter.requires_grad_(factors != "ffa" or ".lora_A." not in name)
        self.model = model
        self._parameters = {name: lora[name] for name in sorted(lora) if lora[name].requires_grad}
        self._frozen = {name: lora[name] for name in sorted(lora) if not lora[name].requires_grad}
        self.schema = Schema(shapes={name: tuple(p.shape) for name, p in self._parameters.items()})

    @property
    def parameters(self) -> list[nn.Parameter]:
        """Return the trainable tensors in canonical order."""
        return [parameter for parameter in self._parameters.values() if parameter.requires_grad]

    @property
    def device(self) -> torch.device:
        """Return where the shared tensors lie."""
        return next(iter(self._parameters.values())).device

    @property
    def computes_in(self) -> torch.dtype:
        """Return the coarsest type that the model's weights have."""
        return min((p.dtype for p in self.model.parameters() if p.is_floating_point()), key=lambda each: each.itemsize)

    def choose(self, matrices: Matrices) -> None:
        """Train these factors alone, of those that are shared."""
        for name, parameter in self._parameters.items():
            parameter.requires_grad_(matrices == "AB" or f".lora_{matrices}." in name)
            parameter.grad = None

    @property
    def frozen_digest(self) -> str:
        """Return SHA-256 of the adapter's fixed part (every A under `ffa`), so that parties can compare it."""
        digest = hashlib.sha256()
        for name, parameter in self._frozen.items():
            digest.update(name.encode() + b"\0" + _flat(parameter).astype("<f4").tobytes())
        return digest.hexdigest()

    def drift(self, one: Float32, other: Float32) -> float:
        """Return the largest ‖B'A' − BA‖ / ‖BA‖ over all modules, from float32[d] `one` to `other` (Frobenius).

        Products, not factors: another pair of factors of the same product is no change. 0 where both products are
        zero, infinite where only BA is, NaN where an entry is not finite. What trains beside products counts by itself.
        """
        before, after = self._factors(one), self._factors(other)
        changes = [_relative_change(before[module], after[module]) for module in before]
        tensors, changed = self._tensors(one), self._tensors(other)
        changes += [_relative(tensors[name], changed[name]) for name in tensors if any(part in name for part in BESIDE)]
        return float(np.max(changes))

    def _factors(self, vector: Float32) -> dict[str, tuple[Float64, Float64]]:
        """Return (A [r, in], B [out, r]) of each module, taking fixed factors as they are."""
        tensors = self._tensors(vector)
        firsts = {name: tensor.astype(np.float64) for name, tensor in tensors.items() if ".lora_A." in name}
        return {
            name: (first, tensors[name.replace(".lora_A.", ".lora_B.")].astype(np.float64))
            for name, first in firsts.items()
        }

    def _tensors(self, vector: Float32) -> dict[str, Float32]:
        """Return all tensors by name, fixed ones as they are."""
        tensors = {name: _flat(tensor).reshape(tensor.shape) for name, tensor in self._frozen.items()}
        start = 0
        for name, shape in self.schema.shapes.items():
            size = int(np.prod(shape))
            tensors[name] = vector[start : start + size].reshape(shape)
            start += size
        return tensors

    def read(self) -> Float32:
        """Return a copy of the shared part, float32[d]."""
        parts = [_flat(parameter) for parameter in self._parameters.values()]
        return np.concatenate(parts) if parts else np.zeros(0, dtype=np.float32)

    @torch.no_grad()
    def write(self, vector: Float32) -> None:
        """Set the shared part.

        Raises:
            ValueError: `vector` is not float32[d], or not finite.
        """
        if vector.shape != (self.schema.length,) or vector.dtype != np.float32:
            raise ValueError(f"adapter: expected float32[{self.schema.length}], got {vector.dtype}{list(vector.shape)}")
        if not np.isfinite(vector).all():
            raise ValueError("adapter: expected finite values, got NaN or infinity; the adapter was left as it was")
        start = 0
        for parameter in self._parameters.values():
            part = vector[start : start + parameter.numel()]
            parameter.copy_(torch.from_numpy(part).reshape(parameter.shape))
            start += parameter.numel()


def _relative_change(before: tuple[Float64, Float64], after: tuple[Float64, Float64]) -> float:
    (first, second), (new_first, new_second) = before, after
    change = _product_norm(np.hstack([new_second, -second]), np.vstack([new_first, first]))  # B'A' − BA, of rank 2r
    return _ratio(change, _product_norm(second, first))


def _relative(before: Float32, after: Float32) -> float:
    old, new = before.astype(np.float64), after.astype(np.float64)
    return _ratio(float(np.linalg.norm(new - old)), float(np.linalg.norm(old)))


def _ratio(change: float, size: float) -> float:
    if change == 0:
        return 0.0
    return change / size if size else float("inf")


def _product_norm(second: Float64, first: Float64) -> float:
    """Return ‖BA‖_F = √tr(BᵀB·AAᵀ) without forming BA: r×r matrices instead of out×in."""
    return float(np.sqrt(np.maximum(0.0, np.sum((second.T @ second) * (first @ first.T).T))))


def _flat(parameter: nn.Parameter) -> Float32:
    return parameter.detach().to("cpu", torch.float32).reshape(-1).numpy().copy()
