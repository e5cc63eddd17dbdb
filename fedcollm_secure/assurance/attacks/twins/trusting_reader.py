"""Readers as often written: JSON is parsed before anybody asks who sent it, and files are opened as they come."""

import json
from collections.abc import Mapping
from pathlib import Path


class TwinServer:
    """The flaw: what is caught is what the parser is known to raise, and the walk over the value comes after it."""

    def __init__(self) -> None:
        """Begin with nobody dropped."""
        self.dropped: list[str] = []

    def absorb(self, party: str, reply: bytes) -> None:
        """Take in a reply; a bad one drops its sender, and never raises, or so it says."""
        try:
            message = json.loads(reply)
        except (ValueError, RecursionError):
            self.dropped.append(party)
            return
        if not _is_plain(message) or not isinstance(message, dict):
            self.dropped.append(party)
            return
        spelt = json.dumps(message, sort_keys=True, separators=(",", ":")).encode()
        if not _is_signed(message, spelt):
            self.dropped.append(party)


def read_evidence(path: Path) -> bytes:
    """Read a file of a foreign folder."""
    return path.read_bytes()


def _is_plain(value: object) -> bool:
    """Say whether canonical JSON can spell it; the walk takes two frames of the stack a level, the parser takes one."""
    if isinstance(value, dict):
        return all(_is_plain(member) for member in value.values())
    if isinstance(value, list):
        return all(_is_plain(member) for member in value)
    return not isinstance(value, float)


def _is_signed(message: Mapping[str, object], spelt: bytes) -> bool:
    """Say whether a signature is there; no attack of this file gets as far as to need a true one."""
    return bool(spelt) and message.get("signature") == "true"
