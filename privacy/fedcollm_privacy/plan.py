"""One plan binds sampler, clipping, noise, number of steps and the event that is charged, so that none can be dropped.

calibrated(ε, δ, …) → RecordPlan → dpsgd.train(plan=…)   what is done
                                 → plan.round_event()    what is charged
                                 → plan.digest()         what everyone signed before the first round
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields

from fedcollm_privacy import validate
from fedcollm_privacy.accountant import PLDAccountant
from fedcollm_privacy.calibrate import check_steps, noise_multiplier_for
from fedcollm_privacy.decimals import parse_decimal, to_decimal
from fedcollm_privacy.event import Event, PoissonGaussian

_UNITS = ("record", "subject")


@dataclass(frozen=True, kw_only=True)
class RecordPlan:
    """Fix, before the first round, everything that the guarantee of a session depends on.

    `epsilon`, `delta`: the target for all `rounds` together, for add-or-remove-one `unit`, which is "record" or
    "subject" (a person with all records). `clip_norm`: C, a bound of one unit's gradient. `sampling_rate`: q in (0, 1].
    `noise_multiplier`: the noise's standard deviation over C. `batch_size`: the public constant that the noisy sum is
    divided by; it must not be computed from the number of records.

    Guarantee: `dpsgd.train` under this plan, at most `rounds` times, is (`epsilon`, `delta`)-DP for every unit against
    whoever sees the model after each round, given a secret `random` and losses that do not couple units.
    """

    epsilon: float
    delta: float
    clip_norm: float
    sampling_rate: float
    noise_multiplier: float
    steps_per_round: int
    rounds: int
    batch_size: int
    unit: str = "record"

    def __post_init__(self) -> None:
        """Refuse values outside their range, and noise that is too small for the target (`ValueError`)."""
        validate.positive(epsilon=self.epsilon, clip_norm=self.clip_norm, noise_multiplier=self.noise_multiplier)
        validate.probability(delta=self.delta)
        validate.rate(sampling_rate=self.sampling_rate)
        validate.integer(
            steps_per_round=self.steps_per_round, rounds=self.rounds, batch_size=self.batch_size, at_least=1
        )
        if self.unit not in _UNITS:
            raise ValueError(f"unit must be one of {', '.join(_UNITS)}, got {self.unit!r}")
        check_steps(self.steps_per_round * self.rounds)
        reached = self.epsilon_after(self.rounds)
        if reached > self.epsilon:
            raise ValueError(
                f"noise_multiplier {self.noise_multiplier} gives epsilon {reached:.6g} after {self.rounds} rounds, "
                f"above the plan's epsilon {self.epsilon}: use RecordPlan.calibrated(…), or "
                "state the epsilon that is reached"
            )

    @classmethod
    def calibrated(
        cls,
        *,
        epsilon: float,
        delta: float,
        clip_norm: float,
        sampling_rate: float,
        steps_per_round: int,
        rounds: int,
        batch_size: int,
        unit: str = "record",
    ) -> RecordPlan:
        """Return the plan with the smallest noise that keeps all `rounds` within (`epsilon`, `delta`)."""
        noise_multiplier = noise_multiplier_for(
            epsilon=epsilon, delta=delta, sampling_rate=sampling_rate, steps=steps_per_round * rounds
        )
        return cls(
            epsilon=epsilon,
            delta=delta,
            clip_norm=clip_norm,
            sampling_rate=sampling_rate,
            noise_multiplier=noise_multiplier,
            steps_per_round=steps_per_round,
            rounds=rounds,
            batch_size=batch_size,
            unit=unit,
        )

    @classmethod
    def from_json(cls, tree: Mapping[str, object]) -> RecordPlan:
        """Read what `as_json` wrote; surplus, missing or mistyped keys are refused (`ValueError`)."""
        names = {field.name for field in fields(cls)}
        if set(tree) != names:
            raise ValueError(f"a plan has exactly the keys {sorted(names)}, got {sorted(tree)}")
        return cls(
            epsilon=parse_decimal(tree["epsilon"]),
            delta=parse_decimal(tree["delta"]),
            clip_norm=parse_decimal(tree["clip_norm"]),
            sampling_rate=parse_decimal(tree["sampling_rate"]),
            noise_multiplier=parse_decimal(tree["noise_multiplier"]),
            steps_per_round=_integer(tree["steps_per_round"]),
            rounds=_integer(tree["rounds"]),
            batch_size=_integer(tree["batch_size"]),
            unit=str(tree["unit"]),
        )

    def round_event(self) -> Event:
        """Return what one round is charged: the planned steps, whatever the batches were."""
        return PoissonGaussian(
            sampling_rate=self.sampling_rate, noise_multiplier=self.noise_multiplier, steps=self.steps_per_round
        )

    def epsilon_after(self, rounds: int) -> float:
        """Return ε at the plan's δ after this many rounds (PLD, cached); 0 rounds cost 0."""
        accountant = PLDAccountant()
        accountant.spend(self.round_event(), rounds)
        return accountant.epsilon(self.delta)

    def as_json(self) -> dict[str, str | int]:
        """Return the plan as JSON without floats (decimal strings), ready to be canonicalised and signed."""
        return {
            "epsilon": to_decimal(self.epsilon),
            "delta": to_decimal(self.delta),
            "clip_norm": to_decimal(self.clip_norm),
            "sampling_rate": to_decimal(self.sampling_rate),
            "noise_multiplier": to_decimal(self.noise_multiplier),
            "steps_per_round": self.steps_per_round,
            "rounds": self.rounds,
            "batch_size": self.batch_size,
            "unit": self.unit,
        }

    def digest(self) -> str:
        """Return the SHA-256, in hex, of the plan's canonical JSON (RFC 8785: sorted ASCII keys, no white space)."""
        canonical = json.dumps(self.as_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"expected an integer, got {value!r}")
    return value
