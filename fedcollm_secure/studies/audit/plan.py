"""The configuration that is audited: the file's own, but for the claim, and cut to what an audit needs."""

from dataclasses import replace

from fedcollm_secure.config import Config
from fedcollm_secure.config.protection import RecordDP
from fedcollm_secure.errors import ConfigError

ROUNDS = 2
LEARNING_RATE = 1.0


def audited_config(config: Config, claimed: float) -> Config:
    """Return the configuration with noise calibrated to `claimed`, at most two rounds, and silos that descend plainly.

    Plain gradient descent hides nothing of the noisy sums: the guarantee holds for every optimiser, so an audit takes
    the one that shows most.

    Raises:
        ConfigError: the file has no record_dp, whose sampling rate, clip norm and δ the claim is about; or ε ≤ 0.
    """
    privacy = config.privacy
    if not isinstance(privacy, RecordDP):
        raise ConfigError("privacy", "expected record_dp: without differential privacy there is no claim to audit")
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
    rounds = min(config.rounds, ROUNDS)
    return replace(
        config,
        privacy=replace(privacy, epsilon=claimed, noise_multiplier=None),
        silo=silo,
        rounds=rounds,
        evaluate=replace(config.evaluate, every=rounds),
    )
