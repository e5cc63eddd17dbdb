"""What an auditor sees of a run in which silos share their noise: every share drawn, every vector that is encoded.

The silos are the product's own but for a note that each makes of what it drew and sent. The first attempt at round 1
loses all uploads but one, so that each silo is asked for the same round again.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TypeAlias
from unittest.mock import patch

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto.aggregation import Vector
from fedcollm_crypto.fixedpoint import EXTRA_COORDINATES, FixedPoint, signed_words
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_secure.assemble import job
from fedcollm_secure.engines.engine import Chunks
from fedcollm_secure.engines.local import LocalEngine
from fedcollm_secure.federation import silo
from fedcollm_secure.federation.contribution import Contribution
from fedcollm_secure.federation.messages import Begin

Int64 = NDArray[np.int64]
Key: TypeAlias = tuple[str, int]
"""A silo and a round."""


@dataclass(frozen=True, kw_only=True)
class Uploads:
    """By silo and round: the shares of noise, int64[k] each, and for each attempt the entries that went out, int64[k].

    `sources` draws more shares, as each silo draws them.
    """

    shares: dict[Key, list[Int64]] = field(default_factory=dict[Key, list[Int64]], repr=False)
    sent: dict[Key, list[Int64]] = field(default_factory=dict[Key, list[Int64]], repr=False)
    sources: dict[str, Callable[[int], Int64 | None]] = field(
        default_factory=dict[str, Callable[[int], Int64 | None]], repr=False
    )

    def share(self, silo: str, round_number: int) -> Int64:
        """Return the share that went into the round's sum."""
        return self.shares[silo, round_number][-1]

    def left(self, silo: str, round_number: int) -> Int64:
        """Return what the silo sent last in a round, less its share."""
        return self.sent[silo, round_number][-1] - self.share(silo, round_number)

    def total(self, names: Sequence[str], round_number: int) -> Int64:
        """Return what these silos sent in a round, added up."""
        nothing = np.zeros_like(self.sent[next(iter(self.sent))][0])
        return sum((self.sent[name, round_number][-1] for name in names), nothing)

    def noise(self, names: Sequence[str], round_number: int) -> Int64:
        """Return these silos' shares of a round, added up."""
        nothing = np.zeros_like(self.share(names[0], round_number))
        return sum((self.share(name, round_number) for name in names), nothing)

    @property
    def rounds(self) -> list[int]:
        """Return the rounds in which something was sent."""
        return sorted({number for _, number in self.sent})

    @property
    def most_distinct(self) -> int:
        """Return the largest number of different vectors that a silo sent for one round."""
        return max(len({vector.tobytes() for vector in vectors}) for vectors in self.sent.values())


def observe(stack: ExitStack, encoding: FixedPoint) -> Uploads:
    """Let the runs that are started until `stack` closes be watched, and lose their first uploads."""
    uploads = Uploads()

    rounds: dict[str, int] = {}

    class Watched(Contribution):
        """A silo's vectors, with a note of what it drew and sent."""

        def vector(self, manifest: RoundManifest, begin: Begin) -> Vector:
            rounds[self.name] = manifest.round
            vector = super().vector(manifest, begin)
            entries = signed_words(vector.copy(), encoding.ring_bits)[:-EXTRA_COORDINATES].copy()
            uploads.sent.setdefault((self.name, manifest.round), []).append(entries)
            uploads.sources[self.name] = super().noise
            return vector

        def noise(self, length: int) -> Int64 | None:
            noise = super().noise(length)
            if noise is not None:
                uploads.shares.setdefault((self.name, rounds[self.name]), []).append(noise.copy())
            return noise

    class ForgetfulEngine(LocalEngine):
        """An engine that loses all uploads of the first attempt but one."""

        def __init__(self, handlers: Mapping[str, Callable[[bytes], Chunks]]) -> None:
            super().__init__(handlers)
            self._lost = False

        def exchange(self, requests: Mapping[str, bytes]) -> Iterator[tuple[str, Chunks]]:
            kept, losing = 0, not self._lost
            for party, reply in super().exchange(requests):
                if losing and (party, 1) in uploads.sent:
                    self._lost = True
                    kept += 1
                    if kept > 1:
                        continue
                yield party, reply

    stack.enter_context(patch.object(silo, "Contribution", Watched))
    stack.enter_context(patch.object(job, "LocalEngine", ForgetfulEngine))
    return uploads
