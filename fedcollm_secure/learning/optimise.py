"""Optimisers, learning-rate schedules and batch order: the settings that local training and distillation share."""

import math
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import Literal

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

from fedcollm_secure.config.training import Distillation, LocalTraining
from fedcollm_secure.learning.data.partition import shuffled

Schedule = Literal["constant", "linear", "cosine"]


def make_optimizer(
    name: Literal["adamw", "sgd"], parameters: Sequence[nn.Parameter], learning_rate: float, weight_decay: float
) -> Optimizer:
    """Return a fresh optimiser (AdamW: β = 0.9, 0.95 and ε = 1e-8, as the authors' FedMKT tutorial)."""
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=learning_rate, weight_decay=weight_decay)
    return torch.optim.AdamW(parameters, lr=learning_rate, betas=(0.9, 0.95), weight_decay=weight_decay)


def make_schedule(
    optimizer: Optimizer, settings: LocalTraining | Distillation, *, total_steps: int, done: int
) -> LambdaLR:
    """Return the schedule over the whole run's `total_steps`, continued after `done` of them."""
    for group in optimizer.param_groups:
        group.setdefault("initial_lr", group["lr"])

    def factor(step: int) -> float:
        return rate_factor(settings.schedule, settings.warmup_steps, step, total_steps)

    return LambdaLR(optimizer, factor, last_epoch=done - 1 if done else -1)


def rate_factor(schedule: Schedule, warmup: int, step: int, total: int) -> float:
    """Return the share of the learning rate at `step` in [0, total]: linear warm-up, then the schedule."""
    if step < warmup:
        return (step + 1) / warmup
    progress = min(1.0, (step - warmup) / max(1, total - warmup))
    match schedule:
        case "constant":
            return 1.0
        case "linear":
            return 1.0 - progress
        case "cosine":
            return 0.5 * (1.0 + math.cos(math.pi * progress))


def batch_order(count: int, batch_size: int, *, seed: int, purpose: str) -> Iterator[list[int]]:
    """Yield batches without end, a new permutation each epoch; the last batch of an epoch may be short."""
    epoch = 0
    while True:
        order = shuffled(count, seed=seed, purpose=f"{purpose}/epoch {epoch}").tolist()
        yield from (order[start : start + batch_size] for start in range(0, count, batch_size))
        epoch += 1


@contextmanager
def seeded(seed: int, purpose: str, device: torch.device) -> Generator[None]:
    """Let dropout follow from seed and purpose alone until the block ends, whatever was drawn before it."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int.from_bytes(sha256(f"{seed}/{purpose}".encode()).digest()[:8], "big"))
        yield


def save_optimizer(optimizer: Optimizer, path: Path) -> None:
    """Write the state of AdamW or SGD as safetensors, whole or not at all."""
    tensors = {
        f"{index}.{name}": torch.as_tensor(value).contiguous()
        for index, state in optimizer.state_dict()["state"].items()
        for name, value in state.items()
        if value is not None
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    save_file(tensors, partial)
    partial.replace(path)


def load_optimizer(optimizer: Optimizer, path: Path) -> None:
    """Read what `save_optimizer` wrote; a state that does not exist yet leaves the optimiser fresh."""
    if not path.is_file():
        return
    states: dict[int, dict[str, torch.Tensor]] = {}
    for key, tensor in load_file(path).items():
        index, _, name = key.partition(".")
        states.setdefault(int(index), {})[name] = tensor
    optimizer.load_state_dict({"state": states, "param_groups": optimizer.state_dict()["param_groups"]})
