"""How many silos a consortium needs, by its policy."""

from fedcollm_crypto.masking.manifest import threshold
from fedcollm_crypto.note import MAX_SIGNATURES
from fedcollm_secure.config import Config
from fedcollm_secure.config.protection import Ckks, Encrypted, UnsafePlain
from fedcollm_secure.errors import ConfigError

SERVER = "server"


def check_cohort(config: Config, silos: tuple[str, ...]) -> None:
    """Refuse a consortium that is too small for what `security` promises.

    Raises:
        ConfigError: too few silos, more than can cosign one head of the log, or a silo with the server's name.
    """
    if SERVER in map(str.casefold, silos):
        raise ConfigError("data.silos", f"no silo can be called {SERVER!r}; choose another name")
    _check_decryptor(config, silos)
    least = least_cohort(config)
    if len(silos) < least:
        raise ConfigError(
            "security.min_cohort",
            f"expected at least {least} silos, got {len(silos)}: the sum of fewer hides nobody. Add silos, or with "
            "two of them say security: {allow_two_party: true, min_cohort: 2, colluding: 0}",
        )
    lines = 2 if config.security.post_quantum else 1  # under a head, of each silo and of the keeper
    if lines * (len(silos) + 1) > MAX_SIGNATURES:
        raise ConfigError(
            "data.silos",
            f"expected at most {MAX_SIGNATURES // lines - 1} silos, got {len(silos)}: no more can cosign one head of "
            "the log, and a head that not all can sign protects none",
        )
    if isinstance(config.aggregation, UnsafePlain):
        return
    colluding = config.security.colluding
    if len(silos) < colluding + 2 or needed_to_finish(config, len(silos)) > len(silos):
        raise ConfigError(
            "security.colluding",
            f"expected at most {max(0, len(silos) - 2)} with {len(silos)} silos, got {colluding}: two honest ones must "
            "remain, or there is nothing to hide among. Add silos, or with two of them say colluding: 0",
        )


def _check_decryptor(config: Config, silos: tuple[str, ...]) -> None:
    aggregation = config.aggregation
    if isinstance(aggregation, Encrypted) and aggregation.decryptor.casefold() in (SERVER, *map(str.casefold, silos)):
        raise ConfigError(
            "aggregation.decryptor",
            f"expected a name that neither the server nor a silo has, got {aggregation.decryptor!r}: whoever runs it, "
            "the decryptor signs with a key of its own",
        )
    if isinstance(aggregation, Ckks) and config.security.post_quantum:
        raise ConfigError(
            "security.post_quantum",
            "ckks seals ciphertexts to the decryptor with X25519 alone; use bfv, whose masks have this profile",
        )


def least_cohort(config: Config) -> int:
    """Return k_min, the fewest silos whose sum may be released."""
    if not isinstance(config.aggregation, UnsafePlain):
        return max(2, config.security.min_cohort)
    return 2


def needed_to_finish(config: Config, silos: int) -> int:
    """Return t, how many silos must stay to the end of a round for its sum to come out."""
    if isinstance(config.aggregation, UnsafePlain):
        return least_cohort(config)
    return max(threshold(silos, config.security.colluding, config.security.adversary), least_cohort(config))


def surely_honest(config: Config, silos: int) -> int:
    """Return h, the silos in every sum whose noise nobody else knows: the fewest that finish, less those in league.

    At least one is taken off: every silo knows its own noise, and sees the mean.
    """
    return needed_to_finish(config, silos) - max(1, config.security.colluding)
