"""What the command line says to a person at the end of a command."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from fedcollm_secure.learning.data.words import inventory_words
from fedcollm_secure.studies.epsilons import left, spent

Json = Mapping[str, object]
UNITS = {"record": "one record", "subject": "one person with all records there", "silo": "the whole silo"}
"""What ε protects, by the tag in the configuration."""


def run_words(summary: Json, out: Path) -> str:
    """Say what was gained, what it cost, who could see what, and where the report is."""
    gained = cast(Mapping[str, Json], summary["gained"])
    seconds, traffic = cast(Mapping[str, float], summary["seconds"]), cast(Mapping[str, int], summary["bytes"])
    lines = [f"{summary['rounds_done']} of {summary['rounds_planned']} rounds in {sum(seconds.values()):.0f} s"]
    lines += [_gain(name, gain) for name, gain in gained.items()]
    lines += [_cost(cast(Mapping[str, Json], summary["budget"]))]
    lines += [f"Traffic: {traffic['up'] / 1e6:.2f} MB up, {traffic['down'] / 1e6:.2f} MB down, all silos together"]
    lines += ["Who could see what, beyond the two final models:"]
    lines += [f"  {who}: {what}" for who, what in cast(Mapping[str, str], summary["visible_to"]).items()]
    lines += [f"All silos were simulated in this process. Verify: fedcollm-secure verify {out}"]
    lines += [f"Report: {out / 'report.html'}"]
    return "\n".join(lines)


def check_words(check: Json) -> str:
    """Say what a configuration would do."""
    models, plan = cast(Mapping[str, str], check["models"]), cast(Mapping[str, Json], check["plan"])
    unit = cast(Json, check["unit"])
    lines = [f"{name}: {what}" for name, what in models.items()]
    silos, needed = cast(Sequence[str], check["silos"]), check["needed"]
    lines += [f"silos: {', '.join(silos)}; {needed} of all {len(silos)} must stay to the end of every round"]
    if check["max_single_changes"] is not None:
        lines += [_exceptions(check["max_single_changes"])]
    traffic = f"{cast(int, check['bytes_per_round']) / 1e6:.2f} MB a round, all silos, both ways"
    lines += [
        f"adapter: {check['parameters']:,} parameters travel, {check['bytes_per_parameter']} bytes each; {traffic}"
    ]
    if encryption := cast(Json, check["encryption"]):
        shape = f"{encryption['values_per_slot']} a slot, {encryption['ciphertexts']} ciphertexts a silo"
        kind = f"{encryption['scheme']}, degree {encryption['degree']}, {encryption['security']}"
        lines += [f"encryption: {kind}; {shape}"]
    for silo, row in plan.items():
        after = ", ".join(map(spent, cast(Sequence[float], row["epsilon_per_round"])))
        terms = f"δ = {row['delta']:g}, σ = {row['noise_multiplier']:.3f}"
        lines += [f"{silo}: ε of {UNITS[cast(str, unit['unit'])]} after each round {after} ({terms})"]
    lines += [f"gradients: {check['gradients']}"] if check["gradients"] else []
    lines += _signal(plan)
    lines += _unit(unit)
    lines += _own(cast(Json, check["own"]))
    lines += inventory_words(cast(Json, check["data"]))
    lines += ["who can see what, beyond the two final models:"]
    lines += [f"  {who}: {what}" for who, what in cast(Mapping[str, str], check["visible_to"]).items()]
    warned = [*cast(Sequence[str], cast(Json, check["data"])["warnings"]), *cast(Sequence[str], check["warnings"])]
    lines += [f"warning: {text}" for text in warned]
    return "\n".join(lines)


def _exceptions(count: object) -> str:
    return (
        f"without differential privacy a silo bears with {count} sums that, with those before, give a few silos away, "
        "as when one leaves; at the next it stops (max_single_changes)"
    )


def _signal(plan: Mapping[str, Json]) -> list[str]:
    if not plan:
        return []
    row = next(iter(plan.values()))
    once, run = f"{row['signal_to_noise']:.2g}", f"{row['signal_to_noise_run']:.2g}"
    return [f"noise: signal to noise is at most {once} in {row['release']}, {run} over the run (if all say the same)"]


def _unit(unit: Json) -> list[str]:
    if "silos_per_subject" not in unit:
        return []
    many = unit["silos_per_subject"]
    return [f"a person with records in up to {many} silos: ε = {unit['epsilon']:g}, δ = {unit['delta']:g} in all"]


def _own(own: Json) -> list[str]:
    if not own:
        return []
    kept = f"each silo keeps about {100 * cast(float, own['share']):g} % of its records out of training, for `gain`"
    if not own["epsilon"]:
        return [f"{kept}; what it finds stays at home"]
    return [f"{kept}; telling others may cost ε = {own['epsilon']:g}: its ledger's budget is {own['ledger_epsilon']:g}"]


def budget_words(budget: Json) -> str:
    """Show a ledger by round."""
    used, whole = cast(float, budget["spent"]), cast(float, budget["epsilon"])
    kind = " (simulated)" if budget["simulated"] else ""
    lines = [
        f"{budget['population']}{kind}: ε {spent(used, 3)} of {whole:g} spent, {left(max(0.0, whole - used), 3)} left"
    ]
    lines += [f"δ = {budget['delta']:g}", "round  state     ε after it  left  session"]
    for row in cast(Sequence[Json], budget["rounds"]):
        number = "score" if row["score"] else row["round"]
        after, rest = spent(cast(float, row["epsilon"]), 3), left(cast(float, row["remaining"]), 3)
        lines.append(f"{number:>5}  {row['state']:<8}  {after:>10}  {rest}  {row['session']}")
    return "\n".join(lines)


def _gain(name: str, gain: Json) -> str:
    first, last, metric = cast(float, gain["from"]), cast(float, gain["to"]), cast(str, gain["metric"])
    if metric == "accuracy":
        points = 100 * (last - first)
        return f"{name.upper()}: {100 * first:.1f} % zero-shot → {100 * last:.1f} %, {points:+.1f} points"
    return f"{name.upper()}: {metric} {first:.3f} zero-shot → {last:.3f}"


def _cost(budget: Mapping[str, Json]) -> str:
    if not budget:
        return "Privacy: no differential privacy; sums and final models can reveal records"
    parts = [f"{silo} {spent(cast(float, row['spent']))} of {row['epsilon']:g}" for silo, row in budget.items()]
    delta = next(iter(budget.values()))["delta"]
    return f"ε spent, of budget: {', '.join(parts)} (δ = {delta:g})"


def compare_words(found: Json, out: Path) -> str:
    """Show the comparison as a table with paired gains."""
    lines: list[str] = []
    rows = cast(Sequence[Json], found["rows"])
    for split, model in dict.fromkeys((row["split"], row["model"]) for row in rows):
        lines += [f"{str(model).upper()}, {split} split ({found['metric']})"]
        lines += [
            f"  {row['method']:<12} {_interval(row)}" for row in rows if (row["split"], row["model"]) == (split, model)
        ]
        lines += [
            f"  {row['better']} over {row['than']}: {_interval(row, signed=True)}"
            for row in cast(Sequence[Json], found["gains"])
            if (row["split"], row["model"]) == (split, model)
        ]
        lines += [
            f"  {row['silo']} over its own standalone model: {_interval(row, signed=True)}"
            for row in cast(Sequence[Json], found["silo_gains"])
            if row["split"] == split and model == "slm"
        ]
    lines += [f"Page: {out / 'compare.html'}"]
    return "\n".join(lines)


def _interval(row: Json, *, signed: bool = False) -> str:
    mean, bounds = 100 * cast(float, row["mean"]), cast(Sequence[float] | None, row["ci95"])
    text = f"{mean:+.2f}" if signed else f"{mean:.2f}"
    if bounds is None:
        return f"{text} (one seed)"
    return f"{text} [{100 * bounds[0]:.2f}, {100 * bounds[1]:.2f}], {row['seeds']} seeds"
