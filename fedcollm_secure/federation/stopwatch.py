"""Seconds per phase of a round, each second counted once: a phase inside another is taken out of the outer one."""

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager

PHASES = ("train", "protect", "aggregate", "distill", "evaluate")
Told = Callable[[str], None]


def _nobody(_phase: str) -> None:
    """Tell nobody."""


class Stopwatch:
    """Add up wall-clock seconds per phase."""

    def __init__(
        self, clock: Callable[[], float] = time.perf_counter, *, enters: Told = _nobody, leaves: Told = _nobody
    ) -> None:
        """Take the clock, which a test may replace; `enters` and `leaves` are told of each phase."""
        self._clock, self._enters, self._leaves = clock, enters, leaves
        self._seconds: dict[str, float] = dict.fromkeys(PHASES, 0.0)
        self._inner: list[float] = []  # seconds of nested phases, per open phase

    @contextmanager
    def measure(self, phase: str) -> Generator[None]:
        """Count the time inside the block as `phase`."""
        self._enters(phase)
        start = self._clock()
        self._inner.append(0.0)
        try:
            yield
        finally:
            elapsed = self._clock() - start
            self._seconds[phase] += elapsed - self._inner.pop()
            if self._inner:
                self._inner[-1] += elapsed
            self._leaves(phase)

    def measured(self, phase: str, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield chunks, counting the time their producer takes."""
        while True:
            with self.measure(phase):
                chunk = next(chunks, None)
            if chunk is None:
                return
            yield chunk

    def lap(self) -> Mapping[str, float]:
        """Return the seconds since the last lap and begin again at zero."""
        seconds = dict(self._seconds)
        self._seconds.update(dict.fromkeys(PHASES, 0.0))
        return {phase: round(value, 3) for phase, value in seconds.items()}
