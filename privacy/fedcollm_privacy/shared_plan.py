"""One noise for all silos: each adds a share of it as integers, and only the sum is ever seen.

    x_k integer[d], ‖x_k − x_k'‖₂ ≤ Δ for neighbours      Δ = S / grid, S the sensitivity in the update's units
    y = Σ_k x_k + Σ_k N_ℤ(0, v)                             of which h shares are secret: v = ⌈(zΔ)² / h⌉

h, the honest silos that are surely in the sum, is max(t, k_min) − n_c: the fewest that finish, less those in league
with the server, who know their own share. What others add beyond it is post-processing.

Accounting. Σ_h N_ℤ(0, v) is compared with round(N(0, s²)), s² = h·v: with that noise y would be a rounding of the
(Poisson-sampled) Gaussian mechanism, which PLD prices. The total variation between the two is at most

    τ = min(d·(0.0202/s² + 0.0832/s³), √(2d)·(1 + 5/s)/24s²) + 10·d·Σ_{k<h} exp(−2π²v·k/(k+1))     a release

An entry's probabilities f = φ(z) and g = ∫φ over z ± ½ differ by φ''(u)/24 at some u in that interval. First form: the
sum over z, with ∫|φ''| = 0.968/s² and ∫|φ'''| < 4/s³, added over d entries. Second: an entry's squared Hellinger
distance H² ≤ Σ (f − g)²/2f = (1 + O(1/s))/576s⁴ adds up over independent entries; the variation is at most √2·H. Last:
Kairouz, Liu and Steinke 2021, arXiv 2102.06387, theorem 3, for a sum of shares against one N_ℤ(0, h·v).

n releases are then (ε, δ)-DP where PLD gives ε at δ − (1 + e^ε)·n·τ.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields

from fedcollm_privacy import validate
from fedcollm_privacy.accountant import PLDAccountant
from fedcollm_privacy.calibrate import check_steps, noise_multiplier_for
from fedcollm_privacy.decimals import parse_decimal, to_decimal
from fedcollm_privacy.event import Event, PoissonGaussian

UNITS = ("silo", "record", "subject")
_TAIL_BITS = 40
_DECIMALS = ("epsilon", "delta", "clip_norm", "sampling_rate", "noise_multiplier", "grid", "rounding")


@dataclass(frozen=True, kw_only=True)
class SharedPlan:
    """Fix, before the first round, everything that the guarantee of shared noise depends on; one release a round.

    `unit` "silo": one silo's whole update against none (zero-out; who took part is public). "record", "subject": add or
    remove one within a silo. `clip_norm`: C, of a silo's update or of a unit's gradient, whose sum is divided by the
    public `batch_size` (1 for silos). `noise_multiplier`: z. `grid`: the step of the integers in the update's units.
    `rounding`: how far an entry can be from its real value once it is an integer, in the update's units.
    `dimension`: d. `silos`: the most that add up. `honest`: h.

    Guarantee: `rounds` sums of at least h honest silos are (`epsilon`, `delta`)-DP for the unit against whoever sees
    the sums alone, n_c silos among them, if every honest silo clips to `tightened_clip_norm` and adds N_ℤ(0,
    `share_variance`) from a secret source.
    """

    epsilon: float
    delta: float
    clip_norm: float
    sampling_rate: float
    noise_multiplier: float
    rounds: int
    batch_size: int
    unit: str
    grid: float
    rounding: float
    dimension: int
    silos: int
    honest: int

    def __post_init__(self) -> None:
        """Refuse values outside their range, a grid that is too coarse, and too little noise (`ValueError`)."""
        validate.positive(epsilon=self.epsilon, clip_norm=self.clip_norm, noise_multiplier=self.noise_multiplier)
        validate.positive(grid=self.grid, rounding=self.rounding)
        validate.probability(delta=self.delta)
        validate.rate(sampling_rate=self.sampling_rate)
        validate.integer(rounds=self.rounds, batch_size=self.batch_size, dimension=self.dimension, at_least=1)
        validate.integer(honest=self.honest, at_least=1)
        validate.integer(silos=self.silos, at_least=self.honest)
        if self.unit not in UNITS:
            raise ValueError(f"unit must be one of {', '.join(UNITS)}, got {self.unit!r}")
        check_steps(self.rounds)
        self._check_grid()
        reached = self.epsilon_after(self.rounds)
        if reached > self.epsilon:
            raise ValueError(
                f"noise_multiplier {self.noise_multiplier} gives epsilon {reached:.6g} after {self.rounds} rounds, "
                f"above the plan's epsilon {self.epsilon}: use SharedPlan.calibrated(…)"
            )

    def _check_grid(self) -> None:
        if self.tightened_clip_norm < self.clip_norm / 2:
            raise ValueError(
                f"rounding to a grid of {self.grid:.3g} may lengthen a contribution by "
                f"{self.clip_norm - self.tightened_clip_norm:.3g}, which leaves less than half of clip_norm "
                f"{self.clip_norm:g}: use more bits, or a smaller aggregation clip"
            )
        if self.accounted_delta < self.delta / 2:
            raise ValueError(
                f"the integers are too coarse for the noise: its distance from a Gaussian would cost more than half of "
                f"delta {self.delta:g}. Use more bits, or a smaller aggregation clip"
            )

    @classmethod
    def calibrated(
        cls,
        *,
        epsilon: float,
        delta: float,
        clip_norm: float,
        sampling_rate: float,
        rounds: int,
        batch_size: int,
        unit: str,
        grid: float,
        rounding: float,
        dimension: int,
        silos: int,
        honest: int,
    ) -> SharedPlan:
        """Return the plan with noise that keeps all `rounds` within (`epsilon`, `delta`).

        1 % of δ is left to the distance from a Gaussian, of which that takes next to nothing on a fine grid; half of
        it where 1 % is not enough.
        """

        def plan(share: float) -> SharedPlan:
            noise_multiplier = noise_multiplier_for(
                epsilon=epsilon, delta=share * delta, sampling_rate=sampling_rate, steps=rounds
            )
            return cls(
                epsilon=epsilon,
                delta=delta,
                clip_norm=clip_norm,
                sampling_rate=sampling_rate,
                noise_multiplier=noise_multiplier,
                rounds=rounds,
                batch_size=batch_size,
                unit=unit,
                grid=grid,
                rounding=rounding,
                dimension=dimension,
                silos=silos,
                honest=honest,
            )

        try:
            return plan(0.99)
        except ValueError:
            return plan(0.5)

    @property
    def sensitivity(self) -> float:
        """Return S, in the update's units."""
        return self.clip_norm / self.batch_size

    @property
    def tightened_clip_norm(self) -> float:
        """Return what is clipped to, so that rounding cannot lengthen a contribution beyond `clip_norm`.

        A silo's vector is rounded once: √d·rounding (cf. `clip_and_round_to_grid` of jax_privacy). A record changes a
        sum that is rounded with it and without it: twice that.
        """
        times = 1 if self.unit == "silo" else 2
        return self.clip_norm - times * math.sqrt(self.dimension) * self.rounding * self.batch_size

    @property
    def share_variance(self) -> int:
        """Return v, the variance of one silo's noise in steps of the grid."""
        return max(9, math.ceil((self.noise_multiplier * self.sensitivity / self.grid) ** 2 / self.honest))

    @property
    def distance(self) -> float:
        """Return τ, of one release."""
        return distance_from_rounded_gaussian(self.dimension, self.share_variance, self.honest)

    @property
    def accounted_delta(self) -> float:
        """Return δ less the distance of all rounds from a Gaussian."""
        return self.delta - (1.0 + math.exp(min(self.epsilon, 700.0))) * self.rounds * self.distance

    @property
    def noise_allowance(self) -> int:
        """Return a bound of the noise in any entry of any round's sum, broken with probability below 2⁻⁴⁰.

        N_ℤ(0, v) is sub-Gaussian with parameter v (Canonne, Kamath and Steinke, corollary 17).
        """
        events = math.log(2) * (_TAIL_BITS + 1) + math.log(self.dimension) + math.log(self.rounds)
        return math.ceil(math.sqrt(2 * self.silos * self.share_variance * events))

    @property
    def signal_to_noise(self) -> float:
        """Return the largest ‖signal‖ / E‖noise‖ that a round's sum can have, when all silos stay.

        The signal is that of silos, or of `batch_size` units, that all point the same way at full clip norm.
        """
        full = self.silos if self.unit == "silo" else self.batch_size
        noise = self.grid * math.sqrt(self.silos * self.share_variance * self.dimension)
        return full * self.sensitivity / noise

    def round_event(self) -> Event:
        """Return the Gaussian mechanism that a round is priced as, at `accounted_delta`."""
        return PoissonGaussian(sampling_rate=self.sampling_rate, noise_multiplier=self.noise_multiplier, steps=1)

    def epsilon_after(self, rounds: int) -> float:
        """Return ε at the plan's δ after this many rounds (PLD, cached); 0 rounds cost 0."""
        accountant = PLDAccountant()
        accountant.spend(self.round_event(), rounds)
        return accountant.epsilon(self.accounted_delta)

    def as_json(self) -> dict[str, str | int]:
        """Return the plan as JSON without floats (decimal strings), ready to be canonicalised and signed."""
        return {
            each.name: to_decimal(getattr(self, each.name)) if each.name in _DECIMALS else getattr(self, each.name)
            for each in fields(self)
        }

    @classmethod
    def from_json(cls, tree: Mapping[str, object]) -> SharedPlan:
        """Read what `as_json` wrote; surplus, missing or mistyped keys are refused (`ValueError`)."""
        names = [each.name for each in fields(cls)]
        if set(tree) != set(names):
            raise ValueError(f"a plan of shared noise has exactly the keys {sorted(names)}, got {sorted(tree)}")
        numbers = {name: parse_decimal(tree[name]) for name in _DECIMALS}
        counts = {name: _integer(tree[name]) for name in ("rounds", "batch_size", "dimension", "silos", "honest")}
        return cls(**numbers, **counts, unit=str(tree["unit"]))  # type: ignore[arg-type]  # names are checked above

    def digest(self) -> str:
        """Return the SHA-256, in hex, of the plan's canonical JSON (RFC 8785: sorted ASCII keys, no white space)."""
        canonical = json.dumps(self.as_json(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return hashlib.sha256(canonical.encode()).hexdigest()


def distance_from_rounded_gaussian(dimension: int, variance: int, shares: int) -> float:
    """Return τ, which bounds the total variation between sums of `shares` N_ℤ(0, variance) and rounded normals.

    For `dimension` independent entries together; see the module. `variance` ≥ 9.
    """
    squared = float(shares * variance)
    std = math.sqrt(squared)
    added = dimension * (0.0202 / squared + 0.0832 / (squared * std))
    together = math.sqrt(2 * dimension) * (1 + 5 / std) / (24 * squared)
    of_shares = math.fsum(10 * math.exp(-2 * math.pi**2 * variance * k / (k + 1)) for k in range(1, shares))
    return min(added, together) + dimension * of_shares


def _integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise ValueError(f"expected an integer, got {value!r}")
    return value
