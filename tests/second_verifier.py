"""The verifier in JavaScript, run on a folder."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

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
