"""What every aggregation looks like from outside: two ends without I/O, and the few lines that join them.

The server end says what to ask, absorbs the replies as they arrive, chunk by chunk, and at each step either asks again
or hands out the sum. How bytes travel is the caller's matter: `aggregate` takes the exchange as a function.

    cohort → start → Ask → exchange → absorb, absorb … → step → Ask → … → step → Sum
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

PartyId = str
"""A silo's name in the roster."""

Vector = NDArray[np.uint64]
"""uint64[length]: integers modulo the ring, two's complement."""

Chunks = Iterable[bytes]
"""One reply in pieces of any size, so that nobody must hold it whole."""

Exchange = Callable[[Mapping[PartyId, bytes]], Iterator[tuple[PartyId, Chunks]]]
"""Send each party its request; yield replies as they arrive. A party that fails or is late never appears."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One more exchange: the request of each party that is to answer."""

    requests: Mapping[PartyId, bytes]


@dataclass(frozen=True, kw_only=True)
class Sum:
    """All that the server learns: the sum modulo the ring, uint64[length], and over whom it was taken."""

    total: Vector
    contributors: frozenset[PartyId]


@dataclass(frozen=True, kw_only=True)
class Decryption:
    """What came of a sum's opening: under which key, in hexadecimal, and the decryptor's signed statement of it."""

    decryptor: PartyId
    parameters_hash: str
    key_hash: str
    statement: bytes


class ServerEnd(Protocol):
    """The side that learns the sum. One object serves one attempt."""

    @property
    def dropped(self) -> Mapping[PartyId, str]:
        """Return who was dropped, and why, in words."""
        ...

    @property
    def refused(self) -> Mapping[PartyId, str]:
        """Return which of the dropped said no themselves: the code of each one's reason."""
        ...

    @property
    def survivors(self) -> frozenset[PartyId]:
        """Return whose sum is about to be opened, from when it is agreed; always empty where nobody has to agree."""
        ...

    @property
    def convictions(self) -> Mapping[PartyId, bytes]:
        """Return whom this attempt proved to have dealt bad shares, with the proof of each."""
        ...

    @property
    def decryption(self) -> Decryption | None:
        """Return what the decryptor said when it opened the sum; None before, and where there is no decryptor."""
        ...

    def start(self, cohort: Sequence[PartyId]) -> Ask:
        """Ask the cohort for the first time."""
        ...

    def absorb(self, party: PartyId, reply: Chunks) -> None:
        """Take in one reply; a bad one drops its sender and nobody else, and never raises."""
        ...

    def step(self) -> Ask | Sum:
        """Go on with what has come. Raises: TooFewSilos, ProtocolError."""
        ...


class PartyEnd(Protocol):
    """A side that is asked: a silo's, or a decryptor's."""

    def handle(self, request: bytes) -> Chunks:
        """Answer one request. Raises: ProtocolError for a request that no honest server sends."""
        ...


class SiloEnd(PartyEnd, Protocol):
    """The side that gives a vector. It is built with `vector: Callable[[], Vector]`, called when first needed."""

    def convict(self, proof: bytes) -> None:
        """Take in proof that a silo dealt bad shares. Raises: ProtocolError for proof of nothing."""
        ...


def aggregate(end: ServerEnd, exchange: Exchange, cohort: Sequence[PartyId]) -> Sum:
    """Run one attempt to its sum.

    Raises: TooFewSilos, ProtocolError; after either the attempt is over.
    """
    ask = end.start(cohort)
    while True:
        for party, reply in exchange(ask.requests):
            end.absorb(party, reply)
        match end.step():
            case Ask() as ask:
                continue
            case Sum() as result:
                return result
