"""DP-SGD for what trains of a frozen model, such as LoRA in linear layers, as one committed plan prescribes.

    poisson_sample → losses(indices) float32[B] → per-record gradients → clip to C → Σ
                   → + N(0, (σC)²) from the operating system → ÷ public batch_size → optimizer.step()

Abadi et al. 2016, algorithm 1, with Poisson sampling. An empty batch is a step of pure noise, never skipped: to skip it
would tell that nobody was drawn.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Literal

import torch
from torch import Tensor, nn

from fedcollm_privacy.blocks import ShapeOf, blocks
from fedcollm_privacy.from_opacus import hooked
from fedcollm_privacy.noise import gaussian
from fedcollm_privacy.one_by_one import OneByOne
from fedcollm_privacy.per_record import Source, clipped_sum, couples_records, tapped
from fedcollm_privacy.plan import RecordPlan
from fedcollm_privacy.sampling import poisson_sample
from fedcollm_privacy.subjects import check_subjects

Randomness = Callable[[int], bytes]
Losses = Callable[[Sequence[int]], Tensor]
Gradients = Literal["linear", "opacus", "one_by_one"]
"""How the gradient of a record, or of a person, is had."""

_COUPLING_LAYERS = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm)


def train(
    *,
    model: nn.Module,
    parameters: Sequence[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    plan: RecordPlan,
    population: int,
    losses: Losses,
    subjects: Sequence[Sequence[int]] | None = None,
    microbatch: int | None = None,
    shape_of: ShapeOf | None = None,
    gradients: Gradients = "linear",
    random: Randomness = os.urandom,
    progress: Callable[[int], None] | None = None,
) -> None:
    """Take exactly `plan.steps_per_round` noisy steps on `parameters`, the only trainable ones of `model`.

    `losses(indices)` returns float32[B]: one loss per record, the mean over that record's own tokens, computed from
    that record alone, with records along the first axis of every activation. `population` is the number of records,
    indexed from 0. Under `plan.unit` "subject" it is the number of persons, and `subjects[i]` (see `subjects.py`)
    lists the records of person i: a person is drawn as one, and the mean of their gradients is clipped as one.

    `microbatch` is the number of rows of every forward pass, filled up, of records with one `shape_of` (`blocks.py`);
    None takes all that are drawn at once, and promises nothing about rounding. `gradients` says how a unit's gradient
    is had: of `linear` layers from many records in one pass; by `opacus`, of whatever layers it knows; `one_by_one`, a
    pass and autograd for every unit, where layers have no rows of records (`probe.py`). `progress` is told the number
    of steps taken. The model keeps its train/eval mode, and no hook or gradient stays behind.

    Guarantee: the trained parameters are the output of `plan.round_event()` on the records, for every optimiser that
    reads gradients only, against whoever sees the parameters, provided `random` is secret and `losses` keeps its word,
    with up to 32,768 units in a step. Neither an error nor the number of steps depends on a single record's values;
    time taken does.

    Raises:
        ValueError: parameters, optimiser or model that do not fit together, or a `microbatch` below 1.
        RuntimeError: losses of a wrong shape or that couple records; a parameter without per-record gradient; weights
            that did not move.
    """
    if microbatch is not None and microbatch < 1:
        raise ValueError(f"microbatch must be at least 1 or None, got {microbatch}")
    _check_model(model, parameters, optimizer)
    units = _units(plan, population, subjects)
    before = [parameter.detach().clone() for parameter in parameters]
    with _taps(model, parameters, gradients=gradients) as taps:
        probed = False
        for step in range(1, plan.steps_per_round + 1):
            batch = poisson_sample(population, plan.sampling_rate, random)
            if len(batch) > 1 and not probed:
                _probe([units[unit][0] for unit in batch[:2]], losses, taps)
                probed = True
            drawn = [units[unit] for unit in batch]
            total = _batch_sum(drawn, losses, taps, plan.clip_norm, microbatch, parameters, shape_of)
            _apply(total, parameters, optimizer, plan, random)
            if progress is not None:
                progress(step)
    if all(torch.equal(old, new) for old, new in zip(before, parameters, strict=True)):
        raise RuntimeError(
            "no weight moved in the whole round: does the optimiser hold these parameters, is its learning rate "
            "above 0, and was the model moved to its device before the adapter was attached?"
        )


def gradient_sum(
    *,
    model: nn.Module,
    parameters: Sequence[nn.Parameter],
    clip_norm: float,
    sampling_rate: float,
    population: int,
    losses: Losses,
    subjects: Sequence[Sequence[int]] | None = None,
    microbatch: int | None = None,
    shape_of: ShapeOf | None = None,
    gradients: Gradients = "linear",
    random: Randomness = os.urandom,
) -> Tensor:
    """Return float64[d] = Σ clip(∇) over one Poisson draw of units, without noise and without a step; see `train`.

    Guarantee: none by itself. One unit more changes it by at most `clip_norm`, in 2-norm: the noise is the caller's
    (`shared_plan`), and nothing but a sum of noised vectors may leave.

    Raises: as `train`, but for weights that did not move.
    """
    check_trainable(model, parameters)
    units = _grouped(population, subjects)
    drawn = [units[unit] for unit in poisson_sample(population, sampling_rate, random)]
    with _taps(model, parameters, gradients=gradients) as taps:
        if len(drawn) > 1:
            _probe([records[0] for records in drawn[:2]], losses, taps)
        parts = _batch_sum(drawn, losses, taps, clip_norm, microbatch, parameters, shape_of)
    return torch.cat([part.reshape(-1).cpu() for part in parts])


@contextmanager
def _taps(model: nn.Module, parameters: Sequence[nn.Parameter], *, gradients: Gradients) -> Generator[Source]:
    match gradients:
        case "linear":
            with tapped(linear_layers(model, parameters)) as taps:
                yield taps
        case "opacus":
            with hooked(model, parameters) as source:
                yield source
        case "one_by_one":
            yield OneByOne(parameters=parameters)


def _batch_sum(
    batch: Sequence[Sequence[int]],
    losses: Losses,
    taps: Source,
    clip_norm: float,
    microbatch: int | None,
    parameters: Sequence[nn.Parameter],
    shape_of: ShapeOf | None = None,
) -> list[Tensor]:
    """Return float64 Σ clip(∇) over the units of `batch`, one tensor per parameter; zeros for the empty batch."""
    totals = {id(each): torch.zeros_like(each, dtype=torch.float64) for each in parameters}
    for block in blocks(batch, 1 if isinstance(taps, OneByOne) else microbatch, shape_of):
        values = _losses_of(block.records, losses, taps)
        counted = sum(block.unit_sizes)
        # What fills the block up has a loss without a gradient, so its contribution is zero.
        values = torch.cat([values[:counted], values[counted:].detach()])
        sizes = [*block.unit_sizes, *[1] * (len(values) - counted)]
        parts = clipped_sum(values, taps, clip_norm, unit_sizes=None if max(sizes) == 1 else sizes)
        for parameter, part in parts.items():
            totals[id(parameter)] += part
        taps.clear()
    return [totals[id(each)] for each in parameters]


def _apply(
    total: Sequence[Tensor],
    parameters: Sequence[nn.Parameter],
    optimizer: torch.optim.Optimizer,
    plan: RecordPlan,
    random: Randomness,
) -> None:
    """Add the noise, divide by the public constant, step."""
    std = plan.noise_multiplier * plan.clip_norm
    sizes = [each.numel() for each in parameters]
    noise = torch.split(gaussian((sum(sizes),), std, random), sizes)
    for parameter, clipped, part in zip(parameters, total, noise, strict=True):
        noisy = clipped + part.reshape(clipped.shape).to(clipped.device)
        parameter.grad = (noisy / plan.batch_size).to(parameter.dtype)
    optimizer.step()
    for parameter in parameters:
        parameter.grad = None


def _losses_of(indices: Sequence[int], losses: Losses, taps: Source) -> Tensor:
    taps.clear()
    with torch.enable_grad():
        values = losses(indices)
    if values.shape != (len(indices),) or not values.is_floating_point():
        raise RuntimeError(
            f"losses must return one float per record, float[{len(indices)}], got {values.dtype} {list(values.shape)}: "
            f"the mean over the batch couples records and breaks the clipping bound"
        )
    if not values.requires_grad:
        raise RuntimeError("losses returned a constant: compute them with gradients enabled, through the model")
    return values


def _probe(pair: Sequence[int], losses: Losses, taps: Source) -> None:
    """Run two records once and refuse when the first one's loss depends on the second one's activations."""
    if isinstance(taps, OneByOne):  # nobody shares a pass
        return
    if couples_records(_losses_of(pair, losses, taps), taps):
        raise RuntimeError(
            "the loss of one record depends on another record of the batch: return each record's own loss, "
            "not a mean over the batch (the built-in loss of Hugging Face models is such a mean)"
        )
    taps.clear()


def _units(plan: RecordPlan, population: int, subjects: Sequence[Sequence[int]] | None) -> Sequence[Sequence[int]]:
    """Return the records of each unit."""
    if (subjects is not None) != (plan.unit == "subject"):
        raise ValueError(f"the plan's unit is {plan.unit!r}: subjects must be given for 'subject', and only then")
    return _grouped(population, subjects)


def _grouped(population: int, subjects: Sequence[Sequence[int]] | None) -> Sequence[Sequence[int]]:
    if subjects is None:
        return [(record,) for record in range(population)]
    check_subjects(subjects)
    if len(subjects) != population:
        raise ValueError(f"population must be the number of subjects, {len(subjects)}, got {population}")
    return subjects


def linear_layers(model: nn.Module, parameters: Sequence[nn.Parameter]) -> dict[str, nn.Linear]:
    """Return the plain linear layers that own `parameters`, by name."""
    wanted = {id(each) for each in parameters}
    layers: dict[str, nn.Linear] = {}
    owned: list[int] = []
    for name, module in model.named_modules():
        mine = [id(each) for each in module.parameters(recurse=False) if id(each) in wanted]
        # A subclass may compute something else than x Wᵀ + b; only the plain layer is known.
        if mine and type(module) is not nn.Linear:
            raise ValueError(f"{name} is a {type(module).__name__}: only nn.Linear layers can be trained, freeze it")
        if mine and isinstance(module, nn.Linear):
            layers[name] = module
            owned += mine
    if sorted(owned) != sorted(wanted):
        raise ValueError("parameters must each belong to exactly one nn.Linear of the model")
    return layers


def _check_model(model: nn.Module, parameters: Sequence[nn.Parameter], optimizer: torch.optim.Optimizer) -> None:
    """Refuse a model or optimiser that would train something besides `parameters`, or couple records."""
    check_trainable(model, parameters)
    wanted = {id(each) for each in parameters}
    held = {id(each) for group in optimizer.param_groups for each in group["params"] if each.requires_grad}
    if held != wanted:
        raise ValueError(f"the optimiser holds {len(held)} trainable tensors, expected exactly the {len(wanted)} given")


def check_trainable(model: nn.Module, parameters: Sequence[nn.Parameter]) -> None:
    """Refuse parameters that are not exactly the trainable ones, and layers that mix records. Raises: ValueError."""
    wanted = {id(each) for each in parameters}
    if not wanted or len(wanted) != len(parameters) or not wanted <= {id(each) for each in model.parameters()}:
        raise ValueError("parameters must be distinct, non-empty, and each one of the model's")
    for name, parameter in model.named_parameters():
        if parameter.requires_grad != (id(parameter) in wanted):
            raise ValueError(
                f"{name}: requires_grad is {parameter.requires_grad}; exactly the given parameters must be trainable"
            )
    for name, module in model.named_modules():
        if isinstance(module, _COUPLING_LAYERS):
            raise ValueError(f"{name} is a {type(module).__name__}, which mixes the records of a batch: replace it")
