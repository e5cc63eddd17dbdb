"""How surely a fault is found: the other side of `false_alarms`, by the same distributions.

Most sabotages leave figures that no chance moves (an entry of exactly 0, a record that counts twice, a step too many):
they are found with certainty. The others are found with these probabilities, each by the one check that sees it best.

| fault | found by | probability |
|---|---|---|
| noise scaled by f over n entries | mean square | P(f²·χ²_n/n outside its range) |
| n entries with a tail of probability p | tails | P(Binomial(n, p) outside the range of the normal's) |
| n units, drawn f times too often | sampling of a silo | P(Binomial(n, f·q) outside that of q) |
| the same noise in d entries, or its opposite | same noise twice | P(χ²_d above the range of a product) |
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from scipy.stats import binom, chi2

from fedcollm_secure.assurance.privacy_audit.false_alarms import ALARM, counts, mean_square, product
from fedcollm_secure.assurance.privacy_audit.noise_draws import Table

SURELY = 0.999


def finds_scale(factor: float, entries: int, alarm: float) -> float:
    """Return the probability that noise of `factor` times its deviation leaves the range of the mean square."""
    low, high = mean_square(entries, alarm)
    square = factor**2
    if not square:
        return 1.0 if low > 0 else 0.0
    below, above = (entries * float(end) / square for end in (low, high))
    return float(chi2.cdf(below, entries) + chi2.sf(above, entries))


def finds_tail(probability: float, expected: float, entries: int, alarm: float) -> float:
    """Return the probability that so many entries leave the range of a count of which `expected` is the share."""
    low, high = counts(entries, expected, alarm)
    return float(binom.cdf(low - 1, entries, probability) + binom.sf(high, entries, probability))


def finds_repeat(entries: int, alarm: float, pairs: int) -> float:
    """Return the probability that noise which comes twice, or once with each sign, leaves the range of a product."""
    return float(chi2.sf(product(entries / 2, 0.5, alarm, pairs), entries))


@dataclass(frozen=True, kw_only=True)
class Sight:
    """The largest factor below 1 that is found SURELY: of the noise in a tensor of one round, a step, one entry."""

    tensor: float
    step: float
    entry: float

    @classmethod
    def of(cls, tables: Sequence[Table]) -> "Sight":
        """Take the worst of all tables, cells and tensors."""
        share = ALARM / len(tables)
        return cls(
            tensor=min(_tensor(table, share) for table in tables),
            step=min(_found(table.values.shape[1], share / len(table.draws)) for table in tables),
            entry=min(_found(len(table.draws), share / table.entry_tests) for table in tables),
        )

    def as_json(self) -> Mapping[str, float]:
        """Return a plain map."""
        return {"tensor": round(self.tensor, 4), "step": round(self.step, 4), "entry": round(self.entry, 4)}


def _tensor(table: Table, share: float) -> float:
    tensors = list(table.tensors)
    fewest = min(map(len, table.cells.values())) * min(columns.stop - columns.start for _, columns in tensors)
    return _found(fewest, share / len(table.cells) / len(tensors))


def _found(entries: int, alarm: float) -> float:
    """Return the largest factor below 1 that is found SURELY, to a thousandth; 0 where only its absence is."""
    low, high = 0, 1000
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if finds_scale(middle / 1000, entries, alarm) >= SURELY else (low, middle)
    return low / 1000
