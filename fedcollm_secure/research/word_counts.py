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
from dataclasses import dataclass, field, replace
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
    counts = SiloCounts.summed(prepared).with_public()
    test = prepared.holdings.test
    odds = counts.odds(test)
    right = tuple(int(np.argmax(row)) == record.gold for row, record in zip(odds, test, strict=True))
    return Judged(scores={"accuracy": sum(right) / len(right)}, right=right)


@dataclass(frozen=True, kw_only=True)
class SiloCounts:
    """Counts by cell and label, float64[CELLS, L]: the silos' as they were released, and the server's own."""

    released: Float64 = field(repr=False)
    public: Float64 = field(repr=False)
    shared: frozenset[int]  # cells that all public prompts have

    @classmethod
    def summed(cls, prepared: Prepared) -> "SiloCounts":
        """Sum the silos' counts, with the noise that the job's plan prices, and cut what noise alone may be.

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
        return cls(released=total, public=_counts(holdings.auxiliary, labels, shared, None), shared=shared)

    def with_public(self) -> "SiloCounts":
        """Return the same with the server's own counts added to the silos'."""
        return replace(self, released=self.released + self.public)

    def of(self, records: Sequence[Record]) -> "SiloCounts":
        """Return the counts of these public records in the place of the silos': what nobody's taking part tells."""
        counts = _counts(records, self.public.shape[1], self.shared, None)
        return replace(self, released=counts, public=np.zeros_like(counts))

    def odds(self, records: Sequence[Record]) -> Float64:
        """Return log p(label | words) up to a constant of each record, float64[N, L]: naive Bayes over cells."""
        of_label = self.released.sum(axis=0)
        smoothed = of_label + SMOOTHING * CELLS
        rows: list[Float64] = []
        for record in records:
            words = self.released[_cells(record.prompt, self.shared)] + SMOOTHING  # [cells of the record, L]
            rows.append(np.log(words / smoothed).sum(axis=0) + np.log(of_label + 1))
        return np.array(rows)


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
