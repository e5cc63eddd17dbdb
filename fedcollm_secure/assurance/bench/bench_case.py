"""One measurement: what is measured, and the row it comes out as. Both travel between processes as JSON."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

System = Literal["ours", "flower", "keystream"]
RingBits = Literal[32, 64]


@dataclass(frozen=True, kw_only=True)
class Case:
    """n silos with d parameters each, of which `dropouts` are lost after they dealt shares; t and the ring's width.

    `sampled`: how many silos really mask, the others' masks being reckoned from theirs; 0 for all.
    """

    silos: int
    parameters: int
    dropouts: int
    threshold: int
    ring_bits: RingBits
    sampled: int = 0


@dataclass(frozen=True, kw_only=True)
class Figures:
    """What one case took, all parties together in one process.

    `cpu_seconds`: by phase, the total over all parties. `silo_cpu_seconds`: the median of the silos that stayed.
    `bytes_per_parameter`: all that such a silo sent, over d. `peak_mib`: of the process; `baseline_mib` of it was there
    before the first attempt. `repeats`: attempts made; the figures are those of the middle one by CPU time.
    """

    cpu_seconds: Mapping[str, float]
    silo_cpu_seconds: float
    server_cpu_seconds: float
    bytes_per_parameter: float
    peak_mib: float
    baseline_mib: float
    repeats: int

    @property
    def total(self) -> float:
        """Return the CPU seconds of all parties."""
        return sum(self.cpu_seconds.values())


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table."""

    system: System
    case: Case
    figures: Figures

    def as_json(self) -> dict[str, object]:
        """Return the row as the document shows it: flat, the names of `Case` and `Figures` together."""
        return {"bench": "masking", "system": self.system} | vars(self.case) | vars(self.figures)
