"""Tell a person what is happening in a round, and how much of it is done; learning and protocol know of no screen.

the stopwatch enters a phase ──▶ a silo trains, protects its update; the pair distils; it is scored
torch, after each optimiser step or pass of a model ──▶ the share of that phase
the worker that encrypts ──▶ the share of one silo's ciphertexts
"""

from collections.abc import Callable, Mapping

from fedcollm_crypto.aggregation import Chunks
from fedcollm_secure.federation.summing import Watch

FEW_CIPHERTEXTS = 64
"""So many take under a second: nobody waits for them."""
Progress = Callable[[float], None]
"""Told how much of the present phase is done, in [0, 1]."""


def tell_nobody(_done: float) -> None:
    """Tell nobody."""


class Narrator:
    """A `Watch` that remembers the round and who is at work, so that whoever knows neither can speak in it."""

    def __init__(self, watch: Watch, progress: Progress = tell_nobody, *, silos: int = 0) -> None:
        """Pass on what happens to `watch`, and how much of it is done to `progress`; so many `silos` take part."""
        self._watch, self._progress, self._silos = watch, progress, silos
        self._round = 0
        self._party = ""
        self._trained: list[str] = []
        self._opening = False
        self._steps, self._done = dict[str, int](), 0  # of each phase, and of the present one
        self._phase = ""

    def __call__(self, number: int, text: str) -> None:
        """Say what is happening in a round."""
        if number != self._round:
            self._trained, self._opening = [], False
        self._round = number
        self._watch(number, text)

    def expects(self, steps: Mapping[str, int]) -> None:
        """Take in how many steps a phase has: `train` of one silo, `distill` of both models, `evaluate` of both."""
        self._steps = dict(steps)

    def serves(self, party: str, handle: Callable[[bytes], Chunks]) -> Callable[[bytes], Chunks]:
        """Return the party's handler, noting that it is the one at work."""

        def handled(message: bytes) -> Chunks:
            self._party = party
            if self._silos and len(self._trained) == self._silos and not self._opening:
                self._opening = True
                self._watch(self._round, "adding up: the silos help to open the sum, and it alone")
            return handle(message)

        return handled

    def enters(self, phase: str) -> None:
        """Take in that a phase of the stopwatch begins."""
        if phase not in ("train", "distill", "evaluate"):
            return
        self._phase, self._done = phase, 0
        if phase == "train":
            self._trained.append(self._party)
            place = f" ({len(self._trained)} of {self._silos})" if self._silos else ""
            self._watch(self._round, f"{self._party} trains{place}")

    def leaves(self, phase: str) -> None:
        """Take in that a phase of the stopwatch is over."""
        if phase == "evaluate" and self._done:
            self._steps[phase] = self._done  # every scoring reads the same: from now on it is known how much
        if phase == self._phase:
            self._phase = ""
        if phase == "train":
            self._watch(self._round, f"{self._party} protects its update")

    def stepped(self) -> None:
        """Take in one optimiser step."""
        if self._phase in ("train", "distill"):
            self._count(1)

    def passed(self, rows: int) -> None:
        """Take in one pass of a model over so many rows; where it trains, its steps are counted instead."""
        if self._phase == "evaluate":
            self._count(rows)

    def _count(self, more: int) -> None:
        self._done += more
        if expected := self._steps.get(self._phase, 0):
            self._progress(min(1.0, self._done / expected))

    def encrypting(self, done: int, total: int) -> None:
        """Say how many ciphertexts of one silo's update are made, if there are many."""
        if total <= FEW_CIPHERTEXTS:
            return
        if self._phase != "encrypt":
            self._phase = "encrypt"
            self._watch(self._round, f"{self._party or 'a silo'} encrypts its update, {total} ciphertexts")
        self._progress(done / total)
        if done >= total:
            self._phase = ""
