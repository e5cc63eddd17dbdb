"""A silo as witness of the consortium's log: it cosigns a head only if the log grew out of what it cosigned before.

    coordinator → silo   View: the signed checkpoint, the size that this silo cosigned last, a consistency proof
    silo                 1. the keeper signed it, and it is of this run's log
                         2. the size is the one that this silo remembers, else `stale_head`: ask it which
                         3. the proof leads from the remembered root to the new one, else `forked_log`: evidence
                         4. write the new head to the journal, durably
    silo → coordinator   its cosignature

Guarantee: an honest silo never cosigns two heads of one log of which neither contains the other, also after a crash,
if its journal is not rolled back.
"""

import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, ClassVar, NoReturn

from fedcollm_crypto import canonical
from fedcollm_crypto.checkpoint import Checkpoint, NoteKey, cosign, keepers_part, open_checkpoint
from fedcollm_crypto.declared import Declared
from fedcollm_crypto.errors import ProtocolError, Refused
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.kinds import Natural, Text
from fedcollm_crypto.merkle import EMPTY_ROOT, Proof, verify_consistency
from fedcollm_crypto.note import MAX_NOTE_BYTES, Note, SignatureLine
from fedcollm_secure.audit_log.checkpoint_folder import key_name
from fedcollm_secure.audit_log.journal import HeadCosigned, HeadRefused, HeadSeen, Journal, check_note
from fedcollm_secure.audit_log.unseen_lines import Proved, Recent

_LENGTH = struct.Struct("<I")
MAX_SHOWN_BYTES = 8 * MAX_NOTE_BYTES
"""Longest JSON of a view: a note, whose newlines are escaped, and two proofs."""


@dataclass(frozen=True, kw_only=True)
class Shown(Declared):
    """What travels of a view as JSON: all but the lines, which follow."""

    KIND: ClassVar[str] = "view"

    note: Annotated[str, Text(MAX_NOTE_BYTES)]
    old: Natural
    proof: Proof
    recent: Proved | None = None


@dataclass(frozen=True, kw_only=True)
class View:
    """What a silo is shown of the log: a signed checkpoint, and proof that it grew out of its first `old` entries.

    `recent`: the lines since the last closed round, and since the last that this silo was shown. A silo holds its
    ledger against them when a round begins, and the sums that it helped to open whenever it cosigns.
    """

    note: str
    old: int
    proof: tuple[bytes, ...]
    recent: Recent | None = None

    def encode(self) -> bytes:
        """Return its bytes: the length of the JSON, the JSON (`Shown`), and the lines as they stand in the log."""
        proved = self.recent.proved if self.recent else None
        shown = Shown(note=self.note, old=self.old, proof=self.proof, recent=proved)
        head = canonical.encode(shown.to_body())
        return b"".join((_LENGTH.pack(len(head)), head, self.recent.text if self.recent else b""))

    @classmethod
    def decode(cls, data: bytes) -> "View":
        """Read a view; its cost grows with its bytes. Raises: ProtocolError for what is none, or beyond its bounds."""
        if len(data) < _LENGTH.size:
            raise ProtocolError("view: cut off before its length")
        end = _LENGTH.size + _LENGTH.unpack_from(data)[0]
        if end > len(data):
            raise ProtocolError(f"view: expected {end} bytes, got {len(data)}")
        shown = Shown.from_body(canonical.decode(data[_LENGTH.size : end], MAX_SHOWN_BYTES))
        if shown.recent is None and end < len(data):
            raise ProtocolError(f"view: expected no lines, got {len(data) - end} bytes")
        recent = Recent.of(shown.recent, data[end:]) if shown.recent else None
        return cls(note=shown.note, old=shown.old, proof=shown.proof, recent=recent)


class Witness:
    """The cosigning side of one silo in one run."""

    def __init__(
        self,
        identity: Identity,
        *,
        keeper: NoteKey,
        origin: str,
        journal: Journal,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """Remember which head the journal names last."""
        self._identity = identity
        self._keeper = keeper
        self._origin = origin
        self._journal = journal
        self._clock = clock
        kept = [check_note(entry.note) for entry in journal.entries if isinstance(entry, HeadCosigned | HeadSeen)]
        mine = [head for head in kept if head.origin == origin]
        self._head = mine[-1] if mine else Checkpoint(origin=origin, size=0, root=EMPTY_ROOT)
        self._last_line = ""

    @property
    def last_line(self) -> str:
        """Return the Ed25519 line of the last cosignature, for this attempt's hello; empty before the first."""
        return self._last_line

    @property
    def head(self) -> Checkpoint:
        """Return the last head that this party cosigned or kept; of size 0 before the first."""
        return self._head

    def check(self, view: View) -> Checkpoint:
        """Follow steps 1 to 3 and return the head; nothing is cosigned or remembered.

        Raises: Refused with `stale_head` or `forked_log`; ProtocolError for what the keeper did not sign.
        """
        head = open_checkpoint(Note.decode(view.note), self._keeper, self._origin)  # (1)
        if view.old != self._head.size:  # (2)
            raise Refused("stale_head", f"the proof begins at {view.old} entries, this silo cosigned {self._head.size}")
        try:
            verify_consistency(self._head.size, self._head.root, head.size, head.root, view.proof)  # (3)
        except ProtocolError as error:
            self._refuse(self._kept(view), str(error))
        return head

    def follow(self, view: View) -> Checkpoint:
        """Follow all steps without a cosignature, as a party does that is none of the log's witnesses.

        Raises: as `check`.
        """
        head = self.check(view)
        self._keep(head, HeadSeen(note=self._kept(view)))  # (4)
        return head

    def cosign(self, view: View) -> tuple[SignatureLine, ...]:
        """Follow all steps and return the cosignature. Raises: as `check`."""
        head = self.check(view)
        self._keep(head, HeadCosigned(note=self._kept(view)))  # (4)
        lines = cosign(head, key_name(self._identity.party), self._identity, time_s=int(self._clock()))
        self._last_line = lines[0].encode()
        return lines

    def _keep(self, head: Checkpoint, entry: HeadCosigned | HeadSeen) -> None:
        if head != self._head:  # a head that is shown again is remembered already
            self._journal.append(entry)
        self._head = head

    def _kept(self, view: View) -> str:
        """Return what the journal keeps of a view: text and the keeper's lines, of a length that it alone chose."""
        return keepers_part(Note.decode(view.note), self._keeper).encode()

    def _refuse(self, note: str, why: str) -> NoReturn:
        self._journal.append(HeadRefused(note=note, reason="forked_log"))
        raise Refused("forked_log", f"this is not the log that this silo cosigned: {why}")
