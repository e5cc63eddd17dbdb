"""How much of a run is done and how long the rest may take, from the rounds that are over: an estimate, no promise."""

import time
from collections.abc import Callable

SCORING = 0
"""Round 0 is scored alone, and says nothing of how long a round takes."""


class TimeLeft:
    """Told of each round that ends; asked at any time."""

    def __init__(self, rounds: int, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the number of rounds, and the clock, which a test may replace."""
        self._rounds, self._clock = rounds, clock
        self._done, self._seconds = 0, list[float]()
        self._since = clock()

    def ended(self, number: int, seconds: float) -> None:
        """Take in a round's own seconds, also of an earlier start of the run."""
        if number != SCORING:
            self._done = max(self._done, number)
            self._seconds.append(seconds)
        self._since = self._clock()

    @property
    def share(self) -> float:
        """Return how much of the rounds is done, in [0, 1]; within the first round nobody knows, and it is 0."""
        return min(1.0, (self._done + self._of_round()) / self._rounds)

    @property
    def seconds(self) -> float | None:
        """Return what is left, None before a round is over."""
        return None if not self._seconds else (1 - self.share) * self._rounds * self._mean()

    def _of_round(self) -> float:
        """Return how much of the present round is over, by the time that earlier ones took; never all of it."""
        if not self._seconds:
            return 0.0
        return min(0.95, (self._clock() - self._since) / max(self._mean(), 1e-3))

    def _mean(self) -> float:
        return sum(self._seconds) / len(self._seconds)
