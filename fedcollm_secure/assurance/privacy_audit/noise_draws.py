"""Noise as it was drawn, in units of what it should be: one row for each step of each silo, or for each share.

float[m] a tensor, in each of a round's tensors → Draw   one step (or share): where and when, and its noise
Draws of the same tensors                      → Table   float64[n, d], on which `noise_checks` works
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

Float64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Draw:
    """The noise of one step: standard normal in every entry, if all is well. `again`: drawn for a run of its own."""

    silo: str
    round: int
    step: int
    noise: Mapping[str, Float64] = field(repr=False)
    again: bool = False


@dataclass(frozen=True, kw_only=True)
class Table:
    """Draws over the same tensors, side by side.

    `grain`: the step of whole numbers, 0 for floats. `twice`: with which probability two entries are equal up to sign.
    """

    draws: Sequence[Draw] = field(repr=False)
    grain: float
    twice: float

    @cached_property
    def raw(self) -> Float64:
        """Return float64[n, d] as it was drawn, the tensors one after another."""
        return np.stack([np.concatenate(list(draw.noise.values())) for draw in self.draws])

    @cached_property
    def values(self) -> Float64:
        """Return float64[n, d], whole numbers spread evenly over their step, so that normal quantiles fit them."""
        if not self.grain:
            return self.raw
        return self.raw + self.grain * np.random.default_rng().uniform(-0.5, 0.5, self.raw.shape)

    @property
    def tensors(self) -> Iterator[tuple[str, slice]]:
        """Yield each tensor's name and its columns."""
        start = 0
        for name, part in self.draws[0].noise.items():
            yield name, slice(start, start + len(part))
            start += len(part)

    @property
    def cells(self) -> Mapping[str, list[int]]:
        """Return the rows of each silo in each round."""
        return self._rows(lambda draw: f"{draw.silo}, round {draw.round}{' again' * draw.again}")

    @property
    def scopes(self) -> Mapping[str, list[int]]:
        """Return rows that belong together: all, each silo's, and each silo's in each round."""
        everything = {"all silos": list(range(len(self.draws)))}
        return {**everything, **self._rows(lambda draw: draw.silo), **self.cells}

    @property
    def entry_tests(self) -> int:
        """Return how many figures of single entries are compared."""
        return len(self.scopes) * int(self.raw.shape[1])

    def _rows(self, name: Callable[[Draw], str]) -> dict[str, list[int]]:
        rows = dict[str, list[int]]()
        for row, draw in enumerate(self.draws):
            rows.setdefault(name(draw), []).append(row)
        return rows


def float_tables(draws: Sequence[Draw], bits: int) -> list[Table]:
    """Return tables of floats of so many bits of precision, one for each set of tensors that a rule trains."""
    # P(equal) = ∫ φ²·ulp, and ulp ≤ |x|·2^(1 − bits); twice that, up to sign.
    return _tables(draws, 0.0, 2.0 ** (2 - bits) / (2 * math.pi))


def whole_tables(draws: Sequence[Draw], grain: float) -> list[Table]:
    """Return tables of whole numbers, `grain` apart in units of their standard deviation."""
    return _tables(draws, grain, grain / math.sqrt(math.pi))


def _tables(draws: Sequence[Draw], grain: float, twice: float) -> list[Table]:
    groups = dict[tuple[tuple[str, int], ...], list[Draw]]()
    for draw in draws:
        shape = tuple((name, len(part)) for name, part in draw.noise.items())
        groups.setdefault(shape, []).append(draw)
    return [Table(draws=group, grain=grain, twice=twice) for group in groups.values()]
