"""Hold the end of a log against the configuration: it finishes after all rounds, or after a line that says why before.

run_finished    as many rounds are closed as config.yaml asks for; or fewer, and a run_stopped stands behind the last
                one that was closed, with no run_resumed after it
"""

import re
from collections.abc import Sequence

from fedcollm_secure.audit_log.events import RoundClosed, RunFinished, RunResumed, RunStopped
from fedcollm_secure.audit_log.log_entry import Entry
from fedcollm_secure.errors import LogError

_ROUNDS = re.compile(r"rounds: ([1-9][0-9]{0,8})", re.ASCII)


def check_end(entries: Sequence[Entry], config: str) -> None:
    """Hold a log that is finished against config.yaml, whose form `asked_gates` checked. Raises: LogError."""
    if not entries or not isinstance(entries[-1].event, RunFinished):
        return
    rounds, index = asked_rounds(config), entries[-1].index
    closed, stopped = 0, False
    for entry in entries:
        closed += isinstance(entry.event, RoundClosed)
        if isinstance(entry.event, RoundClosed | RunResumed | RunStopped):
            stopped = isinstance(entry.event, RunStopped)
    if closed != rounds and not (closed < rounds and stopped):
        raise LogError(
            f"the run finished after {closed} rounds, config.yaml asks for {rounds}, and it did not stop", index
        )


def asked_rounds(config: str) -> int:
    """Return how many rounds a config.yaml asks for, as a run writes it. Raises: LogError where it does not say."""
    said = [line for line in config.split("\n") if line.split(":")[0] == "rounds"]
    found = [_ROUNDS.fullmatch(line) for line in said]
    if len(found) != 1 or found[0] is None:
        raise LogError("config.yaml: rounds stands there once, as a run writes it", 0)
    return int(found[0][1])
