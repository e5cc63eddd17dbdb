"""Starts commands as processes of their own out of one that has loaded the libraries: a second each instead of twenty.

Standard input: a line of JSON a command, {"arguments": […], "log": FILE}. Standard output: its process id. When the
process ends, FILE.code has its exit code, negative for a signal.
"""

import json
import os
import sys
import threading
from pathlib import Path

# What the commands import late.
import fedcollm_secure.operations.budget_command
import fedcollm_secure.operations.pilot_command
import fedcollm_secure.operations.verify_command  # noqa: F401
from fedcollm_secure import cli


def start(arguments: list[str], log: Path) -> int:
    child = os.fork()
    if child:
        return child
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.dup2(target, 1)
    os.dup2(target, 2)
    sys.argv = ["fedcollm-secure", *arguments]
    code = 70
    try:
        cli.entry()
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def main() -> None:
    for line in iter(sys.stdin.readline, ""):
        asked = json.loads(line)
        log = Path(asked["log"])
        child = start(asked["arguments"], log)
        sys.stdout.write(f"{child}\n")
        sys.stdout.flush()
        reap(child, log)


def reap(child: int, log: Path) -> None:
    def wait() -> None:
        _, status = os.waitpid(child, 0)
        partial = log.with_suffix(".partial")
        partial.write_text(str(os.waitstatus_to_exitcode(status)))
        partial.rename(log.with_suffix(".code"))

    threading.Thread(target=wait, daemon=True).start()


main()
