"""A silo's memory that outlives it: which requests it answered, and which sums it helped to open.

An entry is durable before the answer it speaks of is sent. Secrets are never written: the ephemeral keys of an attempt
live in memory alone, so a silo that restarts drops out of the attempt it was in, and a thief of its disk opens no
recorded round (forward secrecy).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias, get_args

from fedcollm_crypto import canonical
from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.declared import Declared, OneOf
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.kinds import Natural
from fedcollm_crypto.lines import ChainedLines
from fedcollm_crypto.masking.manifest import RoundManifest


@dataclass(frozen=True, kw_only=True)
class Where(Declared):
    """In which attempt of which round of which session."""

    session_id: str
    round: Natural
    attempt: Natural
    linear_pass: Natural

    @classmethod
    def of(cls, manifest: RoundManifest) -> "Where":
        """Name a manifest's attempt."""
        return cls(
            session_id=manifest.session_id,
            round=manifest.round,
            attempt=manifest.attempt,
            linear_pass=manifest.linear_pass,
        )


@dataclass(frozen=True, kw_only=True)
class Answered(Declared):
    """A stage is about to be answered: the request's hash, and the set it speaks of (U1, U2 or U3)."""

    where: Where
    stage: str
    request_hash: str
    members: tuple[PartyId, ...]


@dataclass(frozen=True, kw_only=True)
class Replied(Declared):
    """The hash of the answer to a stage, as it was signed."""

    where: Where
    stage: str
    reply_hash: str


@dataclass(frozen=True, kw_only=True)
class Released(Declared):
    """Shares are about to be revealed that open the sum of the survivors' updates of this model version.

    `dp_plan_hash` is the manifest's: empty in a job without differential privacy.
    """

    where: Where
    model_version: str
    survivors: tuple[PartyId, ...]
    dp_plan_hash: str


@dataclass(frozen=True, kw_only=True)
class Heard(Declared):
    """The consortium's log says that others agreed to open such a sum."""

    where: Where
    model_version: str
    survivors: tuple[PartyId, ...]
    dp_plan_hash: str


@dataclass(frozen=True, kw_only=True)
class Enrolled(Declared):
    """The silo takes part in a session of these members, for the first time; all of its roster, not a cohort.

    `least` is the smallest t, in decimal, with which it opens a sum there.
    """

    where: Where
    members: tuple[PartyId, ...]
    least: str
    dp_plan_hash: str


@dataclass(frozen=True, kw_only=True)
class Convicted(Declared):
    """The silo was shown proof that a party dealt bad shares in this attempt, and has verified it."""

    where: Where
    party: PartyId
    fault: str
    proof_hash: str


@dataclass(frozen=True, kw_only=True)
class Declined(Declared):
    """A request was refused: its hash and the reason."""

    where: Where
    stage: str
    request_hash: str
    reason_code: str


StageEntry: TypeAlias = Answered | Replied | Released | Heard | Enrolled | Convicted | Declined
STAGE_ENTRIES: tuple[type[StageEntry], ...] = get_args(StageEntry)


class StageJournal(Protocol):
    """A list that only grows. `append` returns once the entry would survive a power cut."""

    def append(self, entry: StageEntry) -> None:
        """Write one entry durably."""
        ...

    def entries(self) -> Sequence[StageEntry]:
        """Return all entries, the oldest first."""
        ...


class MemoryStages:
    """A journal for tests and simulations: it is gone when the process is."""

    def __init__(self) -> None:
        """Start empty."""
        self._entries: list[StageEntry] = []

    def append(self, entry: StageEntry) -> None:
        """Remember one entry."""
        self._entries.append(entry)

    def entries(self) -> Sequence[StageEntry]:
        """Return all entries, the oldest first."""
        return tuple(self._entries)


class FileStages:
    """A journal in a file, one canonical JSON object a line, chained, fsynced and locked against a second process.

    An unfinished last line is a crash before its answer was sent: it is cut off. Any other damage is refused: a line
    that is changed, dropped or moved, and a file from before lines were chained.
    """

    def __init__(self, path: Path) -> None:
        """Open or create the file. Raises: RuntimeError when another process holds it, ProtocolError if damaged."""
        self._file = ChainedLines(path)
        try:
            self._entries = [_ENTRIES.read(canonical.decode(text)) for text in self._file.texts]
        except ProtocolError:
            self._file.close()
            raise

    def append(self, entry: StageEntry) -> None:
        """Write one entry; it is on the disk when this returns. Raises: OSError; nothing may then be answered."""
        self._file.append(canonical.encode(_ENTRIES.write(entry)))
        self._entries.append(entry)

    def entries(self) -> Sequence[StageEntry]:
        """Return all entries, the oldest first."""
        return tuple(self._entries)

    def close(self) -> None:
        """Give up the lock."""
        self._file.close()


_ENTRIES: OneOf[StageEntry] = OneOf("stage entry", "entry", {kind.__name__: kind for kind in STAGE_ENTRIES})
