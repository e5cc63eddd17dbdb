"""What a silo keeps of an open round, so that a repeated attempt sends the very same integers."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fedcollm_crypto.aggregation import Vector
from fedcollm_secure.learning.vectors import Float32


@dataclass(frozen=True, kw_only=True)
class Kept:
    """The result of a round's training, and what was made of it for each linear pass so far."""

    change: Float32 = field(repr=False)
    vectors: Mapping[int, Vector] = field(repr=False)


class Pending:
    """One file on the silo's own disk: its update in the clear, as long as the round is open."""

    def __init__(self, path: Path) -> None:
        """Take the file's place; nothing is written yet."""
        self._path = path

    def read(self, version: str) -> Kept | None:
        """Return what was kept for this version of the model, None when there is nothing or something else."""
        if not self._path.is_file():
            return None
        with np.load(self._path, allow_pickle=False) as file:
            if str(file["version"]) != version:
                return None
            vectors = {int(name[7:]): np.asarray(file[name], dtype=np.uint64) for name in file if name[:7] == "vector_"}
            return Kept(change=np.asarray(file["change"], dtype=np.float32), vectors=vectors)

    def write(self, version: str, kept: Kept) -> None:
        """Replace what is kept, whole or not at all."""
        partial = self._path.with_suffix(".partial")
        partial.parent.mkdir(parents=True, exist_ok=True)
        vectors = {f"vector_{number}": vector for number, vector in kept.vectors.items()}
        with partial.open("wb") as file:
            partial.chmod(0o600)
            np.savez(file, version=np.array(version), change=kept.change, **vectors)  # type: ignore[arg-type]  # numpy takes the names for allow_pickle
        partial.replace(self._path)

    def forget(self) -> None:
        """Delete the file: the round is closed."""
        self._path.unlink(missing_ok=True)
