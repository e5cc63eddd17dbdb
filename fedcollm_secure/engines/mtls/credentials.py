"""Who is who on a connection: TLS 1.3 alone, both ends show a certificate, and only the roster's are known.

Certificates are pinned: each is the whole identity of its party, and no authority could sign another. After the
handshake, which proves that the other end has the key, the certificate's bytes say which party it is.
"""

import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """A party's own certificate and key, both PEM files, and the certificates of the others, DER by name."""

    certificate: Path
    key: Path
    password: bytes | None = field(default=None, repr=False)
    peers: Mapping[str, bytes] = field(repr=False)

    def server_context(self) -> ssl.SSLContext:
        """Return the context of the end that listens. Raises: OSError (SSLError) for a key that does not open."""
        context = self._context(ssl.PROTOCOL_TLS_SERVER)
        context.num_tickets = 0  # each connection shows its certificate anew
        return context

    def client_context(self) -> ssl.SSLContext:
        """Return the context of the end that dials; no host's name is looked at, for the certificate is pinned."""
        return self._context(ssl.PROTOCOL_TLS_CLIENT)

    def party_of(self, connection: object) -> str | None:
        """Return whose certificate the other end showed; None for nobody's."""
        if not isinstance(connection, ssl.SSLObject | ssl.SSLSocket):
            return None
        shown = connection.getpeercert(binary_form=True)
        return next((name for name, known in self.peers.items() if known == shown), None)

    def _context(self, side: int) -> ssl.SSLContext:
        context = ssl.SSLContext(side)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_cert_chain(self.certificate, self.key, lambda: self.password or b"")
        context.load_verify_locations(cadata=b"".join(self.peers.values()))
        return context
