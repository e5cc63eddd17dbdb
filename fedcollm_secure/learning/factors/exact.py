"""The exact mean of the silos' products B_k·A_k, from two sums of thin matrices (FedASK, arXiv 2507.09990).

    M_k = B_k·A_k − B_t·A_t              silo k's change of one module's ΔW, of rank 2r at most, never formed
    pass 0:  Y = mean M_k·Ω              Ω float64[width, s] public, orthonormal columns
             Q = qr(Y)                   the server; Q goes into the second pass's manifest
    pass 1:  P = mean M_kᵀ·Q             over the very same silos
    mean M_k = Q·Pᵀ                      where s ≥ rank(mean M_k), which (n + 1)·r always is
    W̄ = B_t·A_t + Q·Pᵀ → SVD → rank r    Eckart–Young; the error is reported

Upload: (height + width)·s instead of (height + width)·r a module.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from fedcollm_secure.learning.adapter import Matrices
from fedcollm_secure.learning.factors.layout import Float64, Layout, Place
from fedcollm_secure.learning.factors.low_rank import Cut, cut_to_rank, relative_error
from fedcollm_secure.learning.factors.passes import Merged, Pass
from fedcollm_secure.learning.vectors import Float32


@dataclass(frozen=True, kw_only=True)
class ExactProducts:
    """Two passes over one set of silos. `seed` draws Ω, which is public.

    Guarantee: each pass is linear in M_k, and both are functions of one result of training: under record-level
    differential privacy the second pass is post-processing like the first.
    """

    layout: Layout
    silos: int
    seed: int

    def __post_init__(self) -> None:
        """Refuse modules narrower than their rank (`ValueError`)."""
        if not self.layout.places:
            raise ValueError("an adapter without a module has no products")

    @property
    def passes(self) -> int:
        """Return 2."""
        return 2

    def trained(self, round_number: int) -> Matrices:
        """Return both factors."""
        return "AB"

    def fits(self, asked: Pass) -> bool:
        """Say whether it is the first pass, or the second with a finite basis of the right length."""
        if asked.number == 0:
            return asked.basis.size == 0
        expected = self.length(Pass(round=asked.round))
        return asked.number == 1 and asked.basis.shape == (expected,) and bool(np.isfinite(asked.basis).all())

    def length(self, asked: Pass) -> int:
        """Return Σ height·s in the first pass, Σ width·s in the second."""
        return sum((p.width if asked.number else p.height) * self._sketch(p) for p in self.layout.places)

    def share(self, start: Float32, change: Float32, asked: Pass) -> Float32:
        """Return M_k·Ω, or M_kᵀ·Q, of all modules."""
        parts = self._second(start, change, asked) if asked.number else self._first(start, change, asked)
        return np.concatenate([part.ravel() for part in parts]).astype(np.float32)

    def basis(self, mean: Float64) -> Float32:
        """Return Q of all modules, float32[Σ height·s]."""
        parts = [np.linalg.qr(y)[0].ravel() for y in self._blocks(mean, lambda place: place.height)]
        return np.concatenate(parts).astype(np.float32)

    def merge(self, start: Float32, means: Sequence[Float64], asked: Pass) -> Merged:
        """Return the mean product cut to rank r, as B = U·S and A with orthonormal rows, and the cut's error."""
        theta = start.copy()
        bases = self._blocks(asked.basis.astype(np.float64), lambda place: place.height)
        images = self._blocks(means[1], lambda place: place.width)
        cuts: list[Cut] = []
        for place, q, p in zip(self.layout.places, bases, images, strict=True):
            b, a = place.cut(start)
            cut = cut_to_rank(np.hstack((b, q)), np.hstack((a.T, p)), place.rank)
            place.put(theta, cut.b, cut.a)
            cuts.append(cut)
        return Merged(theta=theta, cut_error=relative_error(cuts))

    def settle(self, theta: Float32) -> Float32:
        """Return θ as it is."""
        return theta

    def _first(self, start: Float32, change: Float32, asked: Pass) -> list[Float64]:
        parts: list[Float64] = []
        for index, place in enumerate(self.layout.places):
            omega = self._omega(place, index, asked.round)  # [width, s]
            (b0, a0), (b, a) = place.cut(start), place.cut(start.astype(np.float64) + change)
            parts.append(b @ (a @ omega) - b0 @ (a0 @ omega))  # [height, s]
        return parts

    def _second(self, start: Float32, change: Float32, asked: Pass) -> list[Float64]:
        parts: list[Float64] = []
        bases = self._blocks(asked.basis.astype(np.float64), lambda place: place.height)
        for place, q in zip(self.layout.places, bases, strict=True):
            (b0, a0), (b, a) = place.cut(start), place.cut(start.astype(np.float64) + change)
            parts.append(a.T @ (b.T @ q) - a0.T @ (b0.T @ q))  # [width, s]
        return parts

    def _sketch(self, place: Place) -> int:
        """Return s, the largest rank that the mean change can have."""
        return min((self.silos + 1) * place.rank, place.height, place.width)

    def _omega(self, place: Place, index: int, round_number: int) -> Float64:
        stream = np.random.default_rng([self.seed, round_number, index, *b"sketch"])
        return np.linalg.qr(stream.standard_normal((place.width, self._sketch(place))))[0]

    def _blocks(self, flat: Float64, rows: Callable[[Place], int]) -> list[Float64]:
        """Cut a pass's vector into one float64[rows, s] a module.

        Raises:
            ValueError: another length.
        """
        sizes = [rows(place) * self._sketch(place) for place in self.layout.places]
        if flat.shape != (sum(sizes),):
            raise ValueError(f"expected float[{sum(sizes)}] in this pass, got {list(flat.shape)}")
        parts = np.split(flat, np.cumsum(sizes)[:-1])
        return [part.reshape(rows(place), -1) for place, part in zip(self.layout.places, parts, strict=True)]
