"""A decryptor that loads foreign bytes and opens whatever it is sent: run in a process, since it may crash."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, kw_only=True)
class Ran:
    """How the process ended (negative: by a signal), what it measured, and bytes that it handed out."""

    status: int
    figures: Mapping[str, float] = field(default_factory=dict[str, float])
    data: bytes = b""


def run_twin(what: str, *arguments: str) -> Ran:
    """Let the twin do one thing; `foreign_decryptor_child` lists them."""
    command = [
        sys.executable,
        "-m",
        "fedcollm_secure.assurance.attacks.twins.foreign_decryptor_child",
        what,
        *arguments,
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, check=False, env=environment)  # noqa: S603 - our own module
    if done.returncode != 0:
        return Ran(status=done.returncode)
    document = json.loads(done.stdout.splitlines()[-1])
    return Ran(status=0, figures=document["figures"], data=bytes.fromhex(document["data"]))
