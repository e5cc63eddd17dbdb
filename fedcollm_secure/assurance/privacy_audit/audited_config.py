"""The configuration that is audited: the file's own but for the claim, and for less work after each sum."""

from dataclasses import replace

from fedcollm_secure.config import Config
from fedcollm_secure.config.protection import NonPrivate, RecordDP, SiloDP
from fedcollm_secure.errors import ConfigError

DISTILL_STEPS = 2


def audited_config(config: Config, claimed: float) -> Config:
    """Return the configuration with noise calibrated to `claimed`: optimiser, schedule and rounds stay as they are.

    The server's own steps read the sum, public data and its own randomness: two of them show as much as many.

    Raises:
        ConfigError: the file has no privacy, whose sampling rate, clip norm and δ the claim is about; or ε ≤ 0.
    """
    privacy = config.privacy
    if isinstance(privacy, NonPrivate):
        raise ConfigError("privacy", "expected record_dp or silo_dp: else there is no claim to audit")
    if not 0 < claimed < float("inf"):
        raise ConfigError("--claimed", f"expected a positive number, got {claimed}")
    return replace(
        config,
        privacy=_claiming(privacy, claimed),
        distill=replace(config.distill, steps=min(config.distill.steps, DISTILL_STEPS)),
        evaluate=replace(config.evaluate, every=config.rounds, own=0.0, own_epsilon=0.0),
    )


def _claiming(privacy: RecordDP | SiloDP, claimed: float) -> RecordDP | SiloDP:
    """Return the privacy with noise for the claim; an audit need not learn anything, so no noise is too much."""
    if isinstance(privacy, SiloDP):
        return replace(privacy, epsilon=claimed, least_signal_to_noise=0.0)
    return replace(privacy, epsilon=claimed, noise_multiplier=None)
