"""The command line: read arguments, call one function of a room, print. Errors are caught here, once.

Exit codes: 0 done or verified · 1 what was checked failed · 2 usage or configuration, nothing started ·
3 incomplete, resumable · 4 refused by a privacy budget or a silo's policy.
"""

import argparse
import io
import logging
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace

from fedcollm_secure.cli import output
from fedcollm_secure.cli.failure import failure_of, internal
from fedcollm_secure.cli.parser import make_parser
from fedcollm_secure.cli.stopped_run import stop_on_signals
from fedcollm_secure.errors import DataError, Interrupted


def entry() -> None:
    """Leave with the command's exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a foreign name may hold what no terminal can show
    stop_on_signals()
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; under `--json` stdout gets exactly one document, whatever happens."""
    as_json, show_values = _asks_for_json(arguments), "--show-values" in arguments
    try:
        given = make_parser().parse_args(arguments)
        _quiet_libraries()
        _hear_warnings()
        command: Callable[[argparse.Namespace], int] = given.command
        return command(given)
    except KeyboardInterrupt:
        return _fail(Interrupted("stopped. What was finished is kept; the same command goes on"), as_json, show_values)
    except Exception as error:  # noqa: BLE001 - once, here, so that no traceback is all that a script gets
        return _fail(error, as_json, show_values)


def _fail(error: Exception, as_json: bool, show_values: bool) -> int:
    failed = failure_of(error)
    if failed is None:
        failed = internal(error)
        output.say(_crash(error, show_values))
    elif isinstance(error, DataError):
        failed = replace(failed, message=failed.message + _values(error, show_values))
    output.failure(failed, as_json)
    return failed.exit_code


def _crash(error: Exception, show_values: bool) -> str:
    """Return where a fault of ours came up; what it says may hold a cell of somebody's records, and is asked for."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    said = f": {error}" if show_values else ", whose message may be private; --show-values prints it"
    return f"a fault of this program; these lines can be reported:\nTraceback\n{frames}{type(error).__name__}{said}"


def _values(error: DataError, show_values: bool) -> str:
    """Return what stands in the cells that an error is about, for whoever asks for it; else say how to ask."""
    if not show_values:
        return " (what stands there is private; --show-values prints it)"
    return f"\n  there stands: {', '.join(map(repr, error.private))}"


def _asks_for_json(arguments: Sequence[str]) -> bool:
    """Return whether `--json` is among the options, before they are read: a usage error is told in JSON as well."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return any(len(option) > 2 and "--json".startswith(option) for option in options)


def _hear_warnings() -> None:
    """Print what our own rooms warn of, a line each, on stderr."""
    logger = logging.getLogger("fedcollm_secure")
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("fedcollm-secure: warning: %(message)s"))
    logger.handlers = [handler]


def _quiet_libraries() -> None:
    """Keep other libraries' progress bars and notices out of our stderr, and idle threads off a shared machine."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


__all__ = ["entry", "main", "make_parser"]
