"""A silo's memory that outlives it: which requests it answered, and which sums it helped to open.

An entry is durable before the answer it speaks of is sent. Secrets are never written: the ephemeral keys of an attempt
live in memory alone, so a silo that restarts drops out of the attempt it was in, and a thief of its disk opens no
recorded round (forward secrecy).
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Protocol, TypeVar

from fedcollm_crypto import canonical
from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.canonical import MAX_INTEGER, Json
from fedcollm_crypto.durable import ChainedLines
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.fields import Fields
from fedcollm_crypto.masking.manifest import RoundManifest


@dataclass(frozen=True, kw_only=True)
class Where:
    """In which attempt of which round of which session."""

    session_id: str
    round: int
    attempt: int
    linear_pass: int

    @classmethod
    def of(cls, manifest: RoundManifest) -> "Where":
        """Name a manifest's attempt."""
        return cls(
            session_id=manifest.session_id,
            round=manifest.round,
            attempt=manifest.attempt,
            linear_pass=manifest.linear_pass,
        )

    @classmethod
    def take(cls, fields: Fields) -> "Where":
        """Take its fields out of an object. Raises: ProtocolError."""
        return cls(
            session_id=fields.text("session_id"),
            round=fields.integer("round", 0, MAX_INTEGER),
            attempt=fields.integer("attempt", 0, MAX_INTEGER),
            linear_pass=fields.integer("linear_pass", 0, MAX_INTEGER),
        )

    def to_body(self) -> dict[str, Json]:
        """Return it as a JSON object."""
        return asdict(self)


@dataclass(frozen=True, kw_only=True)
class Answered:
    """A stage is about to be answered: the request's hash, and the set it speaks of (U1, U2 or U3)."""

    where: Where
    stage: str
    request_hash: str
    members: tuple[PartyId, ...]


@dataclass(frozen=True, kw_only=True)
class Replied:
    """The hash of the answer to a stage, as it was signed."""

    where: Where
    stage: str
    reply_hash: str


@dataclass(frozen=True, kw_only=True)
class Released:
    """Shares are about to be revealed that open the sum of the survivors' updates of this model version.

    `dp_plan_hash` is the manifest's: empty in a job without differential privacy.
    """

    where: Where
    model_version: str
    survivors: tuple[PartyId, ...]
    dp_plan_hash: str


@dataclass(frozen=True, kw_only=True)
class Heard:
    """The consortium's log says that others agreed to open such a sum."""

    where: Where
    model_version: str
    survivors: tuple[PartyId, ...]
    dp_plan_hash: str


@dataclass(frozen=True, kw_only=True)
class Enrolled:
    """The silo takes part in a session of these members, for the first time; all of its roster, not a cohort.

    `least` is the smallest t, in decimal, with which it opens a sum there.
    """

    where: Where
    members: tuple[PartyId, ...]
    least: str
    dp_plan_hash: str


@dataclass(frozen=True, kw_only=True)
class Convicted:
    """The silo was shown proof that a party dealt bad shares in this attempt, and has verified it."""

    where: Where
    party: PartyId
    fault: str
    proof_hash: str


@dataclass(frozen=True, kw_only=True)
class Declined:
    """A request was refused: its hash and the reason."""

    where: Where
    stage: str
    request_hash: str
    reason_code: str


StageEntry = Answered | Replied | Released | Heard | Enrolled | Convicted | Declined


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
            self._entries = [_decode(text) for text in self._file.texts]
        except ProtocolError:
            self._file.close()
            raise

    def append(self, entry: StageEntry) -> None:
        """Write one entry; it is on the disk when this returns. Raises: OSError; nothing may then be answered."""
        self._file.append(_encode(entry))
        self._entries.append(entry)

    def entries(self) -> Sequence[StageEntry]:
        """Return all entries, the oldest first."""
        return tuple(self._entries)

    def close(self) -> None:
        """Give up the lock."""
        self._file.close()


def _encode(entry: StageEntry) -> bytes:
    body: dict[str, Json] = {"entry": type(entry).__name__, "where": entry.where.to_body()}
    for field in fields(entry):
        value = getattr(entry, field.name)
        if isinstance(value, str):
            body[field.name] = value
        elif isinstance(value, tuple):
            body[field.name] = [str(party) for party in value]
    return canonical.encode(body)


def _decode(line: bytes) -> StageEntry:
    reader = Fields("stage entry", canonical.decode(line))
    entry = _of_kind(reader.text("entry"), _where(reader.members("where")), reader)
    reader.close()
    return entry


def _where(value: Json) -> Where:
    reader = Fields("stage entry", value)
    where = Where.take(reader)
    reader.close()
    return where


def _of_kind(kind: str, where: Where, reader: Fields) -> StageEntry:
    match kind:
        case "Answered":
            stage, request_hash = reader.text("stage"), reader.text("request_hash")
            return Answered(where=where, stage=stage, request_hash=request_hash, members=reader.names("members"))
        case "Replied":
            return Replied(where=where, stage=reader.text("stage"), reply_hash=reader.text("reply_hash"))
        case "Released":
            return _opened(Released, where, reader)
        case "Heard":
            return _opened(Heard, where, reader)
        case "Enrolled":
            members, least = reader.names("members"), reader.text("least")
            return Enrolled(where=where, members=members, least=least, dp_plan_hash=reader.text("dp_plan_hash"))
        case "Convicted":
            party, fault, proof_hash = (reader.text(name) for name in ("party", "fault", "proof_hash"))
            return Convicted(where=where, party=party, fault=fault, proof_hash=proof_hash)
        case "Declined":
            stage, request_hash = reader.text("stage"), reader.text("request_hash")
            code = reader.text("reason_code")
            return Declined(where=where, stage=stage, request_hash=request_hash, reason_code=code)
        case _:
            raise ProtocolError("stage entry: of an unknown kind: the file is damaged or of a later version")


_Opened = TypeVar("_Opened", Released, Heard)


def _opened(kind: type[_Opened], where: Where, reader: Fields) -> _Opened:
    version, plan = reader.text("model_version"), reader.text("dp_plan_hash")
    return kind(where=where, model_version=version, survivors=reader.names("survivors"), dp_plan_hash=plan)
