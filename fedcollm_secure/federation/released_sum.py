"""One sum of a round: its manifest, and what it released. A round takes as many as its rule has linear passes."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto.aggregation import Sum
from fedcollm_crypto.errors import TooFewSilos
from fedcollm_crypto.fixedpoint import FixedPoint
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_secure.federation.run_directory import Aggregate
from fedcollm_secure.learning.factors import Pass, Rule
from fedcollm_secure.learning.vectors import Float32, digest


@dataclass(frozen=True, kw_only=True)
class Released:
    """A sum that is open: over whom, and the mean float64[k]."""

    contributors: frozenset[str]
    total_weight: int
    mean: NDArray[np.float64] = field(repr=False)
    words: bytes = field(repr=False)

    @classmethod
    def read(cls, result: Sum, encoding: FixedPoint) -> "Released":
        """Decode a sum. Raises: ProtocolError."""
        decoded = encoding.decode(result)
        return cls(
            contributors=result.contributors,
            total_weight=decoded.total_weight,
            mean=decoded.mean,
            words=result.total.tobytes(),
        )


def pass_manifest(
    terms: RoundManifest, start: Float32, asked: Pass, *, rule: Rule, encoding: FixedPoint, attempt: int
) -> RoundManifest:
    """Return the manifest of one attempt at a pass; `terms` names the run, and the cohort of the pass."""
    return replace(
        terms,
        round=asked.round,
        attempt=attempt,
        linear_pass=asked.number,
        adapter_hash=digest(start),
        lora_schema_hash=asked.schema_digest(terms.lora_schema_hash),
        quantisation=replace(terms.quantisation, length=encoding.length(rule.length(asked))),
    )


def over(terms: RoundManifest, silos: Collection[str]) -> RoundManifest:
    """Return the terms over exactly these silos; t stays, for it follows from the roster and not from the cohort.

    Raises: TooFewSilos when no sum can come out of so few.
    """
    if len(silos) < terms.floor:
        raise TooFewSilos("the cohort", needed=terms.floor, left=len(silos), dropped={})
    return replace(terms, cohort=tuple(sorted(silos)))


def require_all(released: Released, manifest: RoundManifest) -> Released:
    """Return what a further pass released. Raises: TooFewSilos when it is not over the whole cohort."""
    missing = set(manifest.cohort) - released.contributors
    if manifest.linear_pass and missing:
        reasons = dict.fromkeys(missing, "left between two passes")
        raise TooFewSilos("second pass", needed=len(manifest.cohort), left=len(released.contributors), dropped=reasons)
    return released


def merge(rule: Rule, start: Float32, released: Sequence[Released], asked: Pass) -> Aggregate:
    """Return what the rule makes of all passes, of which `asked` was the last, with the facts for the log."""
    merged = rule.merge(start, [each.mean for each in released], asked)
    words = sha256()
    for each in released:
        words.update(each.words)
    facts = {
        "contributors": sorted(released[0].contributors),
        "total_weight": released[0].total_weight,
        "sum_digest": words.hexdigest(),
        "cut_error": merged.cut_error,
    }
    return Aggregate(round=asked.round, adapter=merged.theta, facts=facts)
