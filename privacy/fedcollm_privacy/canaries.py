"""How much of ε can be proved: the one-run audit of Steinke, Nasr and Jagielski (2023, arXiv 2305.08846).

    m canaries → each included with probability 1/2 → one training run → a score per canary
              → guess "in" for the highest scores, "out" for the lowest → v of r guesses right → ε is at least …

A correct (ε, δ)-DP run makes more than v right guesses improbable; so v right guesses refute every smaller ε.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from fedcollm_privacy import validate

LEAST_NOISE = 1e-3
"""Of the typical noise: what a score is divided by where its own is next to nothing."""


@dataclass(frozen=True, kw_only=True)
class Guesses:
    """The outcome of an audit: of m = `canaries`, r = `made` were guessed and v = `right` of those correctly."""

    canaries: int
    made: int
    right: int

    def __post_init__(self) -> None:
        """Refuse anything but 0 ≤ v ≤ r ≤ m."""
        if not 0 <= self.right <= self.made <= self.canaries:
            raise ValueError(f"expected 0 ≤ right ≤ made ≤ canaries, got {self}")


def choose_included(canaries: int, random: Callable[[int], bytes] = os.urandom) -> tuple[bool, ...]:
    """Toss a fair secret coin for each canary."""
    validate.integer(canaries=canaries, at_least=1)
    return tuple(bool(byte & 1) for byte in random(canaries))


def guess(scores: Sequence[float], included: Sequence[bool], *, guesses: int, out: int | None = None) -> Guesses:
    """Guess that the highest scores are included and that the `out` lowest are not, `guesses` in all, and count.

    `out` is half the guesses unless given; where a canary may never have been sampled, a low score says little, and 0
    is better. Both numbers must be fixed before the scores are seen. A score should grow with inclusion, e.g. the inner
    product of the released update with the canary's direction. A score that is not finite is an error (`ValueError`).
    """
    if len(scores) != len(included) or not all(math.isfinite(score) for score in scores):
        raise ValueError("scores must be finite, one for each canary")
    if guesses < 2 or guesses % 2 or guesses > len(scores):
        raise ValueError(f"guesses must be an even number from 2 to {len(scores)}, got {guesses}")
    low_guesses = guesses // 2 if out is None else out
    if not 0 <= low_guesses <= guesses:
        raise ValueError(f"out must lie between 0 and the {guesses} guesses, got {out}")
    order = sorted(range(len(scores)), key=lambda index: scores[index])
    low, high = order[:low_guesses], order[len(order) - (guesses - low_guesses) :]
    right = sum(included[index] for index in high) + sum(not included[index] for index in low)
    return Guesses(canaries=len(scores), made=guesses, right=right)


def scaled(scores: Sequence[float], noise: Sequence[float]) -> list[float]:
    """Return each score over its own noise, of which at least a thousandth of the typical noise counts.

    A score whose noise is small says more than one whose noise is large. `noise` must not be measured on the run whose
    canaries are guessed, nor depend on which of them are in: then the bound of `epsilon_lower_bound` holds as before.
    Noise that is not finite, or below zero, is an error (`ValueError`).
    """
    if len(scores) != len(noise) or not all(math.isfinite(each) and each >= 0 for each in noise):
        raise ValueError("noise must be finite and at least 0, one for each score")
    floor = max(LEAST_NOISE * float(np.median(noise)), LEAST_NOISE * float(np.mean(noise))) if len(noise) else 0.0
    return [score / max(each, floor) if max(each, floor) else score for score, each in zip(scores, noise, strict=True)]


def p_value(outcome: Guesses, *, epsilon: float, delta: float) -> float:
    """Return the probability bound of at least so many right guesses under (ε, δ)-DP (theorem 5.2 of the paper)."""
    accuracy = 1 / (1 + math.exp(-epsilon))
    mass = _binomial(outcome.made, accuracy)  # [r + 1]
    beta = float(mass[outcome.right :].sum())
    # P[v > B ≥ v − i] / i for i = 1..v, of which the largest counts.
    below = np.cumsum(mass[: outcome.right][::-1])
    alpha = float((below / np.arange(1, outcome.right + 1)).max()) if outcome.right else 0.0
    return min(1.0, beta + 2 * outcome.canaries * delta * alpha)


def epsilon_lower_bound(outcome: Guesses, *, delta: float, confidence: float) -> float:
    """Return the largest ε (to 1e-4) that the outcome refutes at this confidence; 0 when it refutes none.

    Guarantee: for an (ε, δ)-DP run the result exceeds ε with probability at most 1 − `confidence`.
    """
    validate.probability(confidence=confidence)
    if not 0 <= delta < 1:
        raise ValueError(f"delta must lie in [0, 1), got {delta!r}")

    def refuted(epsilon: float) -> bool:
        return p_value(outcome, epsilon=epsilon, delta=delta) < 1 - confidence

    low, high = 0.0, 1.0
    if not refuted(low):
        return 0.0
    while refuted(high) and high < 64:
        low, high = high, 2 * high
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (middle, high) if refuted(middle) else (low, middle)
    return low


def _binomial(trials: int, probability: float) -> npt.NDArray[np.float64]:
    """Return P[B = 0], …, P[B = trials]."""
    k = np.arange(trials + 1)
    log_factorial = np.array([math.lgamma(each + 1) for each in range(trials + 1)])
    log_choose = log_factorial[-1] - log_factorial - log_factorial[::-1]
    mass: npt.NDArray[np.float64] = np.exp(
        log_choose + k * math.log(probability) + (trials - k) * math.log1p(-probability)
    )
    return mass
