"""Where the peers are: an environment of their own, which `make bench-peers` builds beside the checkout's scripts."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ENVIRONMENT = ".venv-peers"
CHECKOUT = Path(__file__).parents[3]
HOW_TO_BUILD = "run `make bench-peers` in a checkout of this project, and `fedcollm-secure bench` in that folder"


@dataclass(frozen=True, kw_only=True)
class Peer:
    """A peer that can be measured: the interpreter that has it, and the script that drives it."""

    python: Path
    script: Path


def find_flower(folders: Sequence[Path]) -> Peer | None:
    """Return Flower's SecAgg+ from the first folder that has both the peers' environment and the script."""
    for folder in folders:
        peer = Peer(python=folder / ENVIRONMENT / "bin" / "python", script=folder / "benchmarks" / "masking_flower.py")
        if peer.python.is_file() and peer.script.is_file():
            return peer
    return None
