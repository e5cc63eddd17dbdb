"""A log as it is often kept: every line chained to the one before and signed by the server. Nobody else looks."""

import hashlib

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey


class TwinLog:
    """The flaw: whoever keeps it can keep two, and each verifies."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        """Begin an empty log."""
        self._key = key
        self.lines: list[tuple[bytes, bytes]] = []

    def append(self, text: str) -> None:
        """Chain and sign a line."""
        line = self._link(len(self.lines)) + text.encode()
        self.lines.append((line, self._key.sign(line)))

    def verify(self, key: Ed25519PublicKey) -> bool:
        """Return whether chain and signatures hold."""
        try:
            for index, (line, signature) in enumerate(self.lines):
                key.verify(signature, line)
                if not line.startswith(self._link(index)):
                    return False
        except InvalidSignature:
            return False
        return True

    def _link(self, index: int) -> bytes:
        return hashlib.sha256(self.lines[index - 1][0]).digest() if index else bytes(32)
