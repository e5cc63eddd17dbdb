"""What the masked sum set out to reach, as ratios of one run, so that the machine and its load cancel."""

from collections.abc import Sequence

from fedcollm_secure.assurance.bench.bench_case import Case, Row, System

LONG = 3_145_728
BYTES_SLACK = 1.1
"""Signatures and shares come on top of the words: 9 % of 4 bytes at n = 100 and d = 294,912."""


def targets(rows: Sequence[Row]) -> list[dict[str, object]]:
    """Return each target that the rows can speak to: what, the case, the ratio, the limit, whether it is met."""
    found: list[dict[str, object]] = []
    for row in rows:
        if row.system != "ours":
            continue
        found += _against_flower(row, _beside(rows, row, "flower"))
        found += _against_keystream(row, _beside(rows, row, "keystream"))
        width = row.figures.bytes_per_parameter / (row.case.ring_bits // 8)
        if row.case.parameters >= 294_912:
            found.append(_target(row, f"{row.case.ring_bits // 8} bytes a parameter", width, BYTES_SLACK))
    return found


def _against_flower(row: Row, flower: Row | None) -> list[dict[str, object]]:
    if flower is None or row.case.silos not in (10, 100):
        return []
    ratio = row.figures.total / flower.figures.total
    if row.case.silos == 10:
        return [_target(row, "no more CPU than Flower", ratio, 1.0)]
    return [_target(row, "a tenth of Flower's CPU", ratio, 0.1)]


def _against_keystream(row: Row, bare: Row | None) -> list[dict[str, object]]:
    if bare is None or row.case.parameters != LONG:
        return []
    encode = row.figures.cpu_seconds["silo_encode"] / (row.case.silos - row.case.dropouts)
    ratio = (row.figures.silo_cpu_seconds - encode) / bare.figures.silo_cpu_seconds
    return [_target(row, "a silo within twice the bare keystream, encoding apart", ratio, 2.0)]


def _beside(rows: Sequence[Row], row: Row, system: System) -> Row | None:
    """Return another system's row of the same case; Flower has one ring only."""

    def key(case: Case) -> tuple[int, ...]:
        return case.silos, case.parameters, case.dropouts, 0 if system == "flower" else case.ring_bits

    return next((other for other in rows if other.system == system and key(other.case) == key(row.case)), None)


def _target(row: Row, what: str, ratio: float, limit: float) -> dict[str, object]:
    case = row.case
    where: dict[str, object] = {
        "silos": case.silos,
        "parameters": case.parameters,
        "dropouts": case.dropouts,
        "ring_bits": case.ring_bits,
    }
    return {"target": what} | where | {"ratio": ratio, "limit": limit, "met": ratio <= limit}
