"""Held-out records: what a silo keeps out of training, to score the adapter for itself.

    kept ⇔ the first 64 bits of SHA-256("fedcollm/v1/own-evaluation" ‖ 0 ‖ [seed, kind, text…]) < share · 2⁶⁴

The text is the record's prompt and right answer, or its person's name where persons are the unit of privacy.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence

from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.data.tasks import Record

_LABEL = b"fedcollm/v1/own-evaluation\0"


def is_kept(record: Record, *, share: float, seed: int) -> bool:
    """Say whether a silo keeps this record out of training.

    Guarantee: the answer follows from `seed` and this record (or its person) alone, never from its place among others.
    One record more in a silo is one more in training or one more apart, and moves no other: what is stated for
    neighbours that differ in a record of the silo holds for its training, too. A person is wholly on one side, in every
    silo. A split by position or by count would break both: one record could move many.
    """
    named = ("record", record.prompt, record.answer) if record.subject is None else ("subject", record.subject)
    text = json.dumps([seed, *named], separators=(",", ":"))
    drawn = int.from_bytes(hashlib.sha256(_LABEL + text.encode()).digest()[:8], "big")
    return drawn < share * 2**64


def set_apart(
    silos: Mapping[str, Sequence[Record]], *, share: float, seed: int
) -> tuple[dict[str, Sequence[Record]], dict[str, Sequence[Record]]]:
    """Return what each silo trains on, and what it keeps apart, in their order.

    Raises:
        ConfigError: a silo would have nothing to train on, or nothing to score.
    """
    if share == 0:
        return dict(silos), {name: [] for name in silos}
    kept = {name: [r for r in records if is_kept(r, share=share, seed=seed)] for name, records in silos.items()}
    rest = {name: [r for r in records if not is_kept(r, share=share, seed=seed)] for name, records in silos.items()}
    for part, what in ((rest, "train on"), (kept, "score")):
        empty = [name for name, records in part.items() if not records]
        if empty:
            raise ConfigError(
                "evaluate.own",
                f"expected records on both sides in each silo, got none to {what} in {', '.join(empty)}: a share of "
                f"{share:g} leaves too few. Change the share, or 0 to keep none apart",
            )
    return {**rest}, {**kept}
