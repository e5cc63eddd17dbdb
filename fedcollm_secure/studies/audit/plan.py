"""The configuration that is audited: the file's own, but for the claim, and cut to what an audit needs."""

from dataclasses import replace

from fedcollm_secure.config import Config
from fedcollm_secure.config.protection import NonPrivate, RecordDP, SiloDP
from fedcollm_secure.errors import ConfigError

ROUNDS, ROUNDS_OF_ONE_STEP = 2, 4
LEARNING_RATE = 1.0


def audited_config(config: Config, claimed: float) -> Config:
    """Return the configuration with noise calibrated to `claimed`, few rounds, and silos that descend plainly.

    Plain gradient descent hides nothing of the noisy sums: the guarantee holds for every optimiser, so an audit takes
    the one that shows most.

    Raises:
        ConfigError: the file has no privacy, whose sampling rate, clip norm and δ the claim is about; or ε ≤ 0.
    """
    privacy = config.privacy
    if isinstance(privacy, NonPrivate):
        raise ConfigError("privacy", "expected record_dp or silo_dp: else there is no claim to audit")
    if not 0 < claimed < float("inf"):
        raise ConfigError("--claimed", f"expected a positive number, got {claimed}")
    silo = replace(
        config.silo,
        optimizer="sgd",
        learning_rate=LEARNING_RATE,
        weight_decay=0.0,
        schedule="constant",
        warmup_steps=0,
    )
    rounds = min(config.rounds, ROUNDS if config.silo.steps != 1 else ROUNDS_OF_ONE_STEP)
    return replace(
        config,
        privacy=_claiming(privacy, claimed),
        silo=silo,
        rounds=rounds,
        evaluate=replace(config.evaluate, every=rounds),
    )


def _claiming(privacy: RecordDP | SiloDP, claimed: float) -> RecordDP | SiloDP:
    """Return the privacy with noise for the claim; an audit need not learn anything, so no noise is too much."""
    if isinstance(privacy, SiloDP):
        return replace(privacy, epsilon=claimed, least_signal_to_noise=0.0)
    return replace(privacy, epsilon=claimed, noise_multiplier=None)
