"""A run that died before round 0 was kept: no silo was asked for anything and nothing was spent, so it begins again."""

from contextlib import closing

from fedcollm_crypto.lines import InUse, Lines
from fedcollm_secure.audit_log.events import RoundStarted
from fedcollm_secure.audit_log.log import LOG_NAME, read_log
from fedcollm_secure.errors import RunError
from fedcollm_secure.federation.run_directory import RunDirectory


def clear_unbegun(run: RunDirectory) -> bool:
    """Take away what such a run left, and return whether it was one; every other run stays as it is.

    Raises: RunError where another process is at work on it; LogError for a log that was changed.
    """
    if run.holds_a_round:
        return False
    path = run.audit / LOG_NAME
    if path.exists():
        if any(isinstance(entry.event, RoundStarted) for entry in read_log(path).entries):
            return False  # what is missing was not lost in a crash
        try:
            with closing(Lines(path)):  # nobody else holds it
                run.clear()
        except InUse as error:
            raise RunError(f"{error}; wait for it, or end it") from error
    else:
        run.clear()
    return True
