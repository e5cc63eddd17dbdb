"""The baseline that could embarrass a language model: the silos' word counts, summed once, at the same ε.

    record ──▶ at most 10 of 4,096 hashed cells: its words, and the first and last four letters of each
    silo   ──▶ counts[cell, label], one Gaussian event  ──▶ a sum over silos, cut at 1.5 σ  ──▶ + the server's own
    server ──▶ naive Bayes over cells

It needs no model, no rounds and no GPU: what the loop does not gain over it, language models did not earn. The sum is
taken in whole numbers, as masks would give it, bit for bit. Classification alone has labels to count by.
"""

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from hashlib import blake2b

import numpy as np
from numpy.typing import NDArray

from fedcollm_privacy.calibrate import noise_multiplier_for
from fedcollm_privacy.noise import gaussian
from fedcollm_privacy.plans import TrainingPlan
from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure.assemble.prepare import Prepared
from fedcollm_secure.config import Config
from fedcollm_secure.config.data import Classification
from fedcollm_secure.config.protection import SiloDP
from fedcollm_secure.learning.data.tasks import Record
from fedcollm_secure.learning.evaluate import Judged

CELLS = 4096
MOST_CELLS = 10  # of one record: its counts are then √10 long at most
AFFIX = 4  # letters
CUT = 1.5  # noised counts below so many σ are taken for none
SMOOTHING = 0.1  # of naive Bayes, in counts
GRID = 1e-3  # of the whole numbers that are summed

Float64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Release:
    """How the counts of all silos leave them: σ of the noise that each adds, and of the noise in their sum."""

    each: float
    total: float

    @classmethod
    def under(cls, plan: TrainingPlan | None, silos: int) -> "Release":
        """Price one Gaussian event at the ε and δ of a training plan; without one nothing is hidden.

        Guarantee: with `each` added by every silo, the sum is (ε, δ)-DP for the plan's unit, one record or one person.
        With noise of its own each silo's counts are; with joint noise the sum is while `plan.honest` silos add theirs.

        """
        if plan is None:
            return cls(each=0.0, total=0.0)
        multiplier = noise_multiplier_for(epsilon=plan.epsilon, delta=plan.delta, sampling_rate=1.0, steps=1)
        sigma = multiplier * math.sqrt(MOST_CELLS)
        each = sigma / math.sqrt(plan.honest) if isinstance(plan, SharedPlan) else sigma
        return cls(each=each, total=each * math.sqrt(silos))


def can_follow(config: Config) -> bool:
    """Return whether a job has labels to count by, and protects a unit whose counts have a bound."""
    return isinstance(config.data.task, Classification) and not isinstance(config.privacy, SiloDP)


def judge(prepared: Prepared) -> Judged:
    """Return which test records naive Bayes over all counts answers right, and their share.

    Raises: ValueError for a job that `can_follow` says no of.
    """
    if not can_follow(prepared.config):
        raise ValueError("word counts answer classifications, and protect records or persons")
    holdings = prepared.holdings
    labels, shared = len(holdings.test[0].answers), _everywhere(holdings.auxiliary)
    release = Release.under(prepared.plan, len(prepared.silos))
    total = np.zeros((CELLS, labels))
    for name in prepared.silos:
        counts = _counts(holdings.silos[name], labels, shared, prepared.subjects(name))
        total += _released(counts, release.each)
    total[total < max(CUT * release.total, GRID)] = 0.0
    total += _counts(holdings.auxiliary, labels, shared, None)
    right = tuple(_answer(record, total, shared) == record.gold for record in holdings.test)
    return Judged(scores={"accuracy": sum(right) / len(right)}, right=right)


def _released(counts: Float64, sigma: float) -> Float64:
    """Return the counts on the grid, with noise."""
    noise = gaussian(counts.shape, sigma).numpy() if sigma else np.zeros_like(counts)
    released: Float64 = np.rint((counts + noise) / GRID) * GRID
    return released


def _counts(
    records: Sequence[Record], labels: int, shared: frozenset[int], subjects: Sequence[Sequence[int]] | None
) -> Float64:
    """Return float64[CELLS, labels]; what one record, or one person, adds is at most √10 long."""
    total = np.zeros((CELLS, labels))
    for unit in [[place] for place in range(len(records))] if subjects is None else subjects:
        own = Counter((cell, records[place].gold) for place in unit for cell in _cells(records[place].prompt, shared))
        length = math.sqrt(sum(count**2 for count in own.values()))
        for place, count in own.items():
            total[place] += count * min(1.0, math.sqrt(MOST_CELLS) / length)
    return total


def _answer(record: Record, counts: Float64, shared: frozenset[int]) -> int:
    of_label = counts.sum(axis=0)
    words = counts[_cells(record.prompt, shared)] + SMOOTHING  # [cells of the record, labels]
    odds = np.log(words / (of_label + SMOOTHING * CELLS)).sum(axis=0) + np.log(of_label + 1)
    return int(np.argmax(odds))


def _everywhere(records: Sequence[Record]) -> frozenset[int]:
    """Return the cells that all public prompts share: the template's own words tell nothing."""
    return frozenset.intersection(*(frozenset(_hashed(record.prompt)) for record in records))


def _cells(prompt: str, shared: frozenset[int]) -> list[int]:
    return [cell for cell in dict.fromkeys(_hashed(prompt)) if cell not in shared][:MOST_CELLS]


def _hashed(text: str) -> Iterator[int]:
    """Yield the cells of a text: all words first, then their beginnings and endings."""
    words = re.findall(r"\w+", text.lower())
    for kind, parts in (("", words), ("^", [w[:AFFIX] for w in words]), ("$", [w[-AFFIX:] for w in words])):
        for part in parts:
            yield int.from_bytes(blake2b(f"{kind}{part}".encode(), digest_size=4).digest(), "big") % CELLS
