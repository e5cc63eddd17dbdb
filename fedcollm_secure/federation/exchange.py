"""From the aggregation's exchange to the engine's: wrap requests, unwrap replies, count bytes."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from fedcollm_crypto.aggregation import Chunks, Exchange
from fedcollm_crypto.errors import ProtocolError
from fedcollm_secure.engines.engine import Engine
from fedcollm_secure.federation.messages import Begin, Closed, Refusal, Step, encode, read_reply

Note = Callable[[str, Refusal | Closed | ProtocolError], None]
"""Told (party, note) when a reply is not the aggregation's."""


@dataclass(kw_only=True)
class Traffic:
    """Bytes from the silos (`up`) and to them (`down`), all silos together; a decryptor's are among them."""

    up: int = 0
    down: int = 0

    def lap(self) -> Mapping[str, int]:
        """Return the bytes since the last lap and begin again at zero."""
        counted = {"up": self.up, "down": self.down}
        self.up = self.down = 0
        return counted


class _Messages(Mapping[str, bytes]):
    """Requests that are encoded as they are sent, so that θ is not copied once per silo."""

    def __init__(self, payloads: Mapping[str, bytes], wrap: Callable[[str, bytes], bytes], traffic: Traffic) -> None:
        self._payloads = payloads
        self._wrap = wrap
        self._traffic = traffic

    def __getitem__(self, party: str) -> bytes:
        message = self._wrap(party, self._payloads[party])
        self._traffic.down += len(message)
        return message

    def __iter__(self) -> Iterator[str]:
        return iter(self._payloads)

    def __len__(self) -> int:
        return len(self._payloads)


def begin_then_step(engine: Engine, opening: Begin, traffic: Traffic, note: Note) -> Exchange:
    """Return an exchange whose first request to each silo travels inside `opening`, all others inside Step."""
    to_begin = set(opening.manifest.cohort)

    def exchange(requests: Mapping[str, bytes]) -> Iterator[tuple[str, Chunks]]:
        def wrap(party: str, payload: bytes) -> bytes:
            if party not in to_begin:
                return encode(Step(payload=payload))
            to_begin.remove(party)
            return encode(replace(opening, payload=payload))

        for party, chunks in engine.exchange(_Messages(requests, wrap, traffic)):
            try:
                reply = read_reply(_counted(chunks, traffic))
            except ProtocolError as error:
                note(party, error)
                continue
            if isinstance(reply, Refusal | Closed):
                note(party, reply)
            else:
                yield party, reply

    return exchange


def _counted(chunks: Chunks, traffic: Traffic) -> Iterator[bytes]:
    for chunk in chunks:
        traffic.up += len(chunk)
        yield chunk
