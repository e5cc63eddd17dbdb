"""Measure one case in this process, whose peak of memory is then the case's own.

    python -m fedcollm_secure.assurance.bench.masking_worker {ours|keystream} CASE UPDATES → one JSON object on stdout

CASE is the JSON of a `Case`, UPDATES a .npy file, float32[2, d], with entries within ±1.
"""

import json
import sys
from functools import partial
from pathlib import Path

import numpy as np

from fedcollm_secure.assurance.bench import keystream_floor, masked_sum
from fedcollm_secure.assurance.bench.bench_case import Case, Figures
from fedcollm_secure.assurance.bench.repeated_measurement import repeat


def measure(system: str, case: Case, updates: Path) -> Figures:
    """Return the figures of one system. Raises: ValueError for a system that isn't measured here."""
    if system == "ours":
        return repeat(partial(masked_sum.attempt, case, np.load(updates)))
    if system == "keystream":
        return repeat(partial(keystream_floor.attempt, case))
    raise ValueError(f"expected ours or keystream, got {system}")


if __name__ == "__main__":
    _, given_system, given_case, given_updates = sys.argv
    figures = measure(given_system, Case(**json.loads(given_case)), Path(given_updates))
    sys.stdout.write(json.dumps(vars(figures)))
