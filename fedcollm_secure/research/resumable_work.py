"""What a comparison and a study share: pieces of work, one process a core, each result kept once it is whole."""

import json
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

from fedcollm_secure.learning.models import quiet

Piece = TypeVar("Piece")
Say = Callable[[str], None]


def run_all(pieces: Sequence[Piece], work: Callable[[Piece, Say], None], say: Say) -> None:
    """Run pieces in processes of their own, one thread each: small models gain nothing from two.

    `work` is a function of a module, so that another process finds it.
    """
    workers = min(len(pieces), os.cpu_count() or 1)
    if workers <= 1:
        for piece in pieces:
            work(piece, say)
        return
    with ProcessPoolExecutor(max_workers=workers, mp_context=get_context("spawn")) as pool:
        waiting = [pool.submit(_run_alone, work, piece) for piece in pieces]
        for done in as_completed(waiting):
            for text in done.result():
                say(text)


def write_result(path: Path, result: Mapping[str, object]) -> None:
    """Write one result, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(result), encoding="utf-8")
    partial.replace(path)


def fresh(path: Path) -> Path:
    """Return a path that is free: this one, or with a number where an interrupted run was left behind."""
    number = 0
    while (candidate := path.with_name(f"{path.name}-{number}") if number else path).exists():
        number += 1
    return candidate


def _run_alone(work: Callable[[Piece, Say], None], piece: Piece) -> list[str]:
    import torch

    torch.set_num_threads(1)
    quiet()
    said: list[str] = []
    work(piece, said.append)
    return said
