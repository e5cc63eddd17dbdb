"""From `config.privacy` to a plan: noise of each silo's own, or one that they share, and the ring that holds it."""

from fedcollm_crypto.fixedpoint import FixedPoint
from fedcollm_crypto.homomorphic.packing import Packing, bfv_packing, ckks_packing
from fedcollm_crypto.homomorphic.parameters import Lattice
from fedcollm_privacy.accountant import PLDAccountant
from fedcollm_privacy.event import PoissonGaussian
from fedcollm_privacy.plan import RecordPlan
from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure.assemble.cohort_size import surely_honest
from fedcollm_secure.config import Config
from fedcollm_secure.config.protection import Bfv, Encrypted, NonPrivate, PerSubject, RecordDP, SiloDP
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.factors import Pass, Rule

LARGEST_WEIGHT = 2**20  # records of one silo that `weighting: examples` can count
_FLOAT32 = 2.0**-23  # an entry of magnitude up to 1 is this close to its float32, and more


def make_plan(config: Config) -> RecordPlan | None:
    """Return the silos' DP-SGD plan, calibrated unless the configuration states the noise.

    A stated noise may cost more than the budget over all rounds: the ledger then stops the silo where ε runs out.

    Raises:
        ConfigError: no noise reaches the target.
    """
    privacy, steps = config.privacy, config.silo.steps
    if not isinstance(privacy, RecordDP) or privacy.noise == "joint" or steps is None:
        return None
    unit = "subject" if isinstance(privacy.unit, PerSubject) else "record"
    try:
        if privacy.noise_multiplier is None:
            return RecordPlan.calibrated(
                epsilon=privacy.epsilon,
                delta=privacy.delta,
                clip_norm=privacy.clip_norm,
                sampling_rate=privacy.sampling_rate,
                steps_per_round=steps,
                rounds=config.rounds,
                batch_size=config.silo.batch_size,
                unit=unit,
            )
        return RecordPlan(
            epsilon=_epsilon_of(privacy, privacy.noise_multiplier, steps * config.rounds),
            delta=privacy.delta,
            clip_norm=privacy.clip_norm,
            sampling_rate=privacy.sampling_rate,
            noise_multiplier=privacy.noise_multiplier,
            steps_per_round=steps,
            rounds=config.rounds,
            batch_size=config.silo.batch_size,
            unit=unit,
        )
    except ValueError as error:
        raise ConfigError("privacy.record_dp", str(error)) from error


def make_shared_plan(config: Config, rule: Rule, silos: int) -> SharedPlan | None:
    """Return the plan of noise in shares, calibrated for the fewest honest silos that a sum can have.

    Raises:
        ConfigError: no noise reaches the target, the grid is too coarse, or the noise would drown the signal.
    """
    privacy, grid = config.privacy, config.aggregation.clip / (2 ** (config.aggregation.bits - 1) - 1)
    match privacy:
        case SiloDP():
            unit, rate, batch_size, where = "silo", 1.0, 1, "privacy.silo_dp"
        case RecordDP(noise="joint"):
            unit = "subject" if isinstance(privacy.unit, PerSubject) else "record"
            rate, batch_size, where = privacy.sampling_rate, config.silo.batch_size, "privacy.record_dp"
        case _:
            return None
    try:
        plan = SharedPlan.calibrated(
            epsilon=privacy.epsilon,
            delta=privacy.delta,
            clip_norm=privacy.clip_norm,
            sampling_rate=rate,
            rounds=config.rounds,
            batch_size=batch_size,
            unit=unit,
            grid=grid,
            rounding=grid / 2 + config.aggregation.clip * _FLOAT32,
            dimension=max(rule.length(Pass(round=t)) for t in (1, 2)),
            silos=silos,
            honest=surely_honest(config, silos),
        )
    except ValueError as error:
        raise ConfigError(where, str(error)) from error
    if isinstance(privacy, SiloDP):
        _check_signal(privacy, plan)
    return plan


def _check_signal(privacy: SiloDP, plan: SharedPlan) -> None:
    """Refuse noise that drowns whatever the silos could say."""
    if plan.signal_to_noise < privacy.least_signal_to_noise:
        raise ConfigError(
            "privacy.silo_dp",
            f"the noise would drown the updates: with {plan.silos} silos, {plan.dimension:,} parameters and epsilon "
            f"{plan.epsilon:g} the signal of a round is at most {plan.signal_to_noise:.3g} times its noise, expected "
            f"at least {privacy.least_signal_to_noise:g}. Use record_dp, which protects the people in the data; or "
            "more silos, fewer rounds, fewer parameters (lora.rank, lora.targets) or a larger epsilon",
        )


def make_encoding(config: Config, silos: int, noise_allowance: int = 0) -> FixedPoint:
    """Return the smallest ring that holds every possible sum, the noise in it included.

    Raises:
        ConfigError: no ring does; the message says by how much.
    """
    grid, weight = config.aggregation, 1 if config.silo.weighting == "uniform" else LARGEST_WEIGHT
    try:
        return FixedPoint.smallest_ring(
            clip=grid.clip, bits=grid.bits, max_weight=weight, max_silos=silos, noise_allowance=noise_allowance
        )
    except ValueError as error:
        raise ConfigError("aggregation", str(error)) from error


def make_packing(config: Config, encoding: FixedPoint, silos: int) -> Packing | None:
    """Return how sums lie in ciphertexts, with the fewest bytes; None where nothing is encrypted.

    Raises:
        ConfigError: a lattice of less than 128 bits, or one without room for the sum and its noise.
    """
    aggregation = config.aggregation
    if not isinstance(aggregation, Encrypted):
        return None
    try:
        lattice = Lattice(degree=aggregation.degree, primes=aggregation.primes)
        if isinstance(aggregation, Bfv):
            return bfv_packing(largest=encoding.largest_sum, silos=silos, lattice=lattice)
        return ckks_packing(largest=encoding.largest_sum, silos=silos, lattice=lattice)
    except ValueError as error:
        raise ConfigError("aggregation", str(error)) from error


def check_delta(config: Config, units: int) -> None:
    """Refuse a δ of 1/`units` or more: publishing one unit outright, drawn at random, is (0, 1/units)-DP.

    How many units a silo holds is private, so the message does not say it. That a job is not refused tells that every
    silo holds fewer than 1/δ.

    Raises:
        ConfigError: δ is too large.
    """
    privacy = config.privacy
    if isinstance(privacy, NonPrivate) or privacy.delta * units < 1:
        return
    where = "privacy.silo_dp.delta" if isinstance(privacy, SiloDP) else "privacy.record_dp.delta"
    raise ConfigError(
        where,
        f"expected less than 1 in the number of units (records, persons or silos) of each silo's data, got "
        f"{privacy.delta:g}: at that a run could publish one of them outright and keep its promise. Use 1e-5, or less",
    )


def ledger_budget(config: Config) -> tuple[float, float]:
    """Return (ε, δ) of a silo's ledger: training's, and what it may spend on a score of its own.

    They are added, though a record lies on one side only: its side changes with the seed and the share of a later run.
    """
    own = config.evaluate.own_epsilon
    if isinstance(config.privacy, NonPrivate):
        return own, 0.0
    return config.privacy.epsilon + own, config.privacy.delta


def _epsilon_of(privacy: RecordDP, noise_multiplier: float, steps: int) -> float:
    accountant = PLDAccountant()
    event = PoissonGaussian(sampling_rate=privacy.sampling_rate, noise_multiplier=noise_multiplier, steps=steps)
    accountant.spend(event)
    return accountant.epsilon(privacy.delta)
