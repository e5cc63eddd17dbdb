"""A privacy budget as it is often kept: a number in a file. Nobody else knows how far it had come."""

import json
from pathlib import Path


class TwinLedger:
    """Spend until nothing is left. The flaw: an older copy of the file is as good as the file."""

    def __init__(self, path: Path, epsilon: float) -> None:
        """Begin with the whole budget, or go on with what the file says."""
        self._path = path
        if not path.exists():
            path.write_text(json.dumps({"left": epsilon}))

    def spend(self, epsilon: float) -> bool:
        """Pay for a round; return whether there was enough."""
        left = float(json.loads(self._path.read_text())["left"])
        if left < epsilon:
            return False
        self._path.write_text(json.dumps({"left": left - epsilon}))
        return True
