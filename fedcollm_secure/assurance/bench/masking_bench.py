"""Measure the masked sum beside Flower's SecAgg+ and the bare keystream, each case in a process of its own.

    sizes → cases → for each: ours, the keystream, Flower → rows → targets, as ratios of this run

All read the same vectors from one file.
"""

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from fedcollm_secure.assurance.bench.bench_case import Case, Figures, RingBits, Row, System
from fedcollm_secure.assurance.bench.bench_consortium import least_threshold
from fedcollm_secure.assurance.bench.masking_targets import targets
from fedcollm_secure.assurance.bench.measuring_process import Say, printed_by
from fedcollm_secure.assurance.bench.peer_environment import HOW_TO_BUILD, Peer
from fedcollm_secure.errors import ConfigError

SILOS = (3, 10, 30, 100)
PARAMETERS = (294_912, 3_145_728)
DROPOUT_PERCENT = (0, 10)
RINGS: tuple[RingBits, ...] = (64, 32)
LONG_WORDS = 5_000_000_000
"""A case with more words of masks than this, n²·d, takes minutes: only where asked for, and Flower by some silos."""
SAMPLED_SILOS = 5

Json = dict[str, object]


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What to measure: every number of silos with every length and every percentage of silos lost.

    `long_cases`: also those with more than `LONG_WORDS`. `every_silo`: measure all of Flower's silos even there.
    """

    silos: Sequence[int] = SILOS
    parameters: Sequence[int] = PARAMETERS
    dropout_percent: Sequence[int] = DROPOUT_PERCENT
    long_cases: bool = True
    every_silo: bool = False

    def __post_init__(self) -> None:
        """Refuse sizes that can't be measured. Raises: ConfigError."""
        for flag, numbers, least in (("--silos", self.silos, 3), ("--parameters", self.parameters, 1)):
            if not numbers or min(numbers) < least:
                raise ConfigError(flag, f"expected numbers from {least} up, got {list(numbers)}")
        if not self.dropout_percent or not all(0 <= percent <= 100 for percent in self.dropout_percent):
            raise ConfigError("--dropouts", f"expected per cent from 0 to 100, got {list(self.dropout_percent)}")
        for case in self.cases(64):
            if case.silos - case.dropouts < case.threshold:
                raise ConfigError(
                    "--dropouts",
                    f"of {case.silos} silos {case.threshold} must stay to the end, so {case.dropouts} can't be lost",
                )

    def cases(self, ring_bits: RingBits) -> list[Case]:
        """Return the cases, the short ones first; percentages that come to the same number count once."""
        return [
            Case(silos=n, parameters=d, dropouts=lost, threshold=least_threshold(n), ring_bits=ring_bits)
            for d in sorted(self.parameters)
            for n in sorted(self.silos)
            for lost in sorted({n * percent // 100 for percent in self.dropout_percent})
            if self.long_cases or n * n * d <= LONG_WORDS
        ]


def bench(sizes: Sizes, flower: Peer | None, say: Say) -> Json:
    """Return the document: a row for each system and case, none of Flower if it is None. Raises: BenchError."""
    if flower is None:
        say(f"Flower is not installed here, so it is left out: {HOW_TO_BUILD}")
    rows: list[Row] = []
    for row in _rows(sizes, flower):
        say(f"{_label(row)}: {row.figures.total:.3g} s CPU")
        rows.append(row)
    missing = [] if flower else [f"flower: {HOW_TO_BUILD}"]
    return {"rows": [row.as_json() for row in rows], "targets": targets(rows), "missing": missing}


def _rows(sizes: Sizes, flower: Peer | None) -> Iterator[Row]:
    with tempfile.TemporaryDirectory() as folder:
        files = {d: _write_updates(Path(folder), d) for d in sorted(set(sizes.parameters))}
        for case in sizes.cases(64):
            updates = files[case.parameters]
            for ring_bits in RINGS:
                here = replace(case, ring_bits=ring_bits)
                yield Row(system="ours", case=here, figures=_measure_here("ours", here, updates))
                yield Row(system="keystream", case=here, figures=_measure_here("keystream", here, updates))
            if flower:
                there = replace(case, sampled=_sampled(case, sizes.every_silo))
                yield Row(system="flower", case=there, figures=measure_flower(flower, there, updates))


def _sampled(case: Case, every_silo: bool) -> int:
    """Return how many silos stand for all: 0, which is all, unless the masks would take minutes."""
    is_short = case.silos * case.silos * case.parameters <= LONG_WORDS
    return 0 if every_silo or is_short else min(SAMPLED_SILOS, case.silos)


def _write_updates(folder: Path, d: int) -> Path:
    """Write the vectors that all systems add up: float32[2, d] within ±1, as small as an adapter's entries are."""
    path = folder / f"updates-{d}.npy"
    updates = np.random.default_rng(7).normal(0.0, 0.1, (2, d))
    np.save(path, np.clip(updates, -1.0, 1.0).astype(np.float32))
    return path


def _measure_here(system: System, case: Case, updates: Path) -> Figures:
    module = "fedcollm_secure.assurance.bench.masking_worker"
    return _run([sys.executable, "-m", module, system, json.dumps(vars(case)), str(updates)])


def measure_flower(peer: Peer, case: Case, updates: Path) -> Figures:
    """Let the peer measure the case on the vectors in the file. Raises: BenchError with what the peer said."""
    given = {name: value for name, value in vars(case).items() if name != "ring_bits"}
    return _run([str(peer.python), str(peer.script), json.dumps(given | {"updates": str(updates)})])


def _run(command: list[str]) -> Figures:
    return Figures(**json.loads(printed_by(command)))


def _label(row: Row) -> str:
    case, ring = row.case, "" if row.system == "flower" else f", {row.case.ring_bits}-bit ring"
    return f"{row.system}, {case.silos} silos, {case.parameters:,} parameters, {case.dropouts} lost{ring}"
