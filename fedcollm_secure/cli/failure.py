"""What a command that failed tells: a sentence for a person, one document for a script, and the exit code.

    {"error": {"code", "key", "message", "remedy"}}

`code` is one word for each kind of error, and stays. `key` is the configuration key, option or file at fault, empty
where there is none. Messages hold nothing private: an error of ours that nobody foresaw is told by its type alone.
"""

import errno
import os
from collections.abc import Mapping
from dataclasses import dataclass

from fedcollm_secure.errors import (
    ConfigError,
    DiskFailed,
    FedCoLLMError,
    Interrupted,
    LogError,
    NotStarted,
    RefusedByPolicy,
    RunError,
    RunIncomplete,
    TrainingError,
)

USAGE_REMEDY = "read the command's --help"
INTERNAL_REMEDY = "report it with the lines on stderr, which may name your files; what a run has kept can be resumed"
DISK_REMEDY = "make room, or the place writable again, then call the command again; a run with --out RUN --resume"


@dataclass(frozen=True, kw_only=True)
class Failure:
    """Why a command failed: `message` is what went wrong, `remedy` what to do in general, `usage` how to type it."""

    code: str
    exit_code: int
    message: str
    remedy: str
    key: str = ""
    usage: str = ""

    def document(self) -> Mapping[str, object]:
        """Return what `--json` prints."""
        return {"error": {"code": self.code, "key": self.key, "message": self.message, "remedy": self.remedy}}


class UsageError(FedCoLLMError):
    """A command line that cannot be read: nothing was started."""

    exit_code = 2

    def __init__(self, message: str, usage: str, key: str = "") -> None:
        """Keep how the command is typed, and the argument at fault where one is named."""
        super().__init__(message)
        self.usage = usage
        self.key = key


_OF_CORE: tuple[tuple[type[FedCoLLMError], str, str], ...] = (
    (UsageError, "usage", USAGE_REMEDY),
    (ConfigError, "configuration", "correct what `key` names; `check CONFIG` tells of more without training"),
    (NotStarted, "not_started", "name another folder with --out, or the run's own with --resume"),
    (Interrupted, "interrupted", "go on where it stopped: a run with --out RUN --resume"),
    (DiskFailed, "disk", DISK_REMEDY),
    (RunIncomplete, "incomplete", "remove the reason, then go on with `run CONFIG --out RUN --resume`"),
    (RefusedByPolicy, "refused", "keep the model of the last complete round; more needs a larger budget"),
    (TrainingError, "training_failed", "lower the learning rate, or look for broken records"),
    (LogError, "log_does_not_verify", "trust nothing after the entry that is named; ask the log's keeper"),
    (RunError, "run_unreadable", "restore the file that is named from a copy, or take another run"),
    (FedCoLLMError, "failed", "see the message"),
)
"""Kind, code and remedy; the first that fits counts."""


def failure_of(error: Exception) -> Failure | None:
    """Return what is told of an error of the world; None for one that nobody foresaw."""
    if isinstance(error, ConfigError | UsageError):
        return _of_core(error)
    if (failed := disk_failure(error)) is not None:
        return _of_core(failed)
    return _of_core(error) if isinstance(error, FedCoLLMError) else _of_rooms(error)


def internal(error: Exception) -> Failure:
    """Return what is told of an error that nobody foresaw: its type, since its text may hold anything."""
    message = f"an error of this program, not of yours: {type(error).__name__}"
    return Failure(code="internal", exit_code=1, message=message, remedy=INTERNAL_REMEDY)


def _of_core(error: FedCoLLMError) -> Failure:
    code, remedy = next((code, remedy) for kind, code, remedy in _OF_CORE if isinstance(error, kind))
    return Failure(
        code=code,
        exit_code=error.exit_code,
        message=error.diagnostics(),
        remedy=remedy,
        key=_key(error),
        usage=error.usage if isinstance(error, UsageError) else "",
    )


def _key(error: FedCoLLMError) -> str:
    match error:
        case ConfigError(where=where) | DiskFailed(where=where):
            return where
        case UsageError(key=key):
            return key
        case _:
            return ""


def _of_rooms(error: Exception) -> Failure | None:
    """Return what is told of an error of the crypto or the privacy room; imported late, as every room is here."""
    from fedcollm_crypto.errors import CryptoError, ProtocolError, Refused, TooFewSilos
    from fedcollm_crypto.lines import InUse
    from fedcollm_privacy.errors import BudgetExhausted, LedgerError, PrivacyError

    kinds: tuple[tuple[type[CryptoError | PrivacyError], str, int, str], ...] = (
        (TooFewSilos, "too_few_silos", 1, "start again when more silos answer"),
        (Refused, "silo_refused", 1, "ask the silo's owner; its reason is in the message"),
        (ProtocolError, "protocol_violation", 1, "find out who sent it before you try again"),
        (CryptoError, "cryptography", 1, "see the message"),
        (BudgetExhausted, "budget_exhausted", 4, "keep the last paid model, or open a ledger with a larger budget"),
        (LedgerError, "ledger", 1, "restore the ledger from a copy, or end its other user; it is never edited"),
        (PrivacyError, "privacy", 1, "see the message"),
    )
    if isinstance(error, InUse):
        remedy = "end the other process, or wait for it"
        return Failure(code="in_use", exit_code=2, message=str(error), remedy=remedy)
    for kind, code, exit_code, remedy in kinds:
        if isinstance(error, kind):
            return Failure(code=code, exit_code=exit_code, message=error.diagnostics(), remedy=remedy)
    return None


def disk_failure(error: Exception) -> DiskFailed | None:
    """Return in words what a disk did, whichever write or read met it; None for another error.

    A room that writes of its own says so in an error of its own, whose cause is the system's.
    """
    from safetensors import SafetensorError

    from fedcollm_crypto.durable import NotWritten
    from fedcollm_privacy.errors import LedgerError

    match error:
        case DiskFailed():
            return error
        case NotWritten():
            return DiskFailed(_where(error), str(error))
        case OSError():
            where = _where(error)
            why = error.strerror or str(error)
            return DiskFailed(where, f"{where or 'a file'} could not be read or written: {why}")
        case SafetensorError() if "I/O error" in str(error):  # weights are written by a library with errors of its own
            return DiskFailed("", f"weights could not be written: {error}")
        case RunError(__cause__=OSError() as cause) | LedgerError(__cause__=OSError() as cause) if _of_a_write(cause):
            return DiskFailed(_where(cause), str(error))
        case _:
            return None


def _of_a_write(cause: OSError) -> bool:
    """Return whether the disk is at fault, and not what somebody asked it for."""
    from fedcollm_crypto.durable import NotWritten

    disk = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ENODEV, errno.ESTALE, errno.ENXIO, errno.EFBIG)
    return isinstance(cause, NotWritten) or cause.errno in disk


def _where(error: OSError) -> str:
    """Return the file that the system named, empty where it named none."""
    from fedcollm_crypto.durable import NotWritten

    if isinstance(error, NotWritten):
        return str(error).partition(" could not be written")[0]
    return "" if error.filename is None else os.fsdecode(error.filename)
