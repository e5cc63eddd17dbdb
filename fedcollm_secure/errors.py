"""What can go wrong in the world, as opposed to a caller's mistake (`ValueError`, `TypeError`, `RuntimeError`).

The command line catches `FedCoLLMError` and the rooms' own `CryptoError` and `PrivacyError` once, prints
`diagnostics()` and leaves with the exit code that scripts rely on.
"""


def printable(text: str) -> str:
    """Return a foreign text as it can be printed: what is no letter, and what is no text at all, is spelt out."""
    return "".join(letter if letter.isprintable() else ascii(letter)[1:-1] for letter in text)


class FedCoLLMError(Exception):
    """Carry a message that says what, expected, got, and what to do."""

    exit_code = 1

    def diagnostics(self) -> str:
        """Return the explanation that a person reads, possibly over several lines."""
        return str(self)


class ConfigError(FedCoLLMError):
    """A configuration, a data file or a model that cannot be used: nothing was started."""

    exit_code = 2

    def __init__(self, where: str, message: str) -> None:
        """Name the key or file `where` the fault lies, e.g. `privacy.record_dp.epsilon`."""
        super().__init__(f"{where}: {message}" if where else message)
        self.where = where


class DataError(ConfigError):
    """A cell of somebody's records that cannot be used: the message describes it, and never shows it.

    `private` is what stands there. It is no part of the message; `--show-values` prints it.
    """

    def __init__(self, where: str, message: str, *private: str) -> None:
        """Keep the cells apart from the message."""
        super().__init__(where, message)
        self.private = private


class TrainingError(FedCoLLMError):
    """Training cannot go on: a loss that is not finite, or weights that did not move."""


class RunError(FedCoLLMError):
    """A run that cannot be read, resumed or closed."""


class NotStarted(RunError):
    """Nothing was started: the folder that was given is taken, holds no such run, or holds another one."""

    exit_code = 2


class RunIncomplete(RunError):
    """A run that stopped before its end; what it had done is kept and can be resumed."""

    exit_code = 3


class Interrupted(FedCoLLMError):
    """Somebody, or the machine, asked the program to stop: by Ctrl-C, SIGTERM or a closed terminal."""

    exit_code = 3


class DiskFailed(FedCoLLMError):
    """A disk that is full, over its quota, read-only or gone: nothing half-written was left, nothing went on."""

    exit_code = 3

    def __init__(self, where: str, message: str) -> None:
        """Name the file or folder `where` it happened, empty where nobody knows."""
        super().__init__(message)
        self.where = where


class RefusedByPolicy(FedCoLLMError):
    """A silo's policy or privacy budget says no."""

    exit_code = 4


class LogError(FedCoLLMError):
    """The audit log does not verify.

    `first_bad` is the index of the first bad entry, or None when the log as a whole is at fault. What a foreign file
    says stands in the reason as it can be printed: no file tells a terminal what to do.
    """

    def __init__(self, reason: str, first_bad: int | None = None) -> None:
        """Keep the index apart from the reason, so that `verify --json` can show both."""
        reason = printable(reason)
        super().__init__(reason if first_bad is None else f"entry {first_bad}: {reason}")
        self.reason = reason
        self.first_bad = first_bad
