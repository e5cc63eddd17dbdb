"""How much slower bfloat16 is than float32 on this processor: without units for it, each product is converted."""

import time

import torch

ROWS, WIDTH = 256, 512
REPEATS = 5
SLOW = 1.5
"""From this many times the time of float32 on, people are told."""


def slowdown_of_bfloat16() -> float:
    """Return the time of a product of matrices in bfloat16 over that in float32, on the CPU; the best of a few."""
    took: list[float] = []
    for dtype in (torch.bfloat16, torch.float32):
        left, right = torch.ones(ROWS, WIDTH, dtype=dtype), torch.ones(WIDTH, WIDTH, dtype=dtype)
        took.append(min(_seconds(left, right) for _ in range(REPEATS)))
    return took[0] / took[1]


def _seconds(left: torch.Tensor, right: torch.Tensor) -> float:
    start = time.perf_counter()
    torch.mm(left, right)
    return time.perf_counter() - start
