"""The command line: read arguments, call one function of a room, print. Errors are caught here, once.

Exit codes: 0 done or verified · 1 what was checked failed · 2 usage or configuration, nothing started ·
3 incomplete, resumable · 4 refused by a privacy budget or a silo's policy.
"""

import argparse
import io
import os
import sys
import traceback
from collections.abc import Callable, Sequence

from fedcollm_secure.cli import output
from fedcollm_secure.cli.failure import failure_of, internal
from fedcollm_secure.cli.parser import make_parser
from fedcollm_secure.cli.stopped_run import stop_on_signals
from fedcollm_secure.errors import Interrupted


def entry() -> None:
    """Leave with the command's exit code."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a foreign name may hold what no terminal can show
    stop_on_signals()
    sys.exit(main(sys.argv[1:]))


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code; under `--json` stdout gets exactly one document, whatever happens."""
    as_json = _asks_for_json(arguments)
    try:
        given = make_parser().parse_args(arguments)
        _quiet_libraries()
        command: Callable[[argparse.Namespace], int] = given.command
        return command(given)
    except KeyboardInterrupt:
        return _fail(Interrupted("stopped. What was finished is kept; the same command goes on"), as_json)
    except Exception as error:  # noqa: BLE001 - once, here, so that no traceback is all that a script gets
        return _fail(error, as_json)


def _fail(error: Exception, as_json: bool) -> int:
    failed = failure_of(error)
    if failed is None:
        failed = internal(error)
        traceback.print_exception(error)
    output.failure(failed, as_json)
    return failed.exit_code


def _asks_for_json(arguments: Sequence[str]) -> bool:
    """Return whether `--json` is among the options, before they are read: a usage error is told in JSON as well."""
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return any(len(option) > 2 and "--json".startswith(option) for option in options)


def _quiet_libraries() -> None:
    """Keep other libraries' progress bars and notices out of our stderr, and idle threads off a shared machine."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


__all__ = ["entry", "main", "make_parser"]
