"""The `Engine` protocol: the one seam between the parties and a network."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Protocol

Chunks = Iterable[bytes]
"""One message in pieces of any size."""


class Engine(Protocol):
    """Carry one request to each party and bring the replies back as they come."""

    def parties(self) -> Sequence[str]:
        """Return the names of the silos that can be reached."""
        ...

    def exchange(self, requests: Mapping[str, bytes]) -> Iterator[tuple[str, Chunks]]:
        """Yield (party, reply) as replies arrive; a party that fails or is late never appears."""
        ...
