"""The one-run audit: a whole run, protocol and all, in which one silo holds canaries.

A canary is a unit whose gradient is one coordinate of the adapter, far longer than C before it is clipped: a record of
the data set, or a person with several. Each is in the silo's file with probability 1/2; the auditor sees what an
observer at one of four points sees:

| point | observer | score of a canary |
|---|---|---|
| steps | whoever sees every noisy gradient that the silo's optimiser reads | the coordinate's gradients, summed |
| update | whoever reads the silo's upload (no masks) | − its coordinate of the silo's updates, summed over rounds |
| sum | the server under masks | − its coordinate of the decoded means |
| model | anyone, after the run | − its coordinate of the small model's whole change, distillation included |

The first is what the accountant prices; the others are computed from it and show less, most of all under an adaptive
optimiser. There, and in the sum of joint noise, a score is divided by the noise that its coordinate has, measured in
draws of another run: a coordinate without noise then stands out, however loud the others are.

The LLM is no further point. It is computed from the sums, public data and the server's own randomness, so that what the
sums do not refute it cannot refute either, and a score read off it would only be weaker.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedcollm_privacy.canaries import Guesses, choose_included, epsilon_lower_bound, guess, scaled
from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.assemble import Prepared
from fedcollm_secure.assurance.privacy_audit.neighbouring_units import most_records
from fedcollm_secure.assurance.privacy_audit.noise_draws import Float64
from fedcollm_secure.assurance.privacy_audit.tensor_places import Places

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


@dataclass(frozen=True, kw_only=True)
class Seen:
    """What one point shows: float64[d], larger where a canary is in; and each entry's own noise, where it is known."""

    shown: Float64 = field(repr=False)
    noise: Float64 | None = field(default=None, repr=False)


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
    def draw(cls, prepared: Prepared, places: Places, rounds: int) -> "Canaries":
        """Choose coordinates; toss a secret coin for each; guess "in" for half of those that `rounds` may draw."""
        plan = prepared.plan
        if plan is None or plan.unit == "silo":
            raise ValueError("canaries: expected a plan whose units are records or persons")
        count = min(MOST_CANARIES, len(places.flat) // 2)
        generator = np.random.default_rng(prepared.config.seed)
        coordinates = np.sort(generator.choice(places.flat, count, replace=False))
        steps = rounds * (plan.steps_per_round if isinstance(plan, RecordPlan) else 1)
        ever_drawn = 1 - (1 - plan.sampling_rate) ** steps
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

    def observe(self, point: str, seen: Seen, delta: float, confidence: float) -> Observation:
        """Guess from what is seen of the adapter's entries."""
        scores: list[float] = seen.shown[self.coordinates].tolist()
        if seen.noise is not None:
            scores = scaled(scores, seen.noise[self.coordinates].tolist())
        # A canary that is in may never have been sampled, so a low score says little: all guesses are "in".
        outcome = guess(scores, self.included, guesses=self.guesses, out=0)
        bound = epsilon_lower_bound(outcome, delta=delta, confidence=confidence)
        return Observation(point=point, guesses=outcome, lower_bound=bound)

    def power(self, delta: float, confidence: float) -> float:
        """Return the lower bound if every guess were right: no larger claim can be refuted."""
        perfect = Guesses(canaries=len(self.included), made=self.guesses, right=self.guesses)
        return epsilon_lower_bound(perfect, delta=delta, confidence=confidence)
