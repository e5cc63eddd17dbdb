"""Is the noise what the plan says, in every place and at every time? `Table`s of it should be standard normal.

| check | what is compared | broken by |
|---|---|---|
| zeros | entries that are exactly 0 | a layer, a step, a silo or an entry without noise |
| noise of a tensor | mean square in each tensor, silo and round | a layer with none, too little or too much |
| noise of a step | mean square in each step | noise that follows the batch's size, or fades |
| noise of a coordinate | mean square of each entry over steps | entries with none or too little |
| sum of a tensor | mean square, over draws, of each tensor's sum | noise that was centred, or has a bias |
| spread over coordinates | how those figures differ from entry to entry | half too little, half too much |
| shape | the empirical distribution, in each silo and round | another distribution of the same variance |
| tails | how many lie beyond 1 … 5 σ | cut or heavy tails |
| same noise twice | the correlation of any two draws, in each tensor | one noise for two rounds, steps or silos |
| steps in a row | the correlation of steps up to five apart, all together | noise that partly takes back the last |
| places | the correlation of entries of one draw, at every distance | one noise in two layers |
| repeats | runs of equal entries, up to sign, anywhere | a buffer that is used again, shifted or negated |
| grain | equal entries in one draw | noise of too few bits |

Each figure is the worst of all cells; each range holds over all of them at `false_alarms.ALARM` (over all
tables together).
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
from scipy.special import ndtr
from scipy.stats import chi2, norm

from fedcollm_secure.assurance.privacy_audit.false_alarms import ALARM, counts, distance, mean_square, most_of, product
from fedcollm_secure.assurance.privacy_audit.mechanism_check import Check
from fedcollm_secure.assurance.privacy_audit.noise_draws import Float64, Table

BEYOND = (1.0, 2.0, 3.0, 4.0, 5.0)
LAGS = 5


def noise_checks(tables: Sequence[Table], alarm: float = ALARM) -> list[Check]:
    """Return every check's worst figure over all tables; each fails by chance with probability `alarm` at most."""
    ways: list[Callable[[Table, float], Iterator[Check]]] = [
        _zeros,
        _tensor,
        _step,
        _coordinate,
        _sum,
        _spread,
        _shape,
        _tails,
        _twice,
        _in_a_row,
        _places,
        _repeats,
        _grain,
    ]
    share = alarm / len(tables)
    found = [[each for table in tables for each in way(table, share)] for way in ways]
    return [replace(_worst(checks), alarm=alarm) for checks in found if checks]


def _worst(checks: Sequence[Check]) -> Check:
    """Return the check that is furthest beyond, or nearest to, an end of its range."""

    def excess(check: Check) -> float:
        if math.isnan(check.measured):
            return math.inf
        width = (check.high - check.low) or 1.0
        return max(check.measured - check.high, check.low - check.measured) / width

    return max(checks, key=excess)


def _zeros(table: Table, alarm: float) -> Iterator[Check]:
    found, high = int((table.raw == 0).sum()), 0
    if table.grain:
        high = counts(table.raw.size, float(2 * norm.cdf(table.grain / 2) - 1), alarm)[1]
    yield Check(name="zeros", measured=found, low=0, high=high, told=f"{found} of {table.raw.size} entries are 0")


def _tensor(table: Table, alarm: float) -> Iterator[Check]:
    cells, tensors = table.cells, list(table.tensors)
    for cell, rows in cells.items():
        for name, columns in tensors:
            part = table.values[rows, columns]
            yield _root(
                "noise of a tensor",
                float(np.mean(part**2)),
                part.size,
                alarm / len(cells) / len(tensors),
                f"the noise of {_short(name)} ({cell}) is {{:.3f}} of what it should be",
            )


def _step(table: Table, alarm: float) -> Iterator[Check]:
    squares = np.mean(table.values**2, axis=1)
    for square, draw in zip(squares, table.draws, strict=True):
        told = f"the noise of step {draw.step} ({draw.silo}, round {draw.round}) is {{:.3f}} of what it should be"
        yield _root("noise of a step", float(square), table.values.shape[1], alarm / len(squares), told)


def _coordinate(table: Table, alarm: float) -> Iterator[Check]:
    for scope, rows in table.scopes.items():
        squares = np.mean(table.values[rows] ** 2, axis=0)
        for square in (squares.min(), squares.max()):
            told = f"the noise of one entry over {len(rows)} draws ({scope}) is {{:.3f}} of what it should be"
            yield _root("noise of a coordinate", float(square), len(rows), alarm / table.entry_tests, told)


def _sum(table: Table, alarm: float) -> Iterator[Check]:
    parts = [("the whole", slice(None)), *table.tensors]
    for name, columns in parts:
        sums = table.values[:, columns].sum(axis=1)
        square = float(np.mean(sums**2)) / table.values[:, columns].shape[1]
        told = f"the sum of all noise in {_short(name)} varies {{:.3f}} times as much as it should"
        yield _root("sum of a tensor", square, len(sums), alarm / len(parts), told)


def _root(name: str, square: float, degrees: int, alarm: float, told: str) -> Check:
    low, high = mean_square(degrees, alarm)
    measured = math.sqrt(square)
    return Check(
        name=name, measured=measured, low=math.sqrt(low), high=math.sqrt(high), told=told.format(measured), alarm=alarm
    )


def _spread(table: Table, alarm: float) -> Iterator[Check]:
    for scope, rows in table.scopes.items():
        sums = np.sum(table.values[rows] ** 2, axis=0)
        far = _distance(np.sort(chi2.cdf(sums, len(rows))))
        high = distance(len(sums), alarm, len(table.scopes)) + _coarse(table)
        told = f"noise over {len(rows)} draws differs between entries by {far:.4f} more than chance does ({scope})"
        yield Check(name="spread over coordinates", measured=far, low=0, high=high, told=told)


def _shape(table: Table, alarm: float) -> Iterator[Check]:
    for scope, rows in table.scopes.items():
        values = table.values[rows].ravel()
        far = _distance(np.sort(ndtr(values)))
        high = distance(len(values), alarm, len(table.scopes)) + _coarse(table)
        told = f"the distribution is {far:.5f} from the normal one ({scope}); kurtosis {_kurtosis(values):.3f}"
        yield Check(name="shape", measured=far, low=0, high=high, told=told)


def _coarse(table: Table) -> float:
    """Bound how far whole numbers, spread evenly over their steps, are from a normal distribution."""
    return table.grain**2 / 24  # |φ'| < 1/4, over an interval of this width: width² / 8 · max |φ'|, and some room


def _kurtosis(values: Float64) -> float:
    squares = values * values
    return float(np.mean(squares * squares) / np.mean(squares) ** 2) if values.any() else math.nan


def _distance(uniform: Float64) -> float:
    """Return Kolmogorov's distance of sorted values from the uniform distribution."""
    ranks = np.arange(len(uniform) + 1) / len(uniform)
    return float(max(np.max(ranks[1:] - uniform), np.max(uniform - ranks[:-1])))


def _tails(table: Table, alarm: float) -> Iterator[Check]:
    sides = [(f"above {beyond:g} σ", beyond, table.values) for beyond in BEYOND]
    sides += [(f"below −{beyond:g} σ", beyond, -table.values) for beyond in BEYOND]
    for name, beyond, values in sides:
        expected = float(norm.sf(beyond))
        low, high = counts(values.size, expected, alarm, len(sides))
        room = 2 * _coarse(table) * values.size
        found, mean = int((values > beyond).sum()), values.size * expected
        told = f"{found} of {values.size} entries lie {name}, where {mean:.0f} are expected"
        yield Check(name="tails", measured=found, low=max(0.0, low - room), high=high + room, told=told)


def _twice(table: Table, alarm: float) -> Iterator[Check]:
    number, tensors = len(table.draws), list(table.tensors)
    pairs = number * (number - 1) // 2
    parts = [("the whole", slice(None)), *tensors] if len(tensors) > 1 else [("the whole", slice(None))]
    for name, columns in parts if pairs else []:
        values = table.values[:, columns]
        width = values.shape[1]
        products = np.abs(np.triu(values @ values.T, 1)) / width
        first, second = np.unravel_index(int(products.argmax()), products.shape)
        found = float(products[first, second])
        one, other = (_when(table, int(row)) for row in (first, second))
        # x·y = Σ (u² − v²) / 2 over independent u and v: d eigenvalues of ½ and d of −½.
        high = product(width / 2, 0.5, alarm, pairs * len(parts)) / width
        told = f"{_short(name)} is correlated by {found:.3f} between {one} and {other}"
        yield Check(name="same noise twice", measured=found, low=0, high=high, told=told)


def _in_a_row(table: Table, alarm: float) -> Iterator[Check]:
    width = table.values.shape[1]
    for lag in range(1, LAGS + 1):
        pairs = [pair for rows in table.cells.values() for pair in zip(rows, rows[lag:], strict=False)]
        if not pairs:
            continue
        found = sum(float(table.values[one] @ table.values[other]) for one, other in pairs) / width / len(pairs)
        # A chain of rows: its matrix has Σλ² = pairs · d / 2 and no eigenvalue above 1.
        high = product(len(pairs) * width / 2, 1.0, alarm, LAGS) / width / len(pairs)
        told = f"steps that are {lag} apart are correlated by {found:.5f}"
        yield Check(name="steps in a row", measured=found, low=-high, high=high, told=told)


def _places(table: Table, alarm: float) -> Iterator[Check]:
    number, width = table.values.shape
    power = np.abs(np.fft.rfft(table.values, axis=1)) ** 2
    products = np.fft.irfft(power.sum(axis=0), n=width)[1 : width // 2 + 1] / width / number
    if not len(products):
        return
    distant = int(np.abs(products).argmax()) + 1
    found = float(products[distant - 1])
    # A rotation by k: eigenvalues cos(2πjk / d), of which Σλ² = d / 2, or d at half a turn.
    high = product(number * width, 1.0, alarm, len(products)) / width / number
    told = f"entries that are {distant} apart are correlated by {found:.5f}"
    yield Check(name="places", measured=found, low=-high, high=high, told=told)


def _repeats(table: Table, alarm: float) -> Iterator[Check]:
    values = np.abs(table.raw).ravel()
    length = math.ceil(math.log(len(values) ** 2 / 2 / alarm) / -math.log(table.twice))
    if len(values) < 2 * length:
        return
    found = _equal_runs(values, length)
    told = f"{found} runs of {length} entries come a second time, up to sign"
    yield Check(name="repeats", measured=found, low=0, high=0, told=told)


def _equal_runs(values: Float64, length: int) -> int:
    """Return how many runs of `length` successive values have stood before."""
    words = values.view(np.uint64)
    runs = len(values) - length + 1
    keys = np.zeros(runs, dtype=np.uint64)
    for place in range(length):
        keys = keys * np.uint64(0x9E3779B97F4A7C15) + (
            words[place : place + runs] ^ (words[place : place + runs] >> np.uint64(29))
        )
    order = np.argsort(keys, kind="stable")
    same = np.flatnonzero(keys[order][1:] == keys[order][:-1])
    one, other = order[same], order[same + 1]
    equal = np.ones(len(same), dtype=bool)
    for place in range(length):
        equal &= values[one + place] == values[other + place]
    return int(equal.sum())


def _grain(table: Table, alarm: float) -> Iterator[Check]:
    if table.grain:
        return
    number, width = table.raw.shape
    ordered = np.sort(np.abs(table.raw), axis=1)
    found = int((ordered[:, 1:] == ordered[:, :-1]).sum())
    high = most_of(number * width * (width - 1) / 2 * table.twice, alarm)
    told = f"{found} entries are equal to another of their draw, where {high} may be"
    yield Check(name="grain", measured=found, low=0, high=high, told=told)


def _when(table: Table, row: int) -> str:
    draw = table.draws[row]
    return f"{draw.silo}, round {draw.round}, step {draw.step}{' again' * draw.again}"


def _short(name: str) -> str:
    return name.removeprefix("base_model.model.").removesuffix(".default.weight")
