"""What a command writes: its result on stdout, as words or as one JSON document, and progress on stderr.

A reader that went away, such as `head`, ends neither a command nor a run: what it would have read goes nowhere, and
the exit code stays the command's.
"""

import json
import os
import sys
from collections.abc import Mapping
from typing import TextIO

from fedcollm_secure.cli.failure import Failure


def result(document: Mapping[str, object], as_json: bool, words: str) -> None:
    """Print what a command found."""
    _write(sys.stdout, _escaped(json.dumps(document, ensure_ascii=False, indent=2)) if as_json else words)


def failure(failed: Failure, as_json: bool) -> None:
    """Print why a command failed: for people on stderr, for scripts on stdout."""
    if as_json:
        result(failed.document(), True, "")
        return
    _write(sys.stderr, f"{failed.usage}fedcollm-secure: {failed.message}")


def say(text: str) -> None:
    """Print a line of progress."""
    _write(sys.stderr, text)


def _escaped(text: str) -> str:
    """Return the same JSON with escapes for what a terminal would act on; a foreign text may stand in it."""
    return "".join(letter if letter.isprintable() or letter == "\n" else json.dumps(letter)[1:-1] for letter in text)


def _write(stream: TextIO, text: str) -> None:
    try:
        print(text, file=stream, flush=True)
    except BrokenPipeError:
        _deaden(stream)


def _deaden(stream: TextIO) -> None:
    """Let the stream lead nowhere from now on, so that nothing is left to fail when the program ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, stream.fileno())
    os.close(nowhere)
