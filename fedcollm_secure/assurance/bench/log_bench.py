"""Measure the consortium log: append, prove and verify, at sizes that show how the cost grows.

    sizes → for each: a log of that many entries → append a few more → sign → prove and check → verify all → row

Appending is measured at the end of the log, durably: most of its wall time is the disk's, and is given apart.
"""

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from fedcollm_crypto.keys import Identity
from fedcollm_crypto.merkle import leaf_hash, verify_consistency, verify_inclusion
from fedcollm_secure.audit_log.events import Event, PartyDropped, RoundStarted, RunStarted
from fedcollm_secure.audit_log.log import LOG_NAME, AuditLog, read_log
from fedcollm_secure.audit_log.log_entry import GENESIS, write_line
from fedcollm_secure.audit_log.run_verification import verify_log
from fedcollm_secure.errors import ConfigError

ENTRIES = (1_000, 10_000, 100_000)
APPENDED, PROVEN = 100, 500
TIME = "2026-01-31T12:00:00Z"
ORIGIN = "fedcollm-secure/bench"

Json = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class LogFigures:
    """What a log of `entries` entries took: CPU time by phase, in all or for one, and what the disk added.

    `append_ms` is wall time and includes the disk's; a proof is made and checked, one of each kind.
    """

    entries: int
    bytes_per_entry: float
    append_cpu_us: float
    append_ms: float
    sign_cpu_us: float
    proof_cpu_us: float
    proof_hashes: int
    verify_cpu_s: float

    def as_json(self) -> Json:
        """Return the row of `bench --json`."""
        seconds = {"append": self.append_cpu_us / 1e6, "prove": self.proof_cpu_us / 1e6, "verify": self.verify_cpu_s}
        return {"bench": "log", "system": "ours", "cpu_seconds": seconds, **vars(self)}


def bench_log(sizes: Sequence[int], say: Callable[[str], None]) -> list[Json]:
    """Return a row a size. Raises: ConfigError for a size that leaves nothing to measure."""
    if not sizes or min(sizes) < 2 * APPENDED:
        raise ConfigError("--entries", f"expected numbers from {2 * APPENDED} up, got {list(sizes)}")
    rows: list[Json] = []
    for size in sorted(sizes):
        rows.append(measure(size).as_json())
        say(f"log of {size:,} entries: verified in {rows[-1]['verify_cpu_s']:.3g} s CPU")
    return rows


def measure(size: int) -> LogFigures:
    """Measure a log that ends with `size` entries."""
    with tempfile.TemporaryDirectory() as name:
        folder, keeper = Path(name) / "audit", Identity.generate("server")
        AuditLog.create(folder, keeper, ORIGIN).close()
        (folder / LOG_NAME).write_bytes(_lines(size - APPENDED))
        log = AuditLog.open(folder, keeper, ORIGIN)
        append_cpu, append_wall = _timed(lambda: _append(log, size))
        sign_cpu, _ = _timed(log.checkpoint)
        proof_cpu, hashes = _prove(folder, size)
        verify_cpu, _ = _timed(lambda: verify_log(folder / LOG_NAME))
        return LogFigures(
            entries=size,
            bytes_per_entry=(folder / LOG_NAME).stat().st_size / size,
            append_cpu_us=1e6 * append_cpu / APPENDED,
            append_ms=1e3 * append_wall / APPENDED,
            sign_cpu_us=1e6 * sign_cpu,
            proof_cpu_us=1e6 * proof_cpu / PROVEN,
            proof_hashes=hashes,
            verify_cpu_s=verify_cpu,
        )


def _append(log: AuditLog, size: int) -> None:
    for index in range(size - APPENDED, size):
        log.append(_event(index))


def _prove(folder: Path, size: int) -> tuple[float, int]:
    """Prove and check entries and pasts all over the log; return CPU seconds and the longest proof."""
    contents = read_log(folder / LOG_NAME)
    tree, root = contents.tree, contents.tree.root()
    longest = 0

    def prove() -> None:
        nonlocal longest
        for number in range(PROVEN):
            place = number * (size - 1) // PROVEN + 1
            path = tree.inclusion_proof(place, size)
            verify_inclusion(contents.entries[place].leaf, place, size, path, root)
            grown = tree.consistency_proof(place, size)
            verify_consistency(place, tree.root(place), size, root, grown)
            longest = max(longest, len(path), len(grown))

    cpu, _ = _timed(prove)
    return cpu, longest


def _lines(count: int) -> bytes:
    previous, lines = GENESIS, bytearray()
    for index in range(count):
        line = write_line(_event(index), index=index, previous=previous, time=TIME)
        previous = leaf_hash(line)
        lines += line + b"\n"
    return bytes(lines)


def _event(index: int) -> Event:
    digest = "ab" * 32
    if index > 1:
        return PartyDropped(round=1, party="north", reason_code="left_the_round")
    if index:
        return RoundStarted(
            round=1,
            attempt=1,
            cohort=("north", "south"),
            adapter_digest=digest,
            plan_digest=digest,
            manifest_digest=digest,
        )
    return RunStarted(
        run_id="bench",
        config_digest=digest,
        software={},
        roster_digest=digest,
        aggregation="masked",
        privacy="non_private",
        models={},
        environment_digest="00" * 32,
        simulated=True,
    )


def _timed(work: Callable[[], object]) -> tuple[float, float]:
    """Return CPU and wall seconds."""
    cpu, wall = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - cpu, time.perf_counter() - wall


def log_words(rows: Sequence[Mapping[str, object]]) -> str:
    """Show the rows to a person."""
    head = "entries    bytes/entry  append CPU us  with disk ms  sign CPU us  two proofs us  hashes  verify all CPU s"
    return "\n".join([head, *map(_row, rows)])


def _row(row: Mapping[str, object]) -> str:
    return (
        f"{row['entries']:>7,}  {row['bytes_per_entry']:>12.0f}  {row['append_cpu_us']:>13.0f}  "
        f"{row['append_ms']:>12.2f}  {row['sign_cpu_us']:>11.0f}  {row['proof_cpu_us']:>13.0f}  "
        f"{row['proof_hashes']:>6}  {row['verify_cpu_s']:>16.2f}"
    )
