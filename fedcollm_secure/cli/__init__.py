"""The command line: read arguments, call one function of a room, print. Errors are caught here, once.

Exit codes: 0 done or verified · 1 what was checked failed · 2 usage or configuration, nothing started ·
3 incomplete, resumable · 4 refused by a privacy budget or a silo's policy.
"""

import argparse
import io
import os
import sys
from collections.abc import Callable, Sequence

from fedcollm_secure.cli.parser import make_parser
from fedcollm_secure.errors import FedCoLLMError


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
    sys.exit(code)


def main(arguments: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    parser = make_parser()
    given = parser.parse_args(arguments)
    _quiet_libraries()
    command: Callable[[argparse.Namespace], int] = given.command
    try:
        return command(given)
    except FedCoLLMError as error:
        return _fail(error.diagnostics(), error.exit_code)
    except KeyboardInterrupt:
        return _fail("interrupted; complete rounds are kept, go on with --resume", 3)
    except Exception as error:
        if code := _room_exit_code(error):
            return _fail(str(error), code)
        raise


def _fail(text: str, code: int) -> int:
    print(f"fedcollm-secure: {text}", file=sys.stderr)
    return code


def _room_exit_code(error: Exception) -> int:
    """Return the exit code of an error of the crypto or privacy room, 0 for anything else."""
    from fedcollm_crypto.errors import CryptoError
    from fedcollm_privacy.errors import BudgetExhausted, PrivacyError

    if isinstance(error, BudgetExhausted):
        return 4
    return 1 if isinstance(error, CryptoError | PrivacyError) else 0


def _quiet_libraries() -> None:
    """Keep other libraries' progress bars and notices out of our stderr, and idle threads off a shared machine."""
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when torch is imported
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
