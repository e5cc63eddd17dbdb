"""One consortium of two silos, reachable over each engine; `dead` silos die in mid-reply, `slow` ones answer late."""

import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fedcollm_secure.consortium.certificates import make_certificate, to_der
from fedcollm_secure.engines.engine import Chunks, Patience
from fedcollm_secure.engines.mtls.credentials import Credentials
from fedcollm_secure.engines.mtls.dialler import Dialler, TurnedAway
from fedcollm_secure.engines.mtls.listener import MtlsEngine

Handler = Callable[[bytes], Chunks]
PATIENCE = Patience(alive=3.0, answer=20.0, quorum=20.0, grace=5.0, handshake=5.0)


@dataclass(kw_only=True)
class Folder:
    """Certificates of a consortium's members, and of strangers."""

    path: Path
    patience: Patience = PATIENCE
    said: list[str] = field(default_factory=list[str])
    sockets: list[socket.socket] = field(default_factory=list[socket.socket])

    def plain(self, port: int) -> socket.socket:
        """Return a connection without TLS, which is closed at the test's end."""
        made = socket.create_connection(("127.0.0.1", port), 5)
        self.sockets.append(made)
        return made

    def make(self, *names: str) -> None:
        for name in names:
            make_certificate(name, self.path / f"{name}.pem", self.path / f"{name}.crt", None)

    def der(self, name: str) -> bytes:
        return to_der((self.path / f"{name}.crt").read_text())

    def credentials(self, name: str, peers: Mapping[str, str]) -> Credentials:
        """`peers`: name in the roster → whose certificate file stands there."""
        return Credentials(
            certificate=self.path / f"{name}.crt",
            key=self.path / f"{name}.pem",
            peers={peer: self.der(file) for peer, file in peers.items()},
        )

    def listen(self, *silos: str) -> MtlsEngine:
        return MtlsEngine(
            host="127.0.0.1",
            port=0,
            credentials=self.credentials("server", {name: name for name in silos}),
            patience=self.patience,
            say=self.said.append,
        )

    def dialler(
        self, name: str, port: int, *, calls_itself: str = "", server: str = "server", said: list[str] | None = None
    ) -> Dialler:
        return Dialler(
            name=calls_itself or name,
            host="127.0.0.1",
            port=port,
            credentials=self.credentials(name, {"server": server}),
            patience=self.patience,
            say=(said if said is not None else []).append,
        )

    def start(self, name: str, port: int, handler: Handler) -> threading.Thread:
        def serve() -> None:
            with suppress(TurnedAway):
                self.dialler(name, port).serve(handler)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        return thread


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    made = Folder(path=tmp_path)
    made.make("server", "north", "south")
    yield made
    for each in made.sockets:
        each.close()
