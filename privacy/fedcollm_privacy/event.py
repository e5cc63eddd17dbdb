"""What a mechanism did, as data: an event's docstring is its mathematics, and an accountant puts a price on it.

Throughout, D and D' are neighbours when one is the other with one unit (a record, or a subject with all its records)
added or removed; C is the clip norm, so a unit's contribution v_i has ‖v_i‖₂ ≤ C. Mechanisms write events, accountants
read them, and neither knows the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from fedcollm_privacy import validate
from fedcollm_privacy.decimals import parse_decimal, to_decimal

Json: TypeAlias = "str | int | bool | Sequence[Json] | Mapping[str, Json]"


@dataclass(frozen=True, kw_only=True)
class NoOp:
    """M(D) does not depend on D. (0, 0)-DP."""


@dataclass(frozen=True, kw_only=True)
class NonPrivate:
    """M(D) may be anything, D itself included. No finite ε holds for any δ < 1."""


@dataclass(frozen=True, kw_only=True)
class Gaussian:
    """M(D) = Σ_{i∈D} v_i + z with z ~ N(0, (σC)² I), ‖v_i‖₂ ≤ C and σ = `noise_multiplier` > 0 (dimensionless)."""

    noise_multiplier: float

    def __post_init__(self) -> None:
        """Refuse a σ that is not a positive finite number."""
        validate.positive(noise_multiplier=self.noise_multiplier)


@dataclass(frozen=True, kw_only=True)
class PoissonGaussian:
    """The vector (M_1(D), …, M_T(D)), T = `steps`, of the Poisson-sampled Gaussian mechanism.

    M_t(D) = Σ_{i∈S_t} v_i(t) + z_t. S_t holds each unit of D independently with probability q = `sampling_rate` in
    (0, 1], afresh at every step; z_t ~ N(0, (σC)² I) with σ = `noise_multiplier` > 0; ‖v_i(t)‖₂ ≤ C. v_i(t) may
    depend on the outputs before t. An empty S_t still gives z_t.
    """

    sampling_rate: float
    noise_multiplier: float
    steps: int

    def __post_init__(self) -> None:
        """Refuse q outside (0, 1], σ ≤ 0 and fewer than one step."""
        validate.rate(sampling_rate=self.sampling_rate)
        validate.positive(noise_multiplier=self.noise_multiplier)
        validate.integer(steps=self.steps, at_least=1)


@dataclass(frozen=True, kw_only=True)
class Composed:
    """M(D) = (M_1(D), …, M_k(D)) for the k `events`, all fixed before the first; each may read earlier outputs."""

    events: tuple[Event, ...]

    def __post_init__(self) -> None:
        """Refuse anything but a tuple: a list could change after it was priced."""
        if not isinstance(self.events, tuple):  # pyright: ignore[reportUnnecessaryIsInstance]  # callers may be untyped
            raise TypeError(f"events must be a tuple, got {type(self.events).__name__}")


@dataclass(frozen=True, kw_only=True)
class Repeated:
    """M(D) = (M_1(D), …, M_n(D)): n = `count` ≥ 0 independent runs of one `event`; each may read earlier outputs."""

    event: Event
    count: int

    def __post_init__(self) -> None:
        """Refuse a negative or non-integer count."""
        validate.integer(count=self.count, at_least=0)


Event: TypeAlias = NoOp | NonPrivate | Gaussian | PoissonGaussian | Composed | Repeated


def to_json(event: Event) -> dict[str, Json]:
    """Return the event as JSON without floats (decimal strings instead), so that it can be canonicalised and hashed."""
    match event:
        case NoOp():
            return {"event": "no_op"}
        case NonPrivate():
            return {"event": "non_private"}
        case Gaussian():
            return {"event": "gaussian", "noise_multiplier": to_decimal(event.noise_multiplier)}
        case PoissonGaussian():
            return {
                "event": "poisson_gaussian",
                "sampling_rate": to_decimal(event.sampling_rate),
                "noise_multiplier": to_decimal(event.noise_multiplier),
                "steps": event.steps,
            }
        case Composed():
            return {"event": "composed", "events": [to_json(each) for each in event.events]}
        case Repeated():
            return {"event": "repeated", "inner": to_json(event.event), "count": event.count}


def from_json(tree: Json) -> Event:
    """Read what `to_json` wrote; unknown, missing or surplus keys and wrong types are refused.

    Raises:
        ValueError: naming what was expected and what was found.
    """
    if not isinstance(tree, Mapping) or not isinstance(tree.get("event"), str):
        raise ValueError(f"an event is a JSON object with the key 'event', got {tree!r}")
    fields = {name: value for name, value in tree.items() if name != "event"}
    match tree["event"], sorted(fields):
        case "no_op", []:
            return NoOp()
        case "non_private", []:
            return NonPrivate()
        case "gaussian", ["noise_multiplier"]:
            return Gaussian(noise_multiplier=parse_decimal(fields["noise_multiplier"]))
        case "poisson_gaussian", ["noise_multiplier", "sampling_rate", "steps"]:
            return PoissonGaussian(
                sampling_rate=parse_decimal(fields["sampling_rate"]),
                noise_multiplier=parse_decimal(fields["noise_multiplier"]),
                steps=_integer(fields["steps"]),
            )
        case "composed", ["events"]:
            return Composed(events=tuple(from_json(each) for each in _sequence(fields["events"])))
        case "repeated", ["count", "inner"]:
            return Repeated(event=from_json(fields["inner"]), count=_integer(fields["count"]))
        case name, keys:
            raise ValueError(f"no event {name!r} has exactly the keys {keys}; see fedcollm_privacy.event.to_json")


def _integer(value: Json) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"expected an integer, got {value!r}")
    return value


def _sequence(value: Json) -> Sequence[Json]:
    if isinstance(value, str) or not isinstance(value, Sequence):
        raise ValueError(f"expected a list of events, got {value!r}")
    return value
