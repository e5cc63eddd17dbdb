"""Products of two thin matrices without ever forming the product: their SVD, and what a lower rank leaves out."""

import math
from dataclasses import dataclass

import numpy as np

from fedcollm_secure.learning.factors.layout import Float64


@dataclass(frozen=True, kw_only=True)
class Cut:
    """W ≈ B·A of rank r: B float64[height, r] = U·S, A float64[r, width] with orthonormal rows.

    `lost` = ‖W − B·A‖²_F and `whole` = ‖W‖²_F, by singular values.
    """

    b: Float64
    a: Float64
    lost: float
    whole: float


def cut_to_rank(left: Float64, right: Float64, rank: int) -> Cut:
    """Return the best approximation of W = left·rightᵀ of this rank (Eckart and Young 1936).

    left float64[height, m], right float64[width, m], rank ≤ m, height, width. In each row of A the entry of largest
    magnitude is positive: W alone decides the signs. Rows for singular values of zero complete the basis, so that A
    can go on learning where W = 0.
    """
    q_left, r_left = np.linalg.qr(left)  # [height, k], [k, m]
    q_right, r_right = np.linalg.qr(right)
    u, s, vt = np.linalg.svd(r_left @ r_right.T)
    a = vt[:rank] @ q_right.T  # [r, width]
    b = q_left @ (u[:, :rank] * s[:rank])  # [height, r]
    signs = np.sign(a[np.arange(rank), np.abs(a).argmax(axis=1)])  # [r]
    return Cut(b=b * signs, a=a * signs[:, None], lost=float((s[rank:] ** 2).sum()), whole=float((s**2).sum()))


def relative_error(cuts: list[Cut]) -> float:
    """Return ‖W − W_r‖_F / ‖W‖_F over all modules together; 0 where W = 0."""
    whole = math.fsum(cut.whole for cut in cuts)
    return math.sqrt(math.fsum(cut.lost for cut in cuts) / whole) if whole else 0.0
