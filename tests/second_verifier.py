"""The verifier in JavaScript, run on a folder."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from fedcollm_secure.audit_log.log import LOG_NAME
from fedcollm_secure.audit_log.run_verification import verify_log
from fedcollm_secure.errors import LogError

ROOT = Path(__file__).parent.parent
VERIFIER = ROOT / "fedcollm_secure" / "audit_log" / "verifier" / "verify.mjs"
NODE = shutil.which("node")
needs_node = pytest.mark.skipif(NODE is None, reason="node is not installed, and the second verifier runs on it")


def node(*arguments: object) -> tuple[int, dict[str, Any]]:
    """Return the exit code, and the document that it prints."""
    done = subprocess.run(
        [str(NODE), VERIFIER, *map(str, arguments), "--json"], capture_output=True, text=True, check=False
    )
    return done.returncode, json.loads(done.stdout)


def require_found_by_both(run: Path) -> None:
    """Assert that both verifiers refuse a run's log, and name the same entry as the first bad one."""
    with pytest.raises(LogError) as ours:
        verify_log(run / "audit" / LOG_NAME)

    code, found = node(run)
    assert (code, found["first_bad"]) == (1, ours.value.first_bad), found["reason"]
