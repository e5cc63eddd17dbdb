"""What a comparison and a study share: pieces of work, one process a core, each result kept once it is whole."""

import json
import os
import signal
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing import active_children, get_context
from pathlib import Path
from typing import TypeVar

from fedcollm_secure.errors import RunIncomplete
from fedcollm_secure.learning.models import quiet

Piece = TypeVar("Piece")
Say = Callable[[str], None]


def run_all(pieces: Sequence[Piece], work: Callable[[Piece, Say], None], say: Say) -> None:
    """Run pieces in processes of their own, one thread each: small models gain nothing from two.

    `work` is a function of a module, so that another process finds it. What two pieces both say is said once. Whoever
    stops this process stops the others with it; results that are whole stay, and the next call goes on from there.

    Raises: RunIncomplete where a process was killed; what `work` raises.
    """
    workers = min(len(pieces), os.cpu_count() or 1)
    say = _once(say)
    if workers <= 1:
        for piece in pieces:
            work(piece, say)
        return
    context = get_context("spawn")
    with ProcessPoolExecutor(max_workers=workers, mp_context=context, initializer=_die_at_ctrl_c) as pool:
        waiting = [pool.submit(_run_alone, work, piece) for piece in pieces]
        try:
            for done in as_completed(waiting):
                said, failed = done.result()
                for text in said:
                    say(text)
                if failed is not None:
                    raise failed.error()
        except BaseException as error:
            for child in active_children():
                child.terminate()
            if isinstance(error, BrokenProcessPool):
                raise RunIncomplete(
                    "a worker process was killed, as a machine does that runs out of memory. What was finished is "
                    "kept; the same command goes on"
                ) from error
            raise


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


def _once(say: Say) -> Say:
    """Return `say` without what it was told before."""
    said: set[str] = set()

    def first(text: str) -> None:
        if text not in said:
            said.add(text)
            say(text)

    return first


def _die_at_ctrl_c() -> None:
    """Let Ctrl-C end a worker without a word: the process that began it has one to say."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@dataclass(frozen=True, kw_only=True)
class _Failed:
    """An error on its way between processes: its class may want other arguments than those that it keeps."""

    kind: type[Exception]
    arguments: tuple[object, ...]
    attributes: Mapping[str, object]

    def error(self) -> Exception:
        """Return the error as it was raised."""
        error = self.kind.__new__(self.kind, *self.arguments)
        error.__dict__.update(self.attributes)
        return error


def _run_alone(work: Callable[[Piece, Say], None], piece: Piece) -> tuple[list[str], _Failed | None]:
    """Return what a piece said, and the error that ended it."""
    import torch

    torch.set_num_threads(1)
    quiet()
    said: list[str] = []
    try:
        work(piece, said.append)
    except Exception as error:  # noqa: BLE001 - raised again in the process that waits
        return said, _Failed(kind=type(error), arguments=error.args, attributes=vars(error))
    return said, None
