"""The unprotected sum: the server reads every silo's vector. For baselines and for comparison, never for records.

It keeps the contract of `aggregation`, so that a protected sum can be compared with it bit for bit.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType

import numpy as np

from fedcollm_crypto.aggregation import Ask, Chunks, PartyId, Sum, Vector
from fedcollm_crypto.errors import ProtocolError, TooFewSilos
from fedcollm_crypto.wire import fill, word_chunks, words

REQUEST = b"fedcollm/v1/unsafe-plain/"
"""How a request begins; the decimal length of the vector follows, and a note after a line break, if there is one."""


class UnsafePlainServer:
    """Add up vectors that come in the clear.

    Guarantee: none. The server learns every vector; any party on the way can change it.
    """

    def __init__(self, length: int, min_cohort: int, note: bytes = b"") -> None:
        """Expect uint64[length] of at least `min_cohort` silos, to which `note` is carried: what the round is."""
        if length < 1 or min_cohort < 1:
            raise ValueError(f"length and min_cohort must be at least 1, got {length} and {min_cohort}")
        self._min_cohort = min_cohort
        self._request = REQUEST + b"%d" % length + (b"\n" + note if note else b"")
        self._total: Vector = np.zeros(length, dtype=np.uint64)
        self._scratch = words(length, 64)
        self._waiting: set[PartyId] = set()
        self._contributors: set[PartyId] = set()
        self._dropped: dict[PartyId, str] = {}

    @property
    def dropped(self) -> Mapping[PartyId, str]:
        """Return who was dropped, and why."""
        return MappingProxyType(self._dropped)

    @property
    def refused(self) -> Mapping[PartyId, str]:
        """Return nobody: in the clear a silo has nothing to refuse."""
        return MappingProxyType({})

    @property
    def survivors(self) -> frozenset[PartyId]:
        """Return nobody: no silo is asked whether the sum may be opened."""
        return frozenset()

    @property
    def convictions(self) -> Mapping[PartyId, bytes]:
        """Return nobody: no shares are dealt."""
        return MappingProxyType({})

    @property
    def decryption(self) -> None:
        """Return nothing: there is no decryptor."""

    def start(self, cohort: Sequence[PartyId]) -> Ask:
        """Ask each silo of the cohort for its vector."""
        if self._waiting or self._contributors:
            raise RuntimeError("one server end serves one attempt: make a new one")
        if not cohort or len(set(cohort)) != len(cohort):
            raise ValueError(f"the cohort must name distinct silos, got {list(cohort)}")
        self._waiting = set(cohort)
        return Ask(requests=dict.fromkeys(cohort, self._request))

    def absorb(self, party: PartyId, reply: Chunks) -> None:
        """Add the vector of a silo that was asked and has not answered yet; ignore any other."""
        if party not in self._waiting:
            return
        self._waiting.remove(party)
        try:
            rest = fill(self._scratch, reply)
            if rest:
                raise ProtocolError(f"{len(rest)} bytes follow the vector, none were expected")
        except (ProtocolError, OSError) as error:
            self._dropped[party] = str(error)
            return
        np.add(self._total, self._scratch, out=self._total)
        self._contributors.add(party)

    def step(self) -> Ask | Sum:
        """Return the sum. Raises: TooFewSilos."""
        self._dropped.update(dict.fromkeys(self._waiting, "did not answer"))
        self._waiting = set()
        left = len(self._contributors)
        if left < self._min_cohort:
            raise TooFewSilos("plain sum", needed=self._min_cohort, left=left, dropped=dict(self._dropped))
        return Sum(total=self._total, contributors=frozenset(self._contributors))


class UnsafePlainSilo:
    """Send the vector in the clear."""

    def __init__(self, vector: Callable[[], Vector], admit: Callable[[bytes], None] | None = None) -> None:
        """Take the function that computes the vector; it is called once, at the first request.

        `admit` is called with the request's note before that, and raises for a round that it refuses.
        """
        self._compute = vector
        self._admit = admit
        self._vector: Vector | None = None

    def convict(self, proof: bytes) -> None:
        """Refuse it: nobody deals shares here. Raises: ProtocolError."""
        raise ProtocolError("proof of bad dealing has no place in a sum without shares")

    def handle(self, request: bytes) -> Chunks:
        """Answer with the vector's words, the same ones each time. Raises: ProtocolError."""
        if not request.startswith(REQUEST):
            raise ProtocolError("this is not a request for a plain sum: the two ends are configured differently")
        asked, _, note = request[len(REQUEST) :].partition(b"\n")
        if self._vector is None:
            if self._admit is not None:
                self._admit(note)
            self._vector = self._compute()
        if asked != b"%d" % len(self._vector):
            raise ProtocolError(f"the server expects another length than this silo's {len(self._vector)}")
        return (chunk.tobytes() for chunk in word_chunks(self._vector, 64))
