"""Which silos a set of open sums gives away: exact linear algebra over the rationals, and nothing else.

Each open sum is a row of zeros and ones, one column a silo. Whoever has the sums has every combination of them. A
combination w that is zero outside a few silos is a statement about those few alone. With N a basis of the row space's
orthogonal complement, one row of N for each column,

    w is a combination of the sums   ⟺   Σ_i w_i N_i = 0

so the smallest combinations are the smallest linearly dependent sets of rows of N (the circuits of its matroid). Silos
that stand in exactly the same sums have equal columns; they are counted, and handled as one.
"""

from collections.abc import Iterator, Sequence
from fractions import Fraction
from functools import lru_cache

from fedcollm_crypto.aggregation import PartyId

Silos = frozenset[PartyId]
_Vector = tuple[Fraction, ...]

MAX_STEPS = 20_000
"""Sets that are looked at in one search; where that is not enough, the answer is the careful one."""

MAX_SETS = 40
"""Different sets of silos whose sums are held together: elimination over more would take minutes, and a server that
names sums that never were could have a silo do it. Beyond, the answer is the careful one."""


@lru_cache(maxsize=4096)
def exposes(earlier: frozenset[Silos], new: Silos, fewest: int, in_league: Silos = frozenset()) -> bool:
    """Say whether some combination, in which the `new` sum takes part, is over fewer than `fewest` silos.

    Also True for more than `MAX_SETS` sets, and where the search would take more than `MAX_STEPS` steps. `earlier` are
    the sets of the sums before it.
    Combinations over none but silos `in_league` tell nothing: those have shown that they work with the server.
    """
    rows = sorted({*earlier, new}, key=sorted)
    if len(rows) > MAX_SETS:
        return True
    classes = _classes(rows)
    everything = [_row(row, classes) for row in rows]
    before = [_row(row, classes) for row in sorted(earlier, key=sorted)]
    complement, old = _complement(everything, len(classes)), _complement(before, len(classes))
    # A sum that follows from the others takes part in each of their combinations, as a second look at one of them.
    repeats = len(old) == len(complement)
    sizes = [len(members) for members in classes]
    try:
        for combination in _circuits(complement, sizes, fewest - 1):
            over = (members for members, part in zip(classes, combination, strict=True) if part)
            if all(in_league.issuperset(members) for members in over):
                continue
            if repeats or any(_dot(combination, vector) for vector in old):
                return True
    except _TooMany:
        return True
    return False


class _TooMany(Exception):
    """The search was given up."""


def _classes(rows: Sequence[Silos]) -> list[list[PartyId]]:
    """Group the silos by the sums in which they stand."""
    by_pattern: dict[tuple[bool, ...], list[PartyId]] = {}
    for party in sorted(frozenset[PartyId]().union(*rows)):
        by_pattern.setdefault(tuple(party in row for row in rows), []).append(party)
    return list(by_pattern.values())


def _row(silos: Silos, classes: Sequence[Sequence[PartyId]]) -> _Vector:
    return tuple(Fraction(members[0] in silos) for members in classes)


def _complement(rows: Sequence[_Vector], width: int) -> list[_Vector]:
    """Return a basis of all vectors that are orthogonal to every row."""
    reduced = _reduced(rows)
    pivots = [next(column for column, value in enumerate(row) if value) for row in reduced]
    free = [column for column in range(width) if column not in pivots]
    basis: list[_Vector] = []
    for column in free:
        vector = [Fraction(0)] * width
        vector[column] = Fraction(1)
        for pivot, row in zip(pivots, reduced, strict=True):
            vector[pivot] = -row[column]
        basis.append(tuple(vector))
    return basis


def _reduced(rows: Sequence[_Vector]) -> list[_Vector]:
    """Return the reduced row echelon form, without zero rows."""
    done: list[_Vector] = []
    for row in rows:
        left = _eliminate(row, done)
        pivot = next((column for column, value in enumerate(left) if value), None)
        if pivot is None:
            continue
        scaled = tuple(value / left[pivot] for value in left)
        done = [tuple(a - other[pivot] * b for a, b in zip(other, scaled, strict=True)) for other in done]
        done.append(scaled)
    return done


def _eliminate(row: _Vector, echelon: Sequence[_Vector]) -> _Vector:
    for other in echelon:
        pivot = next(column for column, value in enumerate(other) if value)
        if row[pivot]:
            row = tuple(a - row[pivot] * b for a, b in zip(row, other, strict=True))
    return row


def _circuits(complement: Sequence[_Vector], sizes: Sequence[int], largest: int) -> Iterator[_Vector]:
    """Yield each smallest combination over at most `largest` silos, as its coefficients by class.

    Raises: _TooMany.
    """
    width, steps = len(sizes), 0
    # Beside each row of N stand its coefficients, so that a row that vanishes says which combination it is.
    columns = [(*(vector[i] for vector in complement), *(Fraction(i == j) for j in range(width))) for i in range(width)]

    def search(start: int, room: int, echelon: list[_Vector]) -> Iterator[_Vector]:
        nonlocal steps
        for i in range(start, width):
            if sizes[i] > room:
                continue
            steps += 1
            if steps > MAX_STEPS:
                raise _TooMany
            left = _eliminate(columns[i], echelon)
            if not any(left[: len(complement)]):
                yield left[len(complement) :]
            else:
                yield from search(i + 1, room - sizes[i], [*echelon, _led(left)])

    yield from search(0, largest, [])


def _led(row: _Vector) -> _Vector:
    """Scale a row so that its first entry that is not zero is 1."""
    lead = next(value for value in row if value)
    return tuple(value / lead for value in row)


def _dot(one: _Vector, other: _Vector) -> Fraction:
    return sum((a * b for a, b in zip(one, other, strict=True)), start=Fraction(0))
