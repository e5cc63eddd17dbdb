"""How drawn units are put into forward passes: a unit's gradient must have the same bits whoever else is drawn.

Arithmetic in floating point depends on the shapes of a pass: with other padding, or other rows beside it, a record's
gradient differs in its last bits, by 1e-6 of itself in float32 and by several per cent in bfloat16. So a record goes
into a pass whose shape its own content decides (`shape_of`), of a constant number of rows; missing ones are filled with
a record that is there already and counts once. A unit of several records has a pass of its own.
"""

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass

ShapeOf = Callable[[int], Hashable]
"""Return what the shape of a forward pass of a record is made of: a function of that record's content alone."""


@dataclass(frozen=True, kw_only=True)
class Block:
    """One forward pass: the first records belong to units of `unit_sizes`, in order; the rest fill it up."""

    records: Sequence[int]
    unit_sizes: Sequence[int]


def blocks(units: Sequence[Sequence[int]], rows: int | None, shape_of: ShapeOf | None = None) -> Iterator[Block]:
    """Yield all units once. `rows` None puts them in one pass, which promises nothing about rounding."""
    if rows is None:
        if units:
            records = [record for unit in units for record in unit]
            yield Block(records=records, unit_sizes=[len(unit) for unit in units])
        return
    alike: dict[Hashable, list[int]] = {}
    for unit in units:
        if len(unit) > 1:
            yield Block(records=unit, unit_sizes=(len(unit),))
        else:
            alike.setdefault(shape_of(unit[0]) if shape_of else None, []).append(unit[0])
    for records in alike.values():
        for start in range(0, len(records), rows):
            part = records[start : start + rows]
            yield Block(records=[*part, *part[-1:] * (rows - len(part))], unit_sizes=[1] * len(part))
