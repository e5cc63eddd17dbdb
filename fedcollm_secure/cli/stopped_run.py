"""Signals, and the sentence that a run ends with when it is stopped by one, or by its disk: what is kept, how to go on.

SIGTERM, and SIGHUP of a terminal that closes, end a command as Ctrl-C does: files in the making are taken away, locks
given up, children ended. A second signal while that is done changes nothing.
"""

import json
import shlex
import signal
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

from fedcollm_secure.cli.failure import disk_failure
from fedcollm_secure.errors import DiskFailed, Interrupted

STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def stop_on_signals() -> None:
    """Let SIGTERM and SIGHUP be what Ctrl-C is, unless whoever started the program had them ignored (nohup)."""
    for number in STOPPING:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, _stop)


def _stop(number: int, _frame: FrameType | None) -> None:
    for each in STOPPING:
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt(signal.Signals(number).name)


@contextmanager
def telling_how_to_go_on(config: Path, out: Path, changes: Sequence[str]) -> Generator[None]:
    """Turn a signal or a failing disk in the block into an error that says what of the run in `out` is kept.

    Raises: Interrupted, DiskFailed.
    """
    try:
        yield
    except KeyboardInterrupt as stopped:
        by = str(stopped) or "SIGINT"
        raise Interrupted(f"stopped by {by}. {_kept(config, out, changes)}") from None
    except Exception as error:
        failed = disk_failure(error)
        if failed is None:
            raise
        raise DiskFailed(failed.where, f"{failed}. {_kept(config, out, changes)}") from error


def _kept(config: Path, out: Path, changes: Sequence[str]) -> str:
    """Say what is kept and what to type."""
    sets = "".join(f" --set {shlex.quote(change)}" for change in changes)
    again = f"fedcollm-secure run {shlex.quote(str(config))}{sets} --out {shlex.quote(str(out))}"
    if not (out / "config.yaml").is_file():
        return f"Nothing was begun in {out}. Start again with: {again}"
    if _sealed(out):
        return f"The run itself is finished and sealed. Write its page with: fedcollm-secure report {out}"
    rounds = _complete_rounds(out)
    kept = "No round was complete" if rounds is None else f"{rounds} complete rounds are kept in {out}"
    return f"{kept}. Go on with: {again} --resume"


def _complete_rounds(out: Path) -> int | None:
    """Return how many rounds are kept; None where not even round 0 was scored. Reading only: the disk may be full."""
    try:
        state = json.loads((out / "adapters" / "state.json").read_bytes())
        return int(state["round"])
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _sealed(out: Path) -> bool:
    """Return whether the summary names the log's last head: nothing but the page comes after."""
    try:
        return "log" in json.loads((out / "summary.json").read_bytes())
    except (OSError, ValueError, TypeError):
        return False
