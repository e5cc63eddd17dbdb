"""Run the measurements of encrypted sums and make rows, targets and words of them; nothing heavy is imported here.

silos × parameters → ours in three modes, NVFlare's and the tutorial's settings, on the same vectors → rows → targets
"""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from fedcollm_secure.assurance.bench.measuring_process import Say, printed_by
from fedcollm_secure.errors import ConfigError

SILOS, PARAMETERS = (4, 10, 100), (294_912, 3_145_728)
LONG = 100_000_000
"""Silos times parameters from here up takes long: only where either is asked for."""
SYSTEMS = ("ours bfv-packed", "ours bfv", "ours ckks", "nvflare", "tutorial")
Json = Mapping[str, object]


def bench_he(silos: Sequence[int] | None, parameters: Sequence[int] | None, say: Say) -> Json:
    """Return the document: a row for each case and system, and the targets. Raises: ConfigError, BenchError."""
    if silos and min(silos) < 3:
        raise ConfigError("--silos", f"expected numbers from 3 up, got {list(silos)}")
    rows: list[Json] = []
    with tempfile.TemporaryDirectory() as folder:
        for d in sorted(parameters or PARAMETERS):
            updates = _write_updates(Path(folder), d)
            for n in sorted(silos or SILOS):
                if silos or parameters or n * d < LONG:
                    rows += _rows(n, d, updates, say)
    return {"rows": rows, "targets": targets(rows), "missing": []}


def targets(rows: Sequence[Json]) -> list[Json]:
    """Return for each case our bytes and CPU time over those of NVFlare's settings, of one run."""
    found: list[Json] = []
    for peer in (row for row in rows if row["system"] == "nvflare"):
        ours = {row["mode"]: row for row in rows if row["system"] == "ours" and _case(row) == _case(peer)}
        for mode, what, number, limit in (
            ("bfv-packed", "a seventh of the bytes, two values a slot", _bytes, 1 / 7),
            ("bfv", "1/3.5 of the bytes, one value a slot", _bytes, 1 / 3.5),
            ("bfv-packed", "a third of the CPU, all parties and checks", _seconds, 1 / 3),
        ):
            ratio = number(ours[mode]) / number(peer)
            case = {"silos": peer["silos"], "parameters": peer["parameters"]}
            found.append({"target": what, **case, "ratio": ratio, "limit": limit, "met": ratio <= limit})
    return found


def he_words(document: Json) -> str:
    """Show every row with its ratio to NVFlare's settings, then every target."""
    rows = cast(Sequence[Json], document["rows"])
    lines = ["system     mode        silos  parameters  all CPU s  of nvflare  bytes/parameter  peak MiB (at rest)"]
    peers = {_case(row): row for row in rows if row["system"] == "nvflare"}
    for row in rows:
        ratio = _seconds(row) / _seconds(peers[_case(row)])
        lines.append(
            f"{row['system']:<9}  {row['mode']:<10}  {row['silos']:>5}  {row['parameters']:>10,}  "
            f"{_seconds(row):>9.2f}  {ratio:>10.2f}  {_bytes(row):>15.2f}  "
            f"{row['peak_mib']:>8.0f} ({row['baseline_mib']:.0f})"
        )
    lines += ["", "Targets, as ratios of this run to NVFlare's settings:"]
    for target in cast(Sequence[Json], document["targets"]):
        met = "met   " if target["met"] else "MISSED"
        lines.append(
            f"  {met} {target['ratio']:.3f} of at most {target['limit']:.3f}: {target['target']} "
            f"(n={target['silos']}, d={target['parameters']:,})"
        )
    return "\n".join(lines)


def _rows(n: int, d: int, updates: Path, say: Say) -> list[Json]:
    rows: list[Json] = []
    for system in SYSTEMS:
        module = "fedcollm_secure.assurance.bench.encryption_worker"
        measured = json.loads(printed_by([sys.executable, "-m", module, system, str(n), str(updates)]).splitlines()[-1])
        name, _, mode = system.partition(" ")
        case = {"bench": "he", "system": name, "mode": mode or "ckks", "silos": n, "parameters": d, "dropouts": 0}
        rows.append(case | measured)
        say(f"{system}, {n} silos, {d:,} parameters: {_seconds(rows[-1]):.3g} s CPU")
    return rows


def _write_updates(folder: Path, d: int) -> Path:
    """Write the vectors that all systems add up: float32[2, d] within ±1, as small as an adapter's entries are."""
    path = folder / f"updates-{d}.npy"
    np.save(path, np.clip(np.random.default_rng(7).normal(0.0, 0.1, (2, d)), -1.0, 1.0).astype(np.float32))
    return path


def _case(row: Json) -> tuple[object, object]:
    return row["silos"], row["parameters"]


def _seconds(row: Json) -> float:
    return sum(cast(Mapping[str, float], row["cpu_seconds"]).values())


def _bytes(row: Json) -> float:
    return cast(float, row["bytes_per_parameter"])
