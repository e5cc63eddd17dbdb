"""The log's lines since the last closed round, shown to a silo with proof: it holds its privacy ledger against them.

    coordinator → silo   all lines from the one that closed the last round (from the first, where none was closed) to
                         the head of the same View, and the inclusion proof of the last of them
    silo                 1. the last line is the last leaf of the tree that the keeper signed; each names the one before
                         2. only the first closes a round, the one before that which begins: no older one passes for it
                         3. the silo's ledger holds the head that this line names for it, and the head that its own
                            journal named last, else `ledger_rolled_back`

Guarantee: a silo whose ledger was put back to a copy from before the last closed round reserves nothing: it refuses
instead, and the log keeps the refusal. That holds while its journal was not put back as well; and where it was, while
the server neither forks the log (`witness.py`), nor leaves a head out, nor closes an old round again (`verify.py` finds
it). What a silo released in a round that is not closed yet stands in its ledger alone.
"""

from dataclasses import dataclass

from fedcollm_crypto.canonical import Json
from fedcollm_crypto.checkpoint import Checkpoint
from fedcollm_crypto.derivation import HASH_BYTES
from fedcollm_crypto.errors import ProtocolError, Refused
from fedcollm_crypto.fields import Fields, octets
from fedcollm_crypto.merkle import MAX_PROOF_HASHES, verify_inclusion
from fedcollm_privacy.ledger import Ledger
from fedcollm_secure.audit.entry import Entry, read_line, read_unchained
from fedcollm_secure.audit.events import RoundClosed

MAX_LINES = 1 << 16  # a round of thousands of silos, all of which were lost three times


@dataclass(frozen=True, kw_only=True)
class Recent:
    """Lines of the log from index `first` to the head, and the inclusion proof of the last one."""

    first: int
    lines: tuple[bytes, ...]
    proof: tuple[bytes, ...]

    def to_json(self) -> dict[str, Json]:
        """Return it as a JSON object."""
        lines: list[Json] = [line.decode() for line in self.lines]
        return {"first": self.first, "lines": lines, "proof": [one.hex() for one in self.proof]}

    @classmethod
    def from_json(cls, value: Json) -> "Recent":
        """Read it. Raises: ProtocolError."""
        fields = Fields("recent", value)
        first, lines, proof = fields.integer("first", 0, 1 << 53), fields.items("lines"), fields.items("proof")
        fields.close()
        texts = [line.encode() for line in lines if isinstance(line, str)]
        if len(texts) != len(lines):
            raise ProtocolError("recent.lines: texts were expected")
        if not 0 < len(lines) <= MAX_LINES or len(proof) > MAX_PROOF_HASHES:
            raise ProtocolError(f"recent: 1 to {MAX_LINES} lines and at most {MAX_PROOF_HASHES} hashes were expected")
        return cls(
            first=first,
            lines=tuple(texts),
            proof=tuple(octets("recent.proof", one, HASH_BYTES) for one in proof),
        )

    def last_closed(self, head: Checkpoint) -> RoundClosed | None:
        """Return what closed the last round under `head`, None where none is closed. Raises: ProtocolError."""
        entries = self._entries()
        if self.first + len(entries) != head.size:
            raise ProtocolError(f"recent: expected lines up to entry {head.size}, got {self.first + len(entries)}")
        verify_inclusion(entries[-1].leaf, head.size - 1, head.size, self.proof, head.root)  # (1)
        opening, *others = (entry.event for entry in entries)
        closed = opening if isinstance(opening, RoundClosed) else None
        if any(isinstance(event, RoundClosed) for event in others) or (closed is None and self.first):  # (2)
            raise ProtocolError("recent: expected all lines since the one that closed the last round, and no others")
        return closed

    def _entries(self) -> list[Entry]:
        """Return the lines read, each of which follows the one before."""
        try:
            entries = [read_unchained(self.lines[0], index=self.first)]
            for line in self.lines[1:]:
                entries.append(read_line(line, index=self.first + len(entries), previous=entries[-1].leaf))
        except ValueError as error:
            raise ProtocolError(f"recent: {error}") from error
        return entries


def hold_ledger(
    ledger: Ledger, silo: str, recent: Recent | None, head: Checkpoint, *, beginning: int, remembered: str | None = None
) -> None:
    """Follow the steps above for the round that begins; `remembered` is the ledger head that the journal named last.

    Raises: Refused with `ledger_rolled_back`; ProtocolError for lines that do not prove what the last round was.
    """
    if recent is None:
        raise ProtocolError("view: expected the log's recent lines, which a silo holds its privacy ledger against")
    closed = recent.last_closed(head)
    last = closed.round if closed else 0
    if last != beginning - 1:
        raise ProtocolError(f"manifest: round {beginning} was to begin, and the log says that round {last} closed last")
    committed = closed.ledgers.get(silo) if closed else None
    for whose, named in ((f"the log of round {last}", committed), ("its own journal", remembered)):  # (3)
        if named is not None and not ledger.holds(named):
            raise Refused(
                "ledger_rolled_back",
                f"{whose} commits to ledger head {named[:16]} for {silo}, which this ledger does not hold: it was "
                "replaced, or an older copy was put back. Nothing was reserved or trained; put the newest copy back, "
                "then resume",
            )
