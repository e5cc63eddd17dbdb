"""What `run` says to a person at its end: what was gained, what it cost, who could see what."""

from collections.abc import Mapping
from pathlib import Path
from typing import cast

from fedcollm_secure.presentation.epsilon_text import spent
from fedcollm_secure.presentation.rate_interval import rate_interval

Json = Mapping[str, object]


def run_words(summary: Json, out: Path) -> str:
    """Say what was gained, what it cost, who could see what, and where the report is."""
    gained = cast(Mapping[str, Json], summary["gained"])
    seconds, traffic = cast(Mapping[str, float], summary["seconds"]), cast(Mapping[str, int], summary["bytes"])
    lines = [f"{summary['rounds_done']} of {summary['rounds_planned']} rounds in {sum(seconds.values()):.0f} s"]
    data = cast(Mapping[str, int], summary.get("data", {}))
    lines += [_gain(name, gain, data.get("test_records", 0)) for name, gain in gained.items()]
    lines += [_whose(data.get("server_records", 0))]
    lines += [_cost(cast(Mapping[str, Json], summary["budget"]))]
    lines += [f"Traffic: {traffic['up'] / 1e6:.2f} MB up, {traffic['down'] / 1e6:.2f} MB down, all silos together"]
    lines += ["Who could see what, beyond the two final models:"]
    lines += [f"  {who}: {what}" for who, what in cast(Mapping[str, str], summary["visible_to"]).items()]
    where = "All silos were simulated in this process. " if summary.get("simulated", True) else ""
    lines += [f"{where}Verify: fedcollm-secure verify {out}"]
    lines += [f"Report: {out / 'report.html'}"]
    return "\n".join(lines)


def _whose(server_records: int) -> str:
    own = f"{server_records:,} " if server_records else ""
    return f"Taught by the silos' records and by the server's own {own}labelled ones; whose gain it is, a study tells"


def _gain(name: str, gain: Json, records: int) -> str:
    first, last, metric = cast(float, gain["from"]), cast(float, gain["to"]), cast(str, gain["metric"])
    if metric == "accuracy":
        points = 100 * (last - first)
        low, high = rate_interval(last, records) if records else (last, last)
        sure = (
            f" (95 % interval {100 * low:.1f} to {100 * high:.1f} % over {records:,} test records)" if records else ""
        )
        return f"{name.upper()}: {100 * first:.1f} % zero-shot → {100 * last:.1f} %, {points:+.1f} points{sure}"
    return f"{name.upper()}: {metric} {first:.3f} zero-shot → {last:.3f}"


def _cost(budget: Mapping[str, Json]) -> str:
    if not budget:
        return "Privacy: no differential privacy; sums and final models can reveal records"
    parts = [f"{silo} {spent(cast(float, row['spent']))} of {row['epsilon']:g}" for silo, row in budget.items()]
    delta = next(iter(budget.values()))["delta"]
    return f"ε spent, of budget: {', '.join(parts)} (δ = {delta:g})"
