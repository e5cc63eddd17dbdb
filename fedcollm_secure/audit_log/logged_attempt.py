"""What the log said of one attempt so far, and whether its next line fits: each line is looked at once.

The rules are those of `logged_sums`, one method for each kind of line.
"""

from collections.abc import Mapping
from hashlib import sha256

from fedcollm_secure.audit_log.attempt_stages import Protocol
from fedcollm_secure.audit_log.events import (
    RoundStarted,
    RoundSummed,
    StageAnswered,
    SumAgreed,
    SumDecrypted,
)
from fedcollm_secure.errors import LogError


class Attempt:
    """One attempt, from the line that began it."""

    def __init__(self, started: RoundStarted, protocol: Protocol) -> None:
        """Begin with nothing said."""
        self.started = started
        self.agreed: SumAgreed | None = None
        self.decrypted: SumDecrypted | None = None
        self.summed: RoundSummed | None = None
        self.convicted: set[str] = set()
        self.lost: set[str] = set()  # silos of whom the log says, since it began, that they left, refused or cheated
        self._protocol = protocol
        self._last = 0
        self._cohort = frozenset(started.cohort)
        self._left = self._cohort  # who can be asked in the next stage of silos
        self._accepted: dict[int, tuple[str, ...]] = {}
        self._said: dict[str, bytearray] = {}  # by party, the digests of its replies
        self._is_open = False

    @property
    def name(self) -> str:
        """Return how a message calls it."""
        return f"round {self.started.round}, attempt {self.started.attempt}"

    @property
    def survivors(self) -> frozenset[str]:
        """Return over whom the sum is: who agreed, or, where nobody has to, whose vector was accepted."""
        return frozenset(self.agreed.survivors if self.agreed else self._vectors)

    @property
    def linear_pass(self) -> int | None:
        """Return the pass that was agreed to; None where nobody has to agree."""
        return self.agreed.linear_pass if self.agreed else None

    def answer(self, stage: StageAnswered, index: int) -> None:
        """Take in a stage. Raises: LogError."""
        number, replies = stage.stage, stage.replies.keys()
        if number <= self._last:
            raise LogError(f"stages of {self.name} are not in their order", index)
        if not set(stage.accepted) <= replies:
            raise LogError(f"stage {number} of {self.name} counts silos that did not answer", index)
        if number in (*self._protocol.silos, *self._protocol.aside):
            if not replies <= self._left:
                raise LogError(f"stage {number} of {self.name} was answered by silos that the stage before lost", index)
            if number in self._protocol.silos:
                self._left = frozenset(stage.accepted)
        elif not self._protocol.asks_decryptor(number, len(self._vectors)) or not self._cohort.isdisjoint(replies):
            raise LogError(f"{self.name} has a stage {number}, which its aggregation does not ask of them", index)
        if self.agreed is None and self._protocol.agrees and number > self._opens_after:
            raise LogError(f"stage {number} opens the sum of {self.name}, and no line names that sum before it", index)
        self._last, self._accepted[number] = number, stage.accepted
        for party, reply in stage.replies.items():
            self._said.setdefault(party, bytearray()).extend(bytes.fromhex(reply))

    def agree(self, agreed: SumAgreed, index: int) -> None:
        """Take in whom the sum is to be over: silos that join later go by it. Raises: LogError."""
        if self.agreed is not None:
            raise LogError(f"a sum of {self.name} is agreed to twice", index)
        if agreed.adapter_digest != self.started.adapter_digest:
            raise LogError(f"silos agreed to a sum of {self.name}, that never began so", index)
        if not self._cohort.issuperset(agreed.survivors):
            raise LogError(f"silos agreed to a sum of {self.name} that were not asked in it", index)
        if not self._protocol.agrees:
            raise LogError(f"silos agreed to a sum of {self.name}, and in the clear nobody is asked to", index)
        vectors, survivors = set(self._vectors), set(agreed.survivors)
        fits = survivors <= vectors if self._protocol.deposits else survivors == vectors  # a trustee may refuse some
        if not survivors or not fits:
            raise LogError(f"silos agreed to a sum of {self.name} over others than those whose vectors came", index)
        self._require(self._protocol.until_agreed(len(vectors)), "agreed to", index)
        self.agreed = agreed

    def decrypt(self, decrypted: SumDecrypted, index: int) -> None:
        """Take in that the decryptor opened the sum. Raises: LogError."""
        if self.decrypted is not None:
            raise LogError(f"a sum of {self.name} was opened twice", index)
        if self.agreed is None or self.agreed.linear_pass != decrypted.linear_pass:
            raise LogError(f"a sum of {self.name} was opened, and no silos agreed to it", index)
        if not self._protocol.encrypts:
            raise LogError(f"a sum of {self.name} was opened by a decryptor, which its aggregation has not", index)
        self._require((self._opens_after + 1,), "opened by a decryptor", index)
        self.decrypted = decrypted

    def judge(self, what: str, index: int) -> None:
        """Take in that somebody spoke of the sum: it must be open. Raises: LogError."""
        if self._is_open:
            return
        if (self._protocol.agrees and self.agreed is None) or (self._protocol.encrypts and self.decrypted is None):
            raise LogError(f"{what}, and the sum of {self.name} was not opened before", index)
        self._require(self._protocol.whole(len(self._vectors)), f"open, as {what}", index)
        self._is_open = True

    def convict(self, party: str, index: int) -> None:
        """Take in that a silo of this attempt is convicted. Raises: LogError where it is in the sum all the same."""
        self.convicted.add(party)
        if self.summed is not None and party in self.survivors:
            raise LogError(f"{party} is convicted of its part in {self.name}, which was summed over it", index)

    def sum_up(self, summed: RoundSummed, index: int) -> None:
        """Take in what came out; a crash may have had it said twice. Raises: LogError."""
        if self.summed is not None:
            if self.summed != summed:
                raise LogError(f"{self.name} was summed twice, to two ends", index)
            return  # it was held against the lines above it, and none came since
        if self._digests() != dict(summed.replies):
            raise LogError(f"{self.name}: the digests of all replies are not over those of its stages", index)
        if self._protocol.agrees and self.agreed is None:
            raise LogError(f"{self.name} was summed, and no silos agreed to open it", index)
        self._require(self._protocol.whole(len(self._vectors)), "summed", index)
        if self._protocol.encrypts and self.decrypted is None:
            raise LogError(f"{self.name} was summed, and no decryptor opened it", index)
        if guilty := self.survivors & self.convicted:
            raise LogError(f"{self.name} was summed over {min(guilty)}, who was convicted in it", index)
        if unnamed := self._cohort - self.survivors - self.lost:
            raise LogError(f"{self.name} was summed without {min(unnamed)}, and nothing says what became of it", index)
        self.summed = summed

    @property
    def _opens_after(self) -> int:
        return self._protocol.last_before_agreed(len(self._vectors))

    @property
    def _vectors(self) -> tuple[str, ...]:
        return self._accepted.get(self._protocol.vectors, ())

    def _digests(self) -> Mapping[str, str]:
        return {party: sha256(said).hexdigest() for party, said in self._said.items()}

    def _require(self, stages: tuple[int, ...], what: str, index: int) -> None:
        for stage in stages:
            if not self._accepted.get(stage):
                raise LogError(f"{self.name} was {what}, and nobody's answer to stage {stage} was accepted", index)
