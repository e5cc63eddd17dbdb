"""A silo's learner as an audit uses it: the product's own path, under losses and batches that the audit chose.

A record's loss may be scaled, so that its gradient is next to nothing, or far longer than C and against all others; or
it may be one coordinate of the adapter, so that its gradient is known. Everything else is the product's.
"""

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch
from torch import Tensor, nn

from fedcollm_secure.assurance.privacy_audit.optimiser_watch import Watch
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.training import Learner
from fedcollm_secure.learning.vectors import Float32

HUSHED = 1e-12
"""Scale of a loss whose gradient shall not count: far below the last bit of any noise."""
CANARY_NORM = 100.0
"""Length of a canary's gradient before clipping, in units of C."""


class ChosenBatches:
    """Randomness under which the sampler draws exactly `batches`; noise comes from the operating system as ever."""

    def __init__(self, population: int, batches: Iterable[Sequence[int] | None]) -> None:
        """Tell a draw of `population` indices by its size, 8 bytes each; where a batch is None, chance draws it."""
        self._population, self._batches = population, iter(batches)

    def __call__(self, size: int) -> bytes:
        """Return bytes for one draw, or for one noise."""
        if size != 8 * self._population:
            return os.urandom(size)
        batch = next(self._batches, None)
        if batch is None:
            return os.urandom(size)
        words = np.full(self._population, 2**64 - 1, dtype="<u8")  # never drawn …
        words[list(batch)] = 0  # … and always drawn
        return words.tobytes()


@dataclass(frozen=True, kw_only=True)
class WatchedLearner(Learner):
    """`loudness` scales each record's loss; a record with a coordinate has that coordinate as its gradient instead."""

    watch: Watch = field(repr=False)
    loudness: Sequence[float] = field(repr=False)
    coordinates: Sequence[int | None] = field(repr=False)
    batches: Callable[[int], Iterable[Sequence[int] | None]] | None = field(default=None, repr=False)

    @classmethod
    def of(
        cls,
        learner: Learner,
        watch: Watch,
        *,
        loudness: Sequence[float] | None = None,
        coordinates: Sequence[int | None] | None = None,
        batches: Callable[[int], Iterable[Sequence[int] | None]] | None = None,
    ) -> "WatchedLearner":
        """Take a learner's parts; `batches` says for each round which batches are chosen."""
        count = len(learner.records)
        return cls(
            **{each.name: getattr(learner, each.name) for each in fields(Learner)},
            watch=watch,
            loudness=[1.0] * count if loudness is None else loudness,
            coordinates=[None] * count if coordinates is None else coordinates,
            batches=batches,
        )

    @property
    def population(self) -> int:
        """Return the number of units."""
        return len(self.records if self.subjects is None else self.subjects)

    def update(self, start: Float32, round_number: int) -> Float32:
        """Train as any silo does."""
        if self.batches is not None:
            random = ChosenBatches(self.population, self.batches(round_number))
            return replace(self, random=random, batches=None).update(start, round_number)
        self.watch.begin(self, start, round_number)
        change = super().update(start, round_number)
        self.watch.end(change)
        return change

    def gradient(self, record: int, start: Float32) -> Float32:
        """Return float32[d], one record's gradient as it is before clipping."""
        self.adapter.write(start)
        self.adapter.choose(self.trains(1))
        parts = torch.autograd.grad(self._losses([record])[0], self.adapter.parameters)
        found: Float32 = torch.cat([part.reshape(-1).float().cpu() for part in parts]).numpy()
        return found

    def _losses(self, indices: Sequence[int]) -> Tensor:
        """Return float32[B], one loss a record."""
        self.watch.looked_at(indices)
        values = super()._losses(indices)
        values = values * torch.tensor([self.loudness[index] for index in indices]).to(values)
        coordinates = [self.coordinates[index] for index in indices]
        if all(each is None for each in coordinates):
            return values
        clip_norm = self.plan.clip_norm if self.plan is not None else 1.0
        planted = torch.tensor([each is not None for each in coordinates]).to(values.device)
        directions = directions_of(self.adapter, coordinates).to(values)
        return torch.where(planted, CANARY_NORM * clip_norm * directions, values)


def directions_of(adapter: Adapter, coordinates: Sequence[int | None]) -> Tensor:
    """Return float[B]: for each row the value of its coordinate of the adapter, read through the coordinate's layer.

    A layer that gets the unit vector e_j and of whose output the k-th is taken yields W_kj, with gradient e_k e_jᵀ.
    """
    layers = {f"{name}.weight": layer for name, layer in adapter.model.named_modules() if isinstance(layer, nn.Linear)}
    total, first = torch.zeros(len(coordinates)), 0
    for name, shape in adapter.schema.shapes.items():
        layer, size = layers[name], int(np.prod(shape))
        mine = [(row, c - first) for row, c in enumerate(coordinates) if c is not None and first <= c < first + size]
        first += size
        if not mine:
            continue
        inputs = torch.zeros(len(coordinates), layer.in_features)
        chosen = torch.zeros(len(coordinates), layer.out_features)
        for row, place in mine:
            inputs[row, place % layer.in_features] = 1.0
            chosen[row, place // layer.in_features] = 1.0
        total = total + (layer(inputs.to(layer.weight)) * chosen.to(layer.weight)).sum(dim=1).cpu()
    return total
