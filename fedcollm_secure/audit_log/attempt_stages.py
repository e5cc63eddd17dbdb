"""Which exchanges an attempt has, by aggregation: who is asked in each, and which one brings the vectors.

    masked        1 hello  2 shares  3 checked  (4 disclosure)  5 vector  6 consent  │ 7 reveal
    bfv           1 key*  2 hello  3 shares  4 checked  (5 disclosure)  6 vector  7 consent  │ 8 open*  9 reveal
    ckks          1 key*  2 commitment  3 vector  4 … 3+n deposits*, one for each of n vectors  │ 4+n open*
    unsafe_plain  1 vector

    * asked of the decryptor alone    ( ) asked of dealers that somebody accuses, usually of nobody
    │ here silos have agreed to open the sum, and the log names it

The numbers are those of `StageAnswered.stage`: they count exchanges from 1, answered or not.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """The exchanges of one aggregation.

    `silos`: asked of silos; what one accepts is asked in the next. `aside`: asked of some, and narrows nothing.
    `vectors`: the one of `silos` that brings the vectors. `decryptor`: asked of the decryptor; under `deposits`, so is
    whatever comes after the vectors. `agreed_after`: the last one before silos have agreed, 0 where nobody has to; it
    grows with the vectors under `deposits`.
    """

    silos: tuple[int, ...]
    vectors: int
    agreed_after: int
    aside: tuple[int, ...] = ()
    decryptor: tuple[int, ...] = ()
    deposits: bool = False

    @property
    def agrees(self) -> bool:
        """Say whether a sum is agreed to before it is opened."""
        return self.agreed_after > 0

    @property
    def encrypts(self) -> bool:
        """Say whether a decryptor opens the sum."""
        return bool(self.decryptor)

    def of_decryptor(self, vectors: int) -> tuple[int, ...]:
        """Return the exchanges with the decryptor, where so many silos sent a vector."""
        after = range(self.vectors + 1, self.vectors + vectors + 2) if self.deposits else ()
        return (*self.decryptor, *after)

    def asks_decryptor(self, stage: int, vectors: int) -> bool:
        """Say whether an exchange is one of `of_decryptor`, without listing them."""
        return stage in self.decryptor or (self.deposits and self.vectors < stage <= self.vectors + vectors + 1)

    def last_before_agreed(self, vectors: int) -> int:
        """Return the last exchange before a sum over so many vectors is agreed to; the next one opens it."""
        return self.agreed_after + (vectors if self.deposits else 0)

    def until_agreed(self, vectors: int) -> tuple[int, ...]:
        """Return all exchanges that must be answered before a sum over so many vectors is agreed to."""
        last = self.last_before_agreed(vectors)
        return tuple(stage for stage in self.whole(vectors) if stage <= last)

    def whole(self, vectors: int) -> tuple[int, ...]:
        """Return all exchanges that must be answered before such a sum is open."""
        return tuple(sorted((*self.silos, *self.of_decryptor(vectors))))


PROTOCOLS: Mapping[str, Protocol] = {
    "masked": Protocol(silos=(1, 2, 3, 5, 6, 7), aside=(4,), vectors=5, agreed_after=6),
    "bfv": Protocol(silos=(2, 3, 4, 6, 7, 9), aside=(5,), vectors=6, agreed_after=7, decryptor=(1, 8)),
    "ckks": Protocol(silos=(2, 3), vectors=3, agreed_after=3, decryptor=(1,), deposits=True),
    "unsafe_plain": Protocol(silos=(1,), vectors=1, agreed_after=0),
}
"""By `RunStarted.aggregation`."""
