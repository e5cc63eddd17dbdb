"""A run's folder: written so that a crash at any point leaves something that can be read, verified and resumed.

    config.yaml  summary.json  metrics.jsonl  adapters/{slm,llm}/  audit/  silos/NAME/  report.html

`adapters/` is always the last complete round, swapped in whole, with `state.json` saying which. `aggregate.npz` exists
only between a round's sum and its end: a run that dies there goes on from the sum and asks no silo twice.
"""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto import canonical, durable
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.names import check_name
from fedcollm_secure.errors import NotStarted, RunError
from fedcollm_secure.federation.kept_file import keep_as, restore

Json = Mapping[str, object]
SERVER_OPTIMIZERS = ("llm.safetensors", "slm.safetensors", "joint.safetensors")
"""What `optimizer_state: kept` and the joint step leave in `server/`."""


@dataclass(frozen=True, kw_only=True)
class Aggregate:
    """The sum of a round that did not end: float32[d] = θ_t + mean, and the facts that the log will state.

    `is_average` is False where there is no sum, or a gate threw it away: then `adapter` is θ_t, to go on from.
    """

    round: int
    adapter: NDArray[np.float32]
    facts: Json
    is_average: bool = True


class RunDirectory:
    """The files of one run."""

    def __init__(self, path: Path) -> None:
        """Take a folder that `create` made or that holds an earlier run."""
        self.path = path

    @classmethod
    def create(cls, path: Path, config: str) -> "RunDirectory":
        """Make the folder with the resolved configuration in it.

        Raises:
            NotStarted: something is there already; a run is never written over.
        """
        if path.exists() and any(path.iterdir()):
            raise NotStarted(f"{path} is not empty; choose another --out, or go on with --resume")
        durable.make_folder(path)
        run = cls(path)
        run.write_text("config.yaml", config)
        return run

    @property
    def adapters(self) -> Path:
        """Return the folder with `slm/`, `llm/` and `state.json` of the last complete round."""
        return self.path / "adapters"

    @property
    def audit(self) -> Path:
        """Return the consortium log's folder."""
        return self.path / "audit"

    @property
    def archive(self) -> Path:
        """Return where transcripts are kept, if they are."""
        return self.path / "archive"

    def save_manifest(self, name: str, manifest: RoundManifest) -> None:
        """Keep an attempt's manifest beside the log, which vouches for it."""
        folder = self.audit / "manifests"
        durable.make_folder(folder)
        durable.replace(folder / f"{name}.json", canonical.encode(manifest.to_body()))

    def save_statement(self, statement_digest: str, statement: bytes) -> None:
        """Keep what the decryptor signed beside the log, which names it by its digest."""
        folder = self.audit / "statements"
        durable.make_folder(folder)
        durable.replace(folder / f"{statement_digest}.json", statement)

    def save_environment(self, text: str) -> str:
        """Keep the list of what is installed beside the log; return the digest that names it."""
        name = sha256(text.encode()).hexdigest()
        folder = self.audit / "environments"
        durable.make_folder(folder)
        durable.replace(folder / f"{name}.txt", text.encode())
        return name

    def save_proof(self, proof_digest: str, proof: bytes) -> None:
        """Keep the proof that a silo dealt bad shares beside the log, which names it by its digest."""
        folder = self.audit / "proofs"
        durable.make_folder(folder)
        durable.replace(folder / f"{proof_digest}.json", proof)

    def silo(self, name: str) -> Path:
        """Return what a simulated silo keeps to itself. Raises: ValueError for a name that is no folder's."""
        check_name(name)
        return self.path / "silos" / name

    def write_text(self, name: str, text: str) -> None:
        """Write a file whole or not at all, and durably."""
        durable.replace(self.path / name, text.encode())

    def write_json(self, name: str, value: Json) -> None:
        """Write a JSON document (see `write_text`)."""
        self.write_text(name, json.dumps(value, indent=2, ensure_ascii=False) + "\n")

    def summary(self) -> Json:
        """Return summary.json, empty where there is none; it names the log's head (`log`) once the run is sealed."""
        path = self.path / "summary.json"
        return cast(Json, json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}

    def metrics(self) -> list[Json]:
        """Return the rounds' lines; a line that a crash tore is left out."""
        path = self.path / "metrics.jsonl"
        if not path.is_file():
            return []
        whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
        return [cast(Json, json.loads(line)) for line in whole.splitlines()]

    def append_metrics(self, line: Json) -> None:
        """Add a round's line; a torn or repeated one is replaced."""
        lines = [old for old in self.metrics() if old["round"] != line["round"]]
        self.write_text("metrics.jsonl", "".join(json.dumps(entry) + "\n" for entry in (*lines, line)))

    def save_reference(self, adapter: NDArray[np.float32]) -> None:
        """Keep, beside the next state of `adapters/`, what its small adapter was distilled from."""
        np.save(self._next / "reference.npy", adapter)

    def reference(self) -> NDArray[np.float32]:
        """Return what the present small adapter was distilled from, float32[d]; empty where nothing was kept."""
        path = self.adapters / "reference.npy"
        return np.load(path, allow_pickle=False) if path.is_file() else np.zeros(0, dtype=np.float32)

    @property
    def holds_a_round(self) -> bool:
        """Return whether at least round 0 was kept, or sealed before a crash."""
        return _state(self.adapters) is not None or (self._next.exists() and _sealed_round(self._next) is not None)

    def clear(self) -> None:
        """Take away what a run leaves that died before it kept a round; what is not a run's own stays."""
        for name in ("adapters", ".adapters.next", "archive", "audit", "server", "silos"):
            if (self.path / name).exists():
                shutil.rmtree(self.path / name)
        # The last says that this is a run.
        for name in ("metrics.jsonl", "report.html", "summary.json", "plan.yaml", "config.yaml"):
            (self.path / f".{name}.partial").unlink(missing_ok=True)
            (self.path / name).unlink(missing_ok=True)

    def begin_adapters(self) -> Path:
        """Return an empty folder for the next state of `adapters/`."""
        shutil.rmtree(self._next, ignore_errors=True)
        durable.make_folder(self._next, new=True)
        return self._next

    def seal_adapters(self, state: Json) -> None:
        """Say that the folder of `begin_adapters` is complete, and what it is the state of, optimisers and all."""
        for name in SERVER_OPTIMIZERS:
            keep_as(self.path / "server" / name, self._next / name)
        durable.sync_files(self._next)
        durable.replace(self._next / "state.json", json.dumps(state).encode())

    def swap_adapters(self) -> None:
        """Put the sealed folder in the place of `adapters/`."""
        old = self.path / ".adapters.old"
        shutil.rmtree(old, ignore_errors=True)
        if self.adapters.exists():
            durable.move(self.adapters, old)
        durable.move(self._next, self.adapters)
        durable.sync_folder(self.path)
        shutil.rmtree(old, ignore_errors=True)

    def settle(self, last_closed: int) -> Json:
        """Finish or undo what a crash interrupted; return the state of the last complete round.

        `last_closed` is the last round that the log closed (0: none). A sealed folder of that round takes its place;
        any other unfinished one goes, and its round begins again from its kept sum.

        Raises:
            RunError: the run died before round 0 was written.
        """
        for partial in self.path.glob(".*.partial"):  # which a read-only disk did not let go
            partial.unlink()
        if self.adapters.exists():  # else the crash was between the two renames of a swap
            shutil.rmtree(self.path / ".adapters.old", ignore_errors=True)
        if self._next.exists():
            if _sealed_round(self._next) == last_closed:
                self.swap_adapters()
            else:
                shutil.rmtree(self._next)
        state = _state(self.adapters)
        if state is None:
            raise RunError(f"{self.path} holds no complete round to resume from; run again with another --out")
        self.append_metrics(cast(Json, state["line"]))
        summed = (self.path / "aggregate.npz").is_file()  # with it the joint step is taken, and belongs to it
        for name in SERVER_OPTIMIZERS[: 2 if summed else 3]:
            restore(self.path / "server" / name, self.adapters / name)
        return state

    @property
    def _next(self) -> Path:
        return self.path / ".adapters.next"

    def save_aggregate(self, aggregate: Aggregate) -> None:
        """Keep a round's sum until the round ends."""
        with durable.replacing(self.path / "aggregate.npz") as file:
            np.savez(file, round=aggregate.round, adapter=aggregate.adapter, facts=json.dumps(aggregate.facts))

    def aggregate(self, round_number: int) -> Aggregate | None:
        """Return the kept sum of this round, if there is one."""
        path = self.path / "aggregate.npz"
        if not path.is_file():
            return None
        with np.load(path, allow_pickle=False) as kept:
            if int(kept["round"]) != round_number:
                return None
            facts = cast(Json, json.loads(str(kept["facts"])))
            return Aggregate(round=round_number, adapter=kept["adapter"].astype(np.float32), facts=facts)

    def drop_aggregate(self) -> None:
        """Forget the kept sum: the round ended."""
        (self.path / "aggregate.npz").unlink(missing_ok=True)


def _state(folder: Path) -> Json | None:
    path = folder / "state.json"
    return cast(Json, json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else None


def _sealed_round(folder: Path) -> int | None:
    try:
        state = _state(folder)
    except ValueError:  # torn while it was sealed
        return None
    return cast(int, state["round"]) if state else None
