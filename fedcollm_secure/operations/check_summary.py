"""What `check` says to a person: what a configuration would do, what it costs in ε, and who could see what."""

from collections.abc import Mapping, Sequence
from typing import cast

from fedcollm_secure.learning.data.inventory_summary import inventory_words
from fedcollm_secure.presentation.epsilon_text import spent

Json = Mapping[str, object]
UNITS = {"record": "one record", "subject": "one person with all records there", "silo": "the whole silo"}
"""What ε protects, by the tag in the configuration."""


def check_words(check: Json) -> str:
    """Say what a configuration would do."""
    models, plan = cast(Mapping[str, str], check["models"]), cast(Mapping[str, Json], check["plan"])
    unit = cast(Json, check["unit"])
    lines = [f"{name}: {what}" for name, what in models.items()]
    lines += _tokenizers(cast(Mapping[str, float], check["tokenizers"]))
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
    lines += _work(cast(Json, check["work"]))
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


def _tokenizers(both: Mapping[str, float]) -> list[str]:
    if not both:
        return []
    line = (
        f"tokenizers: {both['llm']:,} and {both['slm']:,} tokens, {both['shared']:,} of them the same; "
        f"{100 * both['aligned']:.3g} % of the LLM's tokens in auxiliary answers are also the SLM's, and compared there"
    )
    return [line]


def _work(work: Json) -> list[str]:
    if not work:
        return []
    tokens, seconds = cast(Mapping[str, Mapping[str, int]], work["tokens"]), cast(Mapping[str, float], work["seconds"])
    about = "" if work["exact"] else "about "
    lines = ["work of a run, as this machine is now (without masks and log):"]
    for name, each in tokens.items():
        padding = each["padded"] / each["real"]
        lines += [f"  {name}: {about}{each['real']:,} tokens, {padding:.2f} times with padding, {_long(seconds[name])}"]
    lines += [f"  {name}: {_long(value)}" for name, value in seconds.items() if name not in tokens]
    return [
        *lines,
        f"  in all {_long(cast(float, work['seconds_total']))}, and up to {work['peak_mib']:,} MiB of memory",
    ]


def _long(seconds: float) -> str:
    """Say a duration with two digits that count."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.2g} {unit}"
    return f"{seconds:.2g} s"


def _signal(plan: Mapping[str, Json]) -> list[str]:
    if not plan:
        return []
    row = next(iter(plan.values()))
    once, run = f"{row['signal_to_noise']:.2g}", f"{row['signal_to_noise_run']:.2g}"
    lines = [f"noise: signal to noise is at most {once} in {row['release']}, {run} over the run (if all say the same)"]
    return lines + _share(row)


def _share(row: Mapping[str, object]) -> list[str]:
    if "signal_share" not in row:
        return []
    line = f"plan: it has {100 * cast(float, row['signal_share']):.0f} % of the signal that its ε can buy"
    better = cast(Mapping[str, float], row["better_sampling"])
    if not better:
        return [line]
    rate, share = better["rate"], f"{100 * better['share']:.0f} %"
    times = rate / cast(float, row["sampling_rate"])
    return [f"{line}; sampling_rate: {rate:g} would have {share}, for {times:.3g} times the records read"]


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
