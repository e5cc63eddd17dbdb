"""The `Engine` protocol: the one seam between the parties and a network.

What every engine keeps, held by one suite over all of them (`tests/engines/test_contract.py`):

    whole    a reply comes in the order of its bytes, in pieces of any size
    absent   who cannot be reached, dies, or says nothing for longer than is patient, does not appear; a reply that its
             sender's death cut off ends early, and whoever reads it finds out
    late     what comes after its exchange is over belongs to nobody, and is dropped
    back     who died can come back, and is asked again in the next exchange
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

Chunks = Iterable[bytes]
"""One message in pieces of any size."""


class Engine(Protocol):
    """Carry one request to each party and bring the replies back as they come."""

    def parties(self) -> Sequence[str]:
        """Return the names of the silos that can be reached."""
        ...

    def exchange(self, requests: Mapping[str, bytes]) -> Iterator[tuple[str, Chunks]]:
        """Yield (party, reply) as replies arrive; a party that fails or is late never appears.

        A request is looked up once, when it is sent. A reply is read before the next is asked for, or not at all.
        """
        ...

    def wait(self, parties: Iterable[str], least: int) -> frozenset[str]:
        """Return which of the parties can be reached, once all can; or `least` of them, after a grace; or time is up.

        Who waits before an attempt spends none on silos that are just starting.
        """
        ...


class Carrier(Engine, Protocol):
    """An engine over a network, whose parties come and go."""

    def connection(self, party: str) -> int:
        """Return a number that is another whenever the party connects anew; 0 where it cannot be reached."""
        ...


@dataclass(frozen=True, kw_only=True)
class Patience:
    """How long a carrier waits, in seconds.

    `alive`: for any sign of life. `answer`: for all answers of an exchange, which may take hours of training. `quorum`:
    until enough parties can be reached; `grace`: for the others, once enough can. `handshake`: for a stranger to say
    who it is.
    """

    alive: float = 60.0
    answer: float = 86_400.0
    quorum: float = 900.0
    grace: float = 5.0
    handshake: float = 10.0
