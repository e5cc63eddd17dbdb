"""Measure the same thing a few times where it is short, and take the middle: CPU time is noisy on a shared machine."""

import re
import resource
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fedcollm_secure.assurance.bench.bench_case import Figures

REPEAT_BELOW_S = 2.0
REPEATS = 3


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What one attempt took; the fields are those of `Figures`."""

    cpu_seconds: Mapping[str, float]
    silo_cpu_seconds: float
    server_cpu_seconds: float
    bytes_per_parameter: float

    @property
    def total(self) -> float:
        """Return the CPU seconds of all parties."""
        return sum(self.cpu_seconds.values())


def repeat(attempt: Callable[[], Attempt]) -> Figures:
    """Run the attempt, thrice if it is short, and return the middle one by CPU time with the peak of memory of all."""
    baseline = peak_mib()
    attempts = [attempt()]
    while attempts[0].total < REPEAT_BELOW_S and len(attempts) < REPEATS:
        attempts.append(attempt())
    middle = sorted(attempts, key=lambda one: one.total)[len(attempts) // 2]
    return Figures(**vars(middle), baseline_mib=baseline, peak_mib=peak_mib(), repeats=len(attempts))


def peak_mib(process: int | str = "self") -> float:
    """Return the largest resident size of this process so far.

    On Linux `getrusage` also counts what the process that started this one held at that moment; `VmHWM` doesn't.
    """
    if (status := Path(f"/proc/{process}/status")).exists():
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0]) / (1 << 10)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)  # macOS: bytes
