"""Watch silos train: what their own optimiser reads at each step, and whether that is all that moves the weights.

    Learner.update → begin → [ losses of a batch … → optimizer.step() → seen ] × steps → end

The gradients are taken where the configured optimiser takes them, by torch's hook on every optimiser's `step`. From
them alone a second optimiser of the audit's own repeats the update. What leaves a silo is then post-processing of the
noisy gradients if, and only if, both ends are equal.
"""

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import cast

import numpy as np
import torch
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from fedcollm_secure.assurance.privacy_audit.noise_draws import Float64
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.training import Learner
from fedcollm_secure.learning.vectors import Float32

_OPTIMIZERS = {"adamw": torch.optim.AdamW, "sgd": torch.optim.SGD}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One step of one silo: which records were looked at before it, and the gradient of each tensor, float32[m]."""

    silo: str
    round: int
    number: int
    looked_at: frozenset[int] = field(repr=False)
    most_at_once: int  # records in one forward pass: a batch that is larger came in several
    gradients: Mapping[str, Float32] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Update:
    """A silo's part of a round. `strayed`: ‖θ − what the gradients alone lead to‖ / ‖Δ‖."""

    silo: str
    round: int
    population: int  # units
    steps: int
    change: Float32 = field(repr=False)
    strayed: float


@dataclass(kw_only=True)
class Watch:
    """What was seen since it was opened. `took` is handed each step as it happens, so that little need be kept."""

    took: Callable[[Step], None] = field(default=lambda _: None, repr=False)
    updates: list[Update] = field(default_factory=list[Update], repr=False)
    read_by_server: list[Float64] = field(default_factory=list[Float64], repr=False)
    _now: "_Training | None" = field(default=None, repr=False)

    @contextmanager
    def opened(self) -> Generator["Watch"]:
        """Hook every optimiser of this process until the block ends."""
        handle = register_optimizer_step_pre_hook(self._stepping)
        try:
            yield self
        finally:
            handle.remove()

    def begin(self, learner: Learner, start: Float32, round_number: int) -> None:
        """Note that a silo begins to train."""
        learner.adapter.write(start)
        learner.adapter.choose(learner.trains(round_number))
        self._now = _Training(learner, start, round_number)

    def looked_at(self, records: Sequence[int]) -> None:
        """Note which records a forward pass is over."""
        if self._now is not None:
            self._now.looked_at |= set(records)
            self._now.most_at_once = max(self._now.most_at_once, len(records))

    def end(self, change: Float32) -> None:
        """Compare what left with what the gradients alone lead to."""
        if (now := self._now) is None:
            return
        self._now = None
        self.updates.append(now.ended(change))

    def _stepping(self, optimizer: Optimizer, _given: tuple[object, ...], _named: Mapping[str, object]) -> None:
        now = self._now
        if now is None:
            held = [each for group in optimizer.param_groups for each in group["params"]]
            if len(held) == 1 and held[0].dtype == torch.float64 and held[0].grad is not None:  # `joint.ServerStep`
                self.read_by_server.append(cast(Float64, held[0].grad.numpy().copy()))
        elif optimizer is not now.shadow:
            self.took(now.step(optimizer))


class _Training:
    """One update under way, and its shadow: the same weights under an optimiser that sees gradients alone."""

    def __init__(self, learner: Learner, start: Float32, number: int) -> None:
        self.learner, self.start, self.round = learner, start, number
        self.looked_at, self.most_at_once, self.steps = set[int](), 0, 0
        names = {id(each): name for name, each in learner.adapter.model.named_parameters()}
        self._tensors = {names[id(each)]: each for each in learner.adapter.parameters}
        self._copies = {name: torch.nn.Parameter(each.detach().clone()) for name, each in self._tensors.items()}
        self.shadow = _OPTIMIZERS[learner.settings.optimizer](list(self._copies.values()))

    def step(self, optimizer: Optimizer) -> Step:
        """Take the shadow's step, and return what the optimiser is about to read."""
        gradients = dict[str, Float32]()
        (group, *_) = optimizer.param_groups
        for name, value in group.items():
            if name != "params":
                self.shadow.param_groups[0][name] = value
        for name, tensor in self._tensors.items():
            gradient = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad.detach().clone()
            self._copies[name].grad = gradient
            gradients[name] = cast(Float32, gradient.float().cpu().numpy().ravel())
        self.shadow.step()
        self.steps += 1
        step = Step(
            silo=self.learner.name,
            round=self.round,
            number=self.steps,
            looked_at=frozenset(self.looked_at),
            most_at_once=self.most_at_once,
            gradients=gradients,
        )
        self.looked_at, self.most_at_once = set(), 0
        return step

    def ended(self, change: Float32) -> Update:
        """Return the update, and how far it is from the shadow's."""
        learner = self.learner
        expected = _flat(learner.adapter, self._copies, self.start) - self.start  # rounded as the silo's own is
        length = float(np.linalg.norm(expected)) or 1.0
        return Update(
            silo=learner.name,
            round=self.round,
            population=len(learner.records if learner.subjects is None else learner.subjects),
            steps=self.steps,
            change=change,
            strayed=float(np.linalg.norm(change - expected)) / length,
        )


def _flat(adapter: Adapter, tensors: Mapping[str, torch.nn.Parameter], start: Float32) -> Float32:
    """Return float32[d]: `start`, with these tensors in their places."""
    found, first = start.copy(), 0
    for name, shape in adapter.schema.shapes.items():
        size = int(np.prod(shape))
        if name in tensors:
            found[first : first + size] = tensors[name].detach().float().cpu().numpy().ravel()
        first += size
    return found
