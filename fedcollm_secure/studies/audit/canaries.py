"""The one-run audit: a whole run, protocol and all, in which one silo holds canaries.

A canary is a record whose gradient is one coordinate of the adapter, far longer than C before it is clipped. Each is in
the silo's records with probability 1/2; the auditor sees what an observer at one of three points sees:

| point | observer | score of a canary |
|---|---|---|
| update | whoever reads the silo's upload (no masks) | − its coordinate of the silo's updates, summed over rounds |
| sum | the server under masks | − its coordinate of the decoded means |
| model | anyone, after the run | − its coordinate of the small model's whole change, distillation included |
"""

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedcollm_privacy.canaries import Guesses, choose_included, epsilon_lower_bound, guess
from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.assemble import Prepared, start
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.batches import Tokens
from fedcollm_secure.learning.training import Learner
from fedcollm_secure.learning.vectors import Float32

MOST_CANARIES = 4000
COMPANY = 64
"""Records that each silo keeps. Differential privacy grants an attacker all of them, so that they need not be guessed
around; many more would only hide the canaries from an audit that does not use that."""
CANARY_NORM = 100.0
"""Length of a canary's gradient before clipping, in units of C."""
POINTS = ("update", "sum", "model")


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What was guessed at one point, and the largest ε that it refutes at `confidence`."""

    point: str
    guesses: Guesses
    lower_bound: float

    def as_json(self) -> Mapping[str, object]:
        """Return a plain map."""
        made, right = self.guesses.made, self.guesses.right
        return {"point": self.point, "lower_bound": round(self.lower_bound, 4), "guesses": made, "right": right}


@dataclass(frozen=True, kw_only=True)
class Canaries:
    """Which coordinates are canaries, which of them are in, and how many guesses there will be, fixed beforehand."""

    coordinates: NDArray[np.int64]
    included: tuple[bool, ...]
    guesses: int

    @classmethod
    def draw(cls, prepared: Prepared) -> "Canaries":
        """Choose coordinates; toss a secret coin for each; guess "in" for half of those that a round may draw."""
        plan = prepared.plan
        if not isinstance(plan, RecordPlan):
            raise ValueError("canaries: expected a prepared configuration with a plan of DP-SGD in each silo")
        count = min(MOST_CANARIES, prepared.parameters // 2)
        generator = np.random.default_rng(prepared.config.seed)
        coordinates = np.sort(generator.choice(prepared.parameters, count, replace=False))
        ever_drawn = 1 - (1 - plan.sampling_rate) ** (plan.steps_per_round * plan.rounds)
        guesses = max(2, int(count / 2 * ever_drawn / 2) // 2 * 2)
        return cls(coordinates=coordinates, included=choose_included(count), guesses=guesses)

    @property
    def present(self) -> list[int]:
        """Return the coordinates of the canaries that are in."""
        return [int(where) for where, inside in zip(self.coordinates, self.included, strict=True) if inside]

    def observe(self, point: str, seen: Float32, delta: float, confidence: float) -> Observation:
        """Guess from a change of the adapter, float32[d]."""
        scores: list[float] = (-seen[self.coordinates].astype(np.float64)).tolist()
        # A canary that is in may never have been sampled, so a low score says little: all guesses are "in".
        outcome = guess(scores, self.included, guesses=self.guesses, out=0)
        bound = epsilon_lower_bound(outcome, delta=delta, confidence=confidence)
        return Observation(point=point, guesses=outcome, lower_bound=bound)

    def power(self, delta: float, confidence: float) -> float:
        """Return the lower bound if every guess were right: no larger claim can be refuted."""
        perfect = Guesses(canaries=len(self.included), made=self.guesses, right=self.guesses)
        return epsilon_lower_bound(perfect, delta=delta, confidence=confidence)


def observations(prepared: Prepared, silo: str, canaries: Canaries, confidence: float) -> list[Observation]:
    """Run the job with the canaries in `silo` and guess at each point, so that all hold together at `confidence`."""
    planted = Planted.of(prepared, silo, canaries)
    before = prepared.server_slm.read()
    _run(planted)
    seen = {
        "update": np.stack(planted.updates).sum(axis=0),
        "sum": np.stack(planted.means()).sum(axis=0),
        "model": prepared.server_slm.read() - before,
    }
    delta = planted.plan.delta if planted.plan is not None else 0.0
    each = 1 - (1 - confidence) / len(POINTS)
    return [canaries.observe(point, seen[point], delta, each) for point in POINTS]


@dataclass(frozen=True, kw_only=True)
class Planted(Prepared):
    """A prepared run in which one silo's learner holds canaries; it keeps what is seen."""

    silo: str
    canaries: Canaries
    updates: list[Float32] = field(default_factory=list[Float32], repr=False)
    server: dict[int, list[Float32]] = field(default_factory=dict[int, list[Float32]], repr=False)

    @classmethod
    def of(cls, prepared: Prepared, silo: str, canaries: Canaries) -> "Planted":
        """Plant canaries in `silo`, and keep just enough records and one of the test set."""
        holdings = prepared.holdings
        silos = {name: records[:COMPANY] for name, records in holdings.silos.items()}
        parts = {each.name: getattr(prepared, each.name) for each in fields(Prepared)}
        parts["holdings"] = replace(holdings, silos=silos, test=holdings.test[:1])
        return cls(**parts, silo=silo, canaries=canaries)

    def learner(self, silo: str, *, optimizer_file: Path | None = None) -> Learner:
        """Return a silo's training, with canaries where they are planted."""
        honest = super().learner(silo, optimizer_file=optimizer_file)
        if silo != self.silo:
            return honest
        given = {each.name: getattr(honest, each.name) for each in fields(Learner)}
        blank = Tokens(prompt=honest.records[0].prompt[:1], answer=honest.records[0].answer[:1])
        given["records"] = [*honest.records, *[blank] * len(self.canaries.present)]
        return CanaryLearner(**given, own=len(honest.records), present=self.canaries.present, updates=self.updates)

    def watch(self, round_number: int, _phase: str) -> None:
        """Keep the server's small model at each phase of a round."""
        self.server.setdefault(round_number, []).append(self.server_slm.read())

    def means(self) -> list[Float32]:
        """Return the decoded mean of each round: the first phase is before the sum, the second right after it."""
        return [phases[1] - phases[0] for number, phases in self.server.items() if number > 0]


@dataclass(frozen=True, kw_only=True)
class CanaryLearner(Learner):
    """A silo's learner whose records from `own` on are canaries; it keeps its updates."""

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


def _run(planted: Planted) -> None:
    """Run the whole job in a folder that is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        job = start(planted, Path(folder) / "run", planted.watch)
        try:
            for _ in job.rounds():
                pass
        finally:
            job.close()
