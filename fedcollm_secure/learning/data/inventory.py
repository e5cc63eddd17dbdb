"""What was read, in numbers: for `check`, before anything is trained. They tell of private data, and stay at home."""

import math
from collections.abc import Mapping, Sequence

from fedcollm_secure.learning.batches import Encoder
from fedcollm_secure.learning.data.holdings import Holdings
from fedcollm_secure.learning.data.overlap import duplicates
from fedcollm_secure.learning.data.tasks import Record

Json = Mapping[str, object]


def inventory(holdings: Holdings, encoder: Encoder) -> Json:
    """Return records, labels, tokens and doubles by part."""
    twice, reading = duplicates(holdings), holdings.reading
    silos = {
        name: {
            **_part(records, encoder),
            "kept_apart": len(holdings.own[name]),
            "duplicates": twice.inside[name],
            "in_test": twice.test_in_silos[name],
            "unknown_labels": reading.strangers[name].count if name in reading.strangers else 0,
        }
        for name, records in holdings.held.items()
    }
    return {
        "read": dict(reading.how),
        "silos": silos,
        "auxiliary": _part(holdings.auxiliary, encoder),
        "test": {**_part(holdings.test, encoder), "in_auxiliary": twice.test_in_auxiliary},
        "most_tokens": encoder.max_length + 1,
        "left_out": dict(reading.left_out),
        "in_several_silos": twice.across,
        "unused": reading.unused,
        "source": reading.total,
    }


def _part(records: Sequence[Record], encoder: Encoder) -> Json:
    lengths = encoder.measure([(record.prompt, record.answer) for record in records])
    tokens = sorted(length for length, _ in lengths)
    one_of = records[0].answers
    classes = len(one_of) > 1 and all(
        record.answers == one_of for record in records
    )  # not a choice of each record's own
    return {
        "records": len(records),
        "labels": len({record.answer for record in records}) if classes else 0,
        "tokens": {"median": _quantile(tokens, 0.5), "p95": _quantile(tokens, 0.95), "longest": tokens[-1]},
        "cut": sum(cut for _, cut in lengths),
    }


def _quantile(ordered: Sequence[int], share: float) -> int:
    """Return the smallest entry that this share of all does not exceed."""
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def notices(holdings: Holdings, *, sampling_rate: float | None) -> list[str]:
    """Return what was left out, names nothing or is too small; `sampling_rate` is that of DP-SGD, None without it."""
    reading = holdings.reading
    found = [
        f"{name}: {strangers.count} records are left out, their label is not in the public data ({strangers.rows}); "
        "data.labels: {unknown: refuse} would stop here, {map: …} mend them"
        for name, strangers in reading.strangers.items()
    ]
    found += [f"{where}: {count} records are left out for an empty cell" for where, count in reading.left_out.items()]
    if reading.idle_values:
        found.append(f"data.silos: no record has {', '.join(map(repr, reading.idle_values))}, which a group names")
    return [*found, *_too_small(holdings, sampling_rate)]


def _too_small(holdings: Holdings, sampling_rate: float | None) -> list[str]:
    """Name silos from which a step of DP-SGD draws less than one record on average."""
    if sampling_rate is None:
        return []
    return [
        f"{name}: of {size} record{'s' if size > 1 else ''} a step draws {size * sampling_rate:.2g} on average: it "
        "adds noise and hardly teaches; raise sampling_rate, or join it with another silo"
        for name, size in holdings.sizes.items()
        if size * sampling_rate < 1
    ]
