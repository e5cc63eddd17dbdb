"""Signal to noise: what noise leaves of the signal in the best case, known before anything is trained.

    a silo's step     b clipped gradients of one direction, ‖·‖ ≤ b·C, against E‖N(0, σ²C²·I_d)‖ ≈ σC√d
                      b = `silo.batch_size`, the plan's public word for what a silo draws on average: how many records
                      a silo holds is nobody's business, and this figure is printed and kept where all can read it
    the run           K silos of n steps: the signals add up, K·n·bC; the noises' squares do, √(K·n)·σC√d

Real gradients agree far less. Under shared noise one release is a round's sum, and the plan knows its ratio.
"""

import math
from dataclasses import dataclass

from fedcollm_privacy.plan import RecordPlan
from fedcollm_privacy.plans import TrainingPlan
from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure.config import Config
from fedcollm_secure.config.protection import RecordDP
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.adapter import Schema
from fedcollm_secure.learning.factors import Rule
from fedcollm_secure.learning.factors.layout import Layout

# Below it, noise is more than 99 % of the squared length of all that the run adds up, though every clipped gradient of
# every step and silo pointed one way: what is left is a random walk that an accuracy cannot tell from no training.
LEAST_OF_A_RUN = 0.1


@dataclass(frozen=True, kw_only=True)
class Signal:
    """The largest ‖signal‖ / E‖noise‖: of one `release`, a silo's step or a round's sum, and of the whole `run`."""

    release: float
    run: float

    @classmethod
    def of(cls, plan: TrainingPlan, *, trained: int, silos: int) -> "Signal":
        """Return both ratios; `trained` is d of a step, at its least. See the module."""
        match plan:
            case RecordPlan():
                release = plan.batch_size / (plan.noise_multiplier * math.sqrt(trained))
                releases = plan.steps_per_round * plan.rounds * silos
            case SharedPlan():  # all silos are in its one sum a round
                release, releases = plan.signal_to_noise, plan.rounds
        return cls(release=release, run=release * math.sqrt(releases))


def fewest_trained(schema: Schema, rule: Rule) -> int:
    """Return d of the round that trains the fewest parameters."""
    layout = Layout(schema=schema)
    return min(int(layout.mask(rule.trained(t)).sum()) for t in (1, 2))


def require_signal(config: Config, signal: Signal) -> None:
    """Refuse an ε whose noise leaves nothing to learn; who states the noise has decided, and is told by `check`.

    Raises:
        ConfigError: the whole run is noise.
    """
    privacy = config.privacy
    if not isinstance(privacy, RecordDP) or privacy.noise_multiplier is not None or signal.run >= LEAST_OF_A_RUN:
        return
    raise ConfigError(
        "privacy.record_dp.epsilon",
        f"the noise for epsilon {privacy.epsilon:g} would drown the whole run: if every clipped gradient of every step "
        f"and silo pointed one way, they would add up to {signal.run:.2g} times the noise, expected at least "
        f"{LEAST_OF_A_RUN:g}. Use a larger epsilon (0.5 to 8 is usual), more records in a silo and a larger "
        "batch_size, more steps, or fewer parameters (lora.rank, lora.targets); to see it all the same, state "
        "privacy.record_dp.noise_multiplier",
    )
