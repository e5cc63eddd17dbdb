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

from fedcollm_secure.cli.parser import make_parser
from fedcollm_secure.errors import DataError, FedCoLLMError


def entry() -> None:
    """Leave with the command's exit code; a reader that went away, such as `head`, is no error."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a foreign name may hold what no terminal can show
    try:
        code = main(sys.argv[1:])
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # nothing is left to flush at exit
        code = 0
    except Exception as error:  # noqa: BLE001 - a fault of ours, told without what it may have read
        code = _fail(_crash(error, sys.argv), 1)
    sys.exit(code)


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    parser = make_parser()
    given = parser.parse_args(arguments)
    _quiet_libraries()
    _hear_warnings()
    command: Callable[[argparse.Namespace], int] = given.command
    try:
        return command(given)
    except FedCoLLMError as error:
        return _fail(error.diagnostics() + _values(error, given), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted; complete rounds are kept, go on with --resume", 3)
    except Exception as error:
        if code := _room_exit_code(error):
            return _fail(str(error), code)
        raise


def _crash(error: Exception, arguments: Sequence[str]) -> str:
    """Return where a fault of ours came up; what it says may hold a cell of somebody's records, and is asked for."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    said = f": {error}" if "--show-values" in arguments else ", whose message may be private; --show-values prints it"
    return f"a fault of this program; these lines can be reported:\nTraceback\n{frames}{type(error).__name__}{said}"


def _fail(text: str, code: int) -> int:
    print(f"fedcollm-secure: {text}", file=sys.stderr)
    return code


def _values(error: FedCoLLMError, given: argparse.Namespace) -> str:
    """Return what stands in the cells that an error is about, for whoever asks for it; else say how to ask."""
    if not isinstance(error, DataError):
        return ""
    if not getattr(given, "show_values", False):
        return " (what stands there is private; --show-values prints it)"
    return f"\n  there stands: {', '.join(map(repr, error.private))}"


def _room_exit_code(error: Exception) -> int:
    """Return the exit code of an error of the crypto or privacy room, or of a full disk; 0 for anything else."""
    from fedcollm_crypto.durable import NotWritten
    from fedcollm_crypto.errors import CryptoError
    from fedcollm_privacy.errors import BudgetExhausted, PrivacyError

    if isinstance(error, BudgetExhausted):
        return 4
    if isinstance(error, NotWritten):
        return 3
    return 1 if isinstance(error, CryptoError | PrivacyError) else 0


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
