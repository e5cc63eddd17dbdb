"""A run with canaries planted in one silo (none where silos are the unit): the product's own path, watched."""

import itertools
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from fedcollm_secure.assemble import Prepared, start
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.batches import Tokens
from fedcollm_secure.learning.training import Learner
from fedcollm_secure.learning.vectors import Float32
from fedcollm_secure.studies.audit.canaries import Canaries, Observation, confidence_of_each
from fedcollm_secure.studies.audit.mechanism import ChosenBatches

COMPANY = 64
"""Records that each silo keeps. Differential privacy grants an attacker all of them, so that they need not be guessed
around; many more would only hide the canaries from an audit that does not use that."""
CANARY_NORM = 100.0
"""Length of a canary's gradient before clipping, in units of C."""


def observations(prepared: Prepared, silo: str, canaries: Canaries, confidence: float) -> list[Observation]:
    """Run the job with the canaries in `silo` and guess at each point, so that all hold together at `confidence`."""
    planted = Planted.of(prepared, silo, canaries)
    before = prepared.server_slm.read()
    planted.run()
    seen = {
        "update": np.stack(planted.updates).sum(axis=0),
        "sum": np.stack(planted.changes()).sum(axis=0),
        "model": prepared.server_slm.read() - before,
    }
    return guessed(planted, canaries, seen, confidence)


def guessed(
    prepared: Prepared, canaries: Canaries, seen: Mapping[str, Float32], confidence: float
) -> list[Observation]:
    """Guess at each point from the change float32[d] that is seen there."""
    delta = prepared.plan.delta if prepared.plan is not None else 0.0
    each = confidence_of_each(confidence, len(seen))
    return [canaries.observe(point, change, delta, each) for point, change in seen.items()]


@dataclass(frozen=True, kw_only=True)
class Planted(Prepared):
    """A prepared run in which one silo's learner holds canaries; it keeps what is seen."""

    silo: str
    canaries: Canaries | None
    empty: str = ""  # a silo that draws nobody
    updates: list[Float32] = field(default_factory=list[Float32], repr=False)
    server: dict[int, list[Float32]] = field(default_factory=dict[int, list[Float32]], repr=False)

    @classmethod
    def of(cls, prepared: Prepared, silo: str, canaries: Canaries | None, *, empty: str = "") -> "Planted":
        """Plant canaries in `silo`, and keep just enough records and one of the test set."""
        holdings = prepared.holdings
        silos = {name: records[:COMPANY] for name, records in holdings.silos.items()}
        parts = {each.name: getattr(prepared, each.name) for each in fields(Prepared)}
        parts["holdings"] = replace(holdings, silos=silos, test=holdings.test[:1])
        return cls(**parts, silo=silo, canaries=canaries, empty=empty)

    def learner(self, silo: str, *, optimizer_file: Path | None = None) -> Learner:
        """Return a silo's training, with canaries where they are planted."""
        honest = super().learner(silo, optimizer_file=optimizer_file)
        if silo == self.empty:
            population = len(honest.records if honest.subjects is None else honest.subjects)
            return replace(honest, random=ChosenBatches(population, itertools.repeat(())))
        if silo != self.silo or self.canaries is None:
            return honest
        given = {each.name: getattr(honest, each.name) for each in fields(Learner)}
        blank = Tokens(prompt=honest.records[0].prompt[:1], answer=honest.records[0].answer[:1])
        own, each, present = len(honest.records), self.canaries.records_each, self.canaries.present
        given["records"] = [*honest.records, *[blank] * (each * len(present))]
        if honest.subjects is not None:
            persons = [range(own + each * number, own + each * (number + 1)) for number in range(len(present))]
            given["subjects"] = [*honest.subjects, *persons]
        coordinates = [coordinate for coordinate in present for _ in range(each)]
        return CanaryLearner(**given, own=own, present=coordinates, updates=self.updates)

    def watch(self, round_number: int, _phase: str) -> None:
        """Keep the server's small model at each phase of a round."""
        self.server.setdefault(round_number, []).append(self.server_slm.read())

    def changes(self) -> list[Float32]:
        """Return what each round's sum changed: the first phase whose model differs comes right after it."""
        found = list[Float32]()
        for _, (before, *phases) in sorted((number, kept) for number, kept in self.server.items() if number > 0):
            after = next((each for each in phases if not np.array_equal(each, before)), before)
            found.append(after - before)
        return found

    def run(self) -> None:
        """Run the whole job in a folder that is thrown away."""
        with tempfile.TemporaryDirectory() as folder:
            job = start(self, Path(folder) / "run", self.watch)
            try:
                for _ in job.rounds():
                    pass
            finally:
                job.close()


@dataclass(frozen=True, kw_only=True)
class CanaryLearner(Learner):
    """A silo's learner whose records from `own` on are canaries', by coordinate; it keeps its updates."""

    own: int
    present: Sequence[int]
    updates: list[Float32] = field(repr=False)

    def update(self, start: Float32, round_number: int) -> Float32:
        """Train as any silo does."""
        change = super().update(start, round_number)
        self.updates.append(change)
        return change

    def _losses(self, indices: Sequence[int]) -> Tensor:
        """Return float32[B]; a canary's loss is its one coordinate times its length, whatever its record says."""
        values = super()._losses(indices)
        planted = torch.tensor([index >= self.own for index in indices])
        if not planted.any():
            return values
        clip_norm = self.plan.clip_norm if self.plan is not None else 1.0
        coordinates = [self.present[index - self.own] if index >= self.own else None for index in indices]
        directions = _directions(self.adapter, coordinates).to(values.device)
        return torch.where(planted.to(values.device), CANARY_NORM * clip_norm * directions, values)


def _directions(adapter: Adapter, coordinates: Sequence[int | None]) -> Tensor:
    """Return float[B]: for each row the value of its coordinate of the adapter, read through the coordinate's layer.

    A layer that gets the unit vector e_j and of whose output the k-th is taken yields W_kj, with gradient e_k e_jᵀ.
    """
    layers = {id(module.weight): module for module in adapter.model.modules() if isinstance(module, nn.Linear)}
    total, first = torch.zeros(len(coordinates)), 0
    for parameter in adapter.parameters:
        layer, size = layers[id(parameter)], parameter.numel()
        mine = [(row, c - first) for row, c in enumerate(coordinates) if c is not None and first <= c < first + size]
        first += size
        if not mine:
            continue
        inputs = torch.zeros(len(coordinates), layer.in_features)
        chosen = torch.zeros(len(coordinates), layer.out_features)
        for row, place in mine:
            inputs[row, place % layer.in_features] = 1.0
            chosen[row, place // layer.in_features] = 1.0
        total = total + (layer(inputs.to(parameter)) * chosen.to(parameter)).sum(dim=1)
    return total
