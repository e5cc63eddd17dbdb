"""The bench of masked sums as a table: every row, then every target with its ratio."""

from collections.abc import Mapping, Sequence
from typing import cast

Json = Mapping[str, object]

HEADER = (
    "system     ring  silos  parameters  lost   silo CPU ms  server CPU ms  all CPU s  bytes/parameter  "
    "peak MiB (at rest)"
)


def bench_words(document: Json) -> str:
    """Show every row, then every target with its ratio; say what was sampled, and what is missing."""
    rows, found = cast(Sequence[Json], document["rows"]), cast(Sequence[Json], document["targets"])
    lines = [HEADER, *(_row(row) for row in rows)]
    if any(row["sampled"] for row in rows):
        lines += ["* so many silos' masks were measured, and the others' reckoned from them; that sum was not checked"]
    lines += ["", "Targets, as ratios of this run:", *(_target(target) for target in found)]
    lines += [f"not measured: {what}" for what in cast(Sequence[str], document["missing"])]
    return "\n".join(lines)


def _row(row: Json) -> str:
    silo, server = 1000 * cast(float, row["silo_cpu_seconds"]), 1000 * cast(float, row["server_cpu_seconds"])
    total = sum(cast(Mapping[str, float], row["cpu_seconds"]).values())
    ring = "-" if row["system"] == "flower" else row["ring_bits"]
    sampled = f"  *{row['sampled']}" if row["sampled"] else ""
    return (
        f"{row['system']:<9}  {ring:>4}  {row['silos']:>5}  {row['parameters']:>10,}  {row['dropouts']:>4}  "
        f"{silo:>12.1f}  {server:>13.1f}  {total:>9.2f}  {row['bytes_per_parameter']:>15.2f}  "
        f"{row['peak_mib']:>8.0f} ({row['baseline_mib']:.0f}){sampled}"
    )


def _target(target: Json) -> str:
    met = "met   " if target["met"] else "MISSED"
    return (
        f"  {met} {target['ratio']:.2f} of at most {target['limit']:g}: {target['target']} "
        f"(n={target['silos']}, d={target['parameters']:,}, {target['dropouts']} lost, {target['ring_bits']}-bit ring)"
    )
