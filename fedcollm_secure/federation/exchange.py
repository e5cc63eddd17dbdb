"""From the aggregation's exchange to the engine's: wrap requests, unwrap replies, count bytes, keep their digests."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Generic, TypeVar

from fedcollm_crypto.aggregation import Chunks, Exchange
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.masking.requests import MESSAGE_FRAME
from fedcollm_crypto.masking.requests import Refusal as SignedRefusal
from fedcollm_crypto.signed import Signed
from fedcollm_secure.audit_log.witness import View
from fedcollm_secure.engines.engine import Engine
from fedcollm_secure.federation.messages import Begin, Step, encode
from fedcollm_secure.federation.replies import Closed, Cosigned, Declined, Greeting, Refusal, read_reply
from fedcollm_secure.federation.transcript import Transcript
from fedcollm_secure.learning.vectors import Float32

Content = TypeVar("Content")
Note = Callable[[str, Refusal | Closed | Cosigned | ProtocolError], None]
"""Told (party, note) when a reply is not the aggregation's."""


@dataclass(frozen=True, kw_only=True)
class Opening:
    """What opens an attempt: its cohort, proofs and three vectors as in `Begin`, and the view of the log for each silo.

    `greet` takes (party, signature lines) and raises ProtocolError for a cosignature that is none.
    """

    cohort: tuple[str, ...]
    proofs: tuple[bytes, ...]
    adapter: Float32
    basis: Float32
    reference: Float32
    views: Mapping[str, View]
    greet: Callable[[str, str], None]


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


class Messages(Mapping[str, bytes], Generic[Content]):
    """Requests that are encoded as they are sent, so that θ and the log's lines are not copied once per silo."""

    def __init__(
        self, payloads: Mapping[str, Content], wrap: Callable[[str, Content], bytes], traffic: Traffic
    ) -> None:
        """Take what each party is sent, and what makes bytes of it, which are counted."""
        self._payloads = payloads
        self._wrap = wrap
        self._traffic = traffic

    def __getitem__(self, party: str) -> bytes:
        """Return a party's request, made anew each time."""
        message = self._wrap(party, self._payloads[party])
        self._traffic.down += len(message)
        return message

    def __iter__(self) -> Iterator[str]:
        """Go through the parties."""
        return iter(self._payloads)

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._payloads)


def begin_then_step(engine: Engine, opening: Opening, traffic: Traffic, note: Note, transcript: Transcript) -> Exchange:
    """Return an exchange whose first request to each silo travels inside Begin, all others inside Step."""
    to_begin, greeting_due, stage = set(opening.cohort), set[str](), 0

    def wrap(party: str, payload: bytes) -> bytes:
        if party not in to_begin:
            return encode(Step(payload=payload))
        to_begin.remove(party)
        greeting_due.add(party)
        return encode(
            Begin(
                proofs=opening.proofs,
                view=opening.views[party],
                reference=opening.reference,
                adapter=opening.adapter,
                basis=opening.basis,
                payload=payload,
            )
        )

    def unwrap(party: str, chunks: Chunks) -> Chunks | None:
        reply, is_due = read_reply(_counted(chunks, traffic)), party in greeting_due
        greeting_due.discard(party)
        if is_due != isinstance(reply, Greeting | Declined) and not isinstance(reply, Refusal):
            raise ProtocolError("reply: expected a greeting to Begin, and to nothing else")
        if isinstance(reply, Declined):
            return (_refusal_alone(reply.refusal),)
        if isinstance(reply, Greeting):
            opening.greet(party, reply.lines)
            return reply.chunks
        if isinstance(reply, Refusal | Closed | Cosigned):
            note(party, reply)
            return None
        return reply

    def exchange(requests: Mapping[str, bytes]) -> Iterator[tuple[str, Chunks]]:
        nonlocal stage
        stage += 1
        for party, chunks in engine.exchange(Messages(requests, wrap, traffic)):
            try:
                payload = unwrap(party, chunks)
            except ProtocolError as error:
                note(party, error)
                continue
            if payload is not None:
                yield party, transcript.keep(stage, party, payload)

    return exchange


def _refusal_alone(data: bytes) -> bytes:
    """Return a silo's signed refusal. Raises: ProtocolError for any other message: it came without a cosignature."""
    if data[:1] != MESSAGE_FRAME or Signed.decode(data[1:]).kind != SignedRefusal.KIND:
        raise ProtocolError("reply: expected a refusal, or a greeting with a cosignature")
    return data


def _counted(chunks: Chunks, traffic: Traffic) -> Iterator[bytes]:
    for chunk in chunks:
        traffic.up += len(chunk)
        yield chunk
