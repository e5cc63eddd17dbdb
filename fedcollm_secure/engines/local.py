"""All parties in one process: a simulation that carries bytes, never objects, so that every engine runs the same code.

A silo's reply is produced while it is read, one silo at a time, in the order of the cohort: neither time nor memory
grows with the number of silos at once.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from fedcollm_secure.engines.engine import Chunks

Handler = Callable[[bytes], Chunks]


class LocalEngine:
    """Call each silo's `handle`. A handler that raises is a bug of ours, not an absent silo: it is not caught."""

    def __init__(self, handlers: Mapping[str, Handler]) -> None:
        """Take one handler a party."""
        if not handlers:
            raise ValueError("a local engine needs at least one party, got none")
        self._handlers = dict(handlers)

    def parties(self) -> Sequence[str]:
        """Return the parties in the order they were given."""
        return tuple(self._handlers)

    def exchange(self, requests: Mapping[str, bytes]) -> Iterator[tuple[str, Chunks]]:
        """Yield each party's reply.

        Raises:
            ValueError: a request is for nobody here.
        """
        for party, request in requests.items():
            if party not in self._handlers:
                raise ValueError(f"no party {party!r} here; there are {', '.join(self._handlers)}")
            yield party, self._handlers[party](bytes(request))

    def wait(self, parties: Iterable[str], least: int) -> frozenset[str]:
        """Return those of the parties that are here: a simulated one never comes late."""
        return frozenset(parties) & self._handlers.keys()
