"""The log's lines that a silo has not seen yet, shown to it with proof whenever it is to cosign a head.

    coordinator → silo   all lines from the one that closed the last round, or from the first that this silo has not
                         cosigned, to the head of the same View, and the hashes of the tree before them (its frontier).
                         They travel as they stand in the file, a newline behind each: no byte is spelt otherwise
    silo                 1. frontier and lines make the very tree that the keeper signed; each line names the one before
                         2. nothing is left out: they begin no later than where this silo's memory of the log ends, and
                            the last round that they close is the one before that which begins
                         3. every sum that this silo helped to open stands there as it was; each in one way, and, where
                            an attempt begins, none before it; else `unlogged_sum`
                         4. where a round begins, the silo's ledger holds the head that the closing line names for it,
                            and the head that its own journal named last, else `ledger_rolled_back`

Invariant: a silo never cosigns a head of a log in which a sum that it has helped to open in this session is missing or
other. The lines reach back to the head of the attempt that the silo joined last, and a sum is named after that; what is
older it found named when it joined. So no sum can follow on one that the log does not name, nor can the log end without
it: two sums share an honest silo, and so do a sum and a quorum. The head that names a sum is cosigned before its shares
are asked for. Whether the sum that is opened then is that one, the decryptor sees, or the silo at the next head. What a
silo learns of sums that others opened is part of what it holds to (`masking.invariant`) as soon as it joins an attempt.

Guarantee: a silo whose ledger was put back to a copy from before the last closed round reserves nothing: it refuses
instead, and the log keeps the refusal. That holds while its journal was not put back as well; and where it was, while
the server neither forks the log (`witness.py`), nor leaves a head out, nor closes an old round again
(`run_verification.py` finds it). What a silo released in a round that is not closed yet stands in its ledger alone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

from fedcollm_crypto.checkpoint import Checkpoint
from fedcollm_crypto.declared import Declared
from fedcollm_crypto.errors import ProtocolError, Refused
from fedcollm_crypto.kinds import Natural
from fedcollm_crypto.masking.stages import Heard, Released, Where
from fedcollm_crypto.merkle import Proof, leaf_hash, root_after
from fedcollm_privacy.ledger import Ledger
from fedcollm_secure.audit_log.events import RoundClosed, RoundStarted, SumAgreed
from fedcollm_secure.audit_log.log_entry import Entry, read_line, read_unchained
from fedcollm_secure.audit_log.untrusted_files import LINES_BYTES

MAX_LINES = 1 << 20  # thousands of attempts among a hundred silos, all of which were lost each time
MAX_SUMS = 1 << 14  # that a silo is told of at once: each becomes a line of its journal
MAX_LINES_BYTES = LINES_BYTES  # a longer log nobody verifies either


@dataclass(frozen=True, kw_only=True)
class Proved(Declared):
    """Where the lines begin, and the frontier of the tree there: what stands before them on the wire."""

    KIND: ClassVar[str] = "recent"

    first: Natural
    frontier: Proof


@dataclass(frozen=True, kw_only=True)
class Recent:
    """Lines of the log from index `first` to the head, and the frontier of the `first` entries before them."""

    first: int
    lines: tuple[bytes, ...]
    frontier: tuple[bytes, ...]

    @property
    def proved(self) -> Proved:
        """Return what stands before the lines on the wire."""
        return Proved(first=self.first, frontier=self.frontier)

    @property
    def text(self) -> bytes:
        """Return the lines as they stand in the log's file."""
        return b"".join(line + b"\n" for line in self.lines)

    @classmethod
    def of(cls, proved: Proved, text: bytes) -> "Recent":
        """Read what `proved` and `text` were. Raises: ProtocolError beyond the bounds, before any line is parsed."""
        if len(text) > MAX_LINES_BYTES:
            raise ProtocolError(f"recent.lines: at most {MAX_LINES_BYTES} bytes were expected, got {len(text)}")
        count = text.count(b"\n")
        if not 1 <= count <= MAX_LINES or not text.endswith(b"\n"):
            raise ProtocolError(f"recent.lines: 1 to {MAX_LINES} whole lines were expected, got {count}")
        return cls(first=proved.first, lines=tuple(text.split(b"\n")[:-1]), frontier=proved.frontier)

    def told(self, head: Checkpoint, *, known: int) -> "Told":
        """Return what these lines tell under `head`, to a silo that cosigned `known` entries.

        Guarantee: they are the entries from `first` on of the tree under `head`, all of them, and of no other.
        Raises: ProtocolError.
        """
        if not self.lines or self.first + len(self.lines) != head.size:
            raise ProtocolError(f"recent: expected lines up to entry {head.size}, got {self.first + len(self.lines)}")
        if self.first > known:  # (2)
            raise ProtocolError(f"recent: expected all lines since the round before, and since known: {known}")
        if root_after(self.first, self.frontier, map(leaf_hash, self.lines)) != head.root:  # (1)
            raise ProtocolError(f"recent: these are not the entries from {self.first} on under the head of {head.size}")
        entries = self._entries()  # not before here: what the keeper did not sign costs its hashes
        events = [entry.event for entry in entries]
        closed = [event for event in events if isinstance(event, RoundClosed)]
        if not closed and self.first:
            raise ProtocolError("recent: expected all lines since the one that closed the last round")
        agreed = tuple(event for event in events if isinstance(event, SumAgreed))
        if len(agreed) > MAX_SUMS:
            raise ProtocolError(f"recent: at most {MAX_SUMS} sums at once were expected, got {len(agreed)}")
        begun = tuple(event for event in events if isinstance(event, RoundStarted))
        return Told(closed=closed[-1] if closed else None, begun=begun, agreed=agreed)

    def _entries(self) -> list[Entry]:
        """Return the lines read, each of which follows the one before."""
        try:
            entries = [read_unchained(self.lines[0], index=self.first)]
            for line in self.lines[1:]:
                entries.append(read_line(line, index=self.first + len(entries), previous=entries[-1].leaf))
        except ValueError as error:
            raise ProtocolError(f"recent: {error}") from error
        return entries


@dataclass(frozen=True, kw_only=True)
class Told:
    """What closed the last round (None where none is closed), which attempts began, which sums silos agreed to open."""

    closed: RoundClosed | None
    begun: tuple[RoundStarted, ...]
    agreed: tuple[SumAgreed, ...]

    def require_next(self, beginning: int) -> None:
        """Raise ProtocolError unless the round that begins is the one after the last that was closed."""
        last = self.closed.round if self.closed else 0
        if last != beginning - 1:
            raise ProtocolError(
                f"manifest: round {beginning} was to begin, and the log says that round {last} closed last"
            )

    def require_before(self, beginning: tuple[int, int]) -> None:
        """Raise Refused where a sum is named before its attempt: what it will be over, nobody knows yet."""
        for one in self.agreed:
            if (one.round, one.attempt) >= beginning:
                raise Refused(
                    "unlogged_sum",
                    f"the log names a sum of round {one.round}, attempt {one.attempt}, and {beginning} is to begin: a "
                    "name that comes first could pass for that of whatever sum comes then",
                )


def require_one_story(heard: Iterable[Heard]) -> None:
    """Stop a log that names one sum in two ways: some silos would go by the one, and some by the other.

    Raises: Refused with `unlogged_sum`.
    """
    first: dict[Where, Heard] = {}
    for one in heard:
        if first.setdefault(one.where, one) != one:
            raise Refused(
                "unlogged_sum",
                f"the log names the sum of round {one.where.round}, attempt {one.where.attempt} in two ways",
            )


def hold_ledger(ledger: Ledger, silo: str, closed: RoundClosed | None, *, remembered: str | None = None) -> None:
    """(4) Hold a ledger against the log and the journal; `remembered` is the head that the journal named last.

    Raises: Refused with `ledger_rolled_back`.
    """
    last = closed.round if closed else 0
    committed = closed.ledgers.get(silo) if closed else None
    for whose, named in ((f"the log of round {last}", committed), ("its own journal", remembered)):
        if named is not None and not ledger.holds(named):
            raise Refused(
                "ledger_rolled_back",
                f"{whose} commits to ledger head {named[:16]} for {silo}, which this ledger does not hold: it was "
                "replaced, or an older copy was put back. Nothing was reserved or trained; put the newest copy back, "
                "then resume",
            )


def require_logged(mine: Iterable[Released], agreed: Iterable[SumAgreed]) -> None:
    """(3) Hold the sums that a silo helped to open, and has not found in the log yet, against what the log names.

    Raises: Refused with `unlogged_sum`.
    """
    named = {(one.round, one.attempt, one.linear_pass): one for one in agreed}
    for release in mine:
        where = release.where
        told = named.get((where.round, where.attempt, where.linear_pass))
        if told is None or (tuple(sorted(told.survivors)), told.adapter_digest) != (
            release.survivors,
            release.model_version,
        ):
            raise Refused(
                "unlogged_sum",
                f"this silo helped to open the sum of round {where.round}, attempt {where.attempt}, and the log does "
                "not name it as it was: who joins later could not know of it. Nothing was trained",
            )
