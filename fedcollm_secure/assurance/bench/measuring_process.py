"""One measurement in a process of its own, with one thread, so that its peak of memory is its own."""

import os
import subprocess
from collections.abc import Callable, Sequence

from fedcollm_secure.errors import FedCoLLMError

Say = Callable[[str], None]


class BenchError(FedCoLLMError):
    """A measurement that failed."""


def printed_by(command: Sequence[str]) -> str:
    """Run a measurement and return the JSON that it prints. Raises: BenchError with what it said."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    done = subprocess.run(list(command), capture_output=True, text=True, check=False, env=environment)  # noqa: S603 - ours
    if done.returncode != 0:
        said = done.stderr.strip()[-2000:] or "without a word: was it killed, for want of memory?"
        raise BenchError(f"a measurement ended with {done.returncode}: {' '.join(command)}\n{said}")
    return done.stdout
