"""The one-run audit: a whole run, protocol and all, in which one silo holds canaries.

A canary is a unit whose gradient is one coordinate of the adapter, far longer than C before it is clipped: a record, or
a person with several such records. Each is in the silo's data with probability 1/2; the auditor sees what an observer
at one of three points sees:

| point | observer | score of a canary |
|---|---|---|
| update | whoever reads the silo's upload (no masks) | − its coordinate of the silo's updates, summed over rounds |
| sum | the server under masks | − its coordinate of the decoded means |
| model | anyone, after the run | − its coordinate of the small model's whole change, distillation included |

The LLM is no fourth point. It is computed from the sums, public data and the server's own randomness, so that what the
sums do not refute it cannot refute either, and a score read off it would only be weaker.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcollm_privacy.canaries import Guesses, choose_included, epsilon_lower_bound, guess
from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.assemble import Prepared
from fedcollm_secure.learning.vectors import Float32
from fedcollm_secure.studies.audit.neighbours import most_records

MOST_CANARIES = 4000
MOST_RECORDS = 8
"""Of a canary that is a person: enough to tell clipping by person from clipping by record."""


@dataclass(frozen=True, kw_only=True)
class Observation:
    """What was guessed at one point, and the largest ε that it refutes at `confidence`."""

    point: str
    guesses: Guesses
    lower_bound: float

    def as_json(self) -> Mapping[str, object]:
        """Return a plain map."""
        made, right = self.guesses.made, self.guesses.right
        return {"point": self.point, "lower_bound": round(self.lower_bound, 4), "guesses": made, "right": right}


def confidence_of_each(confidence: float, points: int) -> float:
    """Return the confidence at which each of several points must be judged, so that all hold at `confidence`."""
    return 1 - (1 - confidence) / points


@dataclass(frozen=True, kw_only=True)
class Canaries:
    """Which coordinates are canaries, which of them are in, and how many guesses there will be, fixed beforehand."""

    coordinates: NDArray[np.int64]
    included: tuple[bool, ...]
    guesses: int
    records_each: int

    @classmethod
    def draw(cls, prepared: Prepared) -> "Canaries":
        """Choose coordinates; toss a secret coin for each; guess "in" for half of those that a round may draw."""
        plan = prepared.plan
        if plan is None or plan.unit == "silo":
            raise ValueError("canaries: expected a plan whose units are records or persons")
        count = min(MOST_CANARIES, prepared.parameters // 2)
        generator = np.random.default_rng(prepared.config.seed)
        coordinates = np.sort(generator.choice(prepared.parameters, count, replace=False))
        ever_drawn = 1 - (1 - plan.sampling_rate) ** (
            plan.rounds * (plan.steps_per_round if isinstance(plan, RecordPlan) else 1)
        )
        guesses = max(2, int(count / 2 * ever_drawn / 2) // 2 * 2)
        return cls(
            coordinates=coordinates,
            included=choose_included(count),
            guesses=guesses,
            records_each=min(MOST_RECORDS, most_records(prepared)),
        )

    @property
    def present(self) -> list[int]:
        """Return the coordinates of the canaries that are in."""
        return [int(where) for where, inside in zip(self.coordinates, self.included, strict=True) if inside]

    def observe(self, point: str, seen: Float32, delta: float, confidence: float) -> Observation:
        """Guess from a change of the adapter, float32[d]."""
        scores: list[float] = (-seen[self.coordinates].astype(np.float64)).tolist()
        # A canary that is in may never have been sampled, so a low score says little: all guesses are "in".
        outcome = guess(scores, self.included, guesses=self.guesses, out=0)
        bound = epsilon_lower_bound(outcome, delta=delta, confidence=confidence)
        return Observation(point=point, guesses=outcome, lower_bound=bound)

    def power(self, delta: float, confidence: float) -> float:
        """Return the lower bound if every guess were right: no larger claim can be refuted."""
        perfect = Guesses(canaries=len(self.included), made=self.guesses, right=self.guesses)
        return epsilon_lower_bound(perfect, delta=delta, confidence=confidence)
