"""What `gain` says to a person: gained, lost or cannot tell, and what may be told to others."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

Json = Mapping[str, object]
VERDICTS = {
    "gained": "gained: all of the interval is above 0.",
    "lost": "lost: all of the interval is below 0.",
    "cannot_tell": "cannot tell whether it gained: the interval holds 0.",
}


def gain_words(found: Json, run: Path) -> str:
    """Say what a silo's own evaluation found, and that it stays with the silo."""
    silo, metric = cast(str, found["silo"]), cast(str, found["metric"])
    before, after = (cast(Mapping[str, float], found[side]) for side in ("before", "after"))
    low, high = cast(Sequence[float], found["ci95"])
    lines = [f"{silo} kept {found['records']} records out of training; after round {found['round']}:"]
    lines += [f"  {name:<14} {_score(name, before[name])} before, {_score(name, after[name])} after" for name in before]
    points = f"{100 * cast(float, found['gain']):+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}]"
    lines += [f"{metric}: {found['won']} right after and not before, {found['lost']} before and not after"]
    lines += [f"gain {points} (95 %, paired: Bonett and Price 2012)"]
    lines += [f"{silo} {VERDICTS[cast(str, found['verdict'])]}"]
    unpaid = "no budget paid for it, and it is about the silo's own records" if found["private"] else "it is not noised"
    lines += [f"This figure must stay at home: {unpaid}. To tell others: gain {run} {silo} --release EPSILON,"]
    lines += ["which a run with evaluate.own_epsilon above 0 has set a budget apart for"]
    return "\n".join([*lines, f"Kept in {run / 'silos' / silo / 'gain.json'}"])


def release_words(document: Json, run: Path) -> str:
    """Say what a release tells, and where it lies."""
    said = cast(Mapping[str, str], document["body"])
    silo, kept, alike = said["silo"], _points(said["kept_ci95"]), _points(said["ci95"])
    return "\n".join(
        [
            f"{silo} may tell (ε = {said['epsilon']}, δ = 0, one record added or removed; paid from its ledger):",
            f"  noisy gain {said['noisy_gain']}, noisy count of records {said['noisy_records']}, by {said['metric']}",
            f"  gain a record {100 * float(said['gain_per_record']):+.1f} points; on the kept records {kept}",
            f"  on records like them {alike} (95 %, the mechanism's noise in both)",
            f"{silo} {VERDICTS[said['verdict']]}",
            f"Signed document: {run / 'silos' / silo / 'gain-release.json'}",
            "It protects the records that were scored; those of training, as far as the run's own privacy does.",
        ]
    )


def _score(name: str, value: float) -> str:
    return f"{value:.3f}" if name == "perplexity" else f"{100 * value:.1f} %"


def _points(bounds: str) -> str:
    low, high = (100 * float(bound) for bound in bounds)
    return f"[{low:+.1f}, {high:+.1f}]"
