"""A proof that an entry is in a log, in one file that needs nothing else but keys (C2SP tlog-proof).

    c2sp.org/tlog-proof@v1 \\n extra base64(entry) \\n index N \\n base64(hash) \\n … \\n \\n signed checkpoint

`extra` carries the entry itself, so that the file says what it proves; it counts only through its hash.
"""

import base64
import re
from dataclasses import dataclass

from fedcollm_crypto.checkpoint import Checkpoint
from fedcollm_crypto.derivation import HASH_BYTES
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.merkle import MAX_PROOF_HASHES, leaf_hash, verify_inclusion
from fedcollm_crypto.note import Note, decode_base64

HEADER = "c2sp.org/tlog-proof@v1"
MAX_PROOF_BYTES = 1 << 22
"""Longest file: an entry of a megabyte in base64, 64 hashes and a checkpoint."""
_INDEX = re.compile(r"index (0|[1-9][0-9]{0,15})")


@dataclass(frozen=True, kw_only=True)
class LogProof:
    """An entry, its place, the path to the root, and the checkpoint that signs the root."""

    entry: bytes
    index: int
    path: tuple[bytes, ...]
    checkpoint: Note

    def encode(self) -> str:
        """Return the text of the file."""
        lines = [HEADER, f"extra {_base64(self.entry)}", f"index {self.index}", *map(_base64, self.path)]
        return "".join(f"{line}\n" for line in lines) + "\n" + self.checkpoint.encode()

    @classmethod
    def decode(cls, text: str) -> "LogProof":
        """Read the text of a file. Raises: ProtocolError."""
        if len(text) > MAX_PROOF_BYTES:
            raise ProtocolError(f"proof: at most {MAX_PROOF_BYTES} bytes were expected")
        head, blank, note = text.partition("\n\n")
        header, *lines = head.split("\n")
        if header != HEADER or not blank or len(lines) < 2 or len(lines) > 2 + MAX_PROOF_HASHES:
            raise ProtocolError(f"proof: {HEADER}, extra, index, hashes, a blank line and a checkpoint were expected")
        extra, index, *path = lines
        number = _INDEX.fullmatch(index)
        if not extra.startswith("extra ") or number is None:
            raise ProtocolError("proof: the entry and its index were expected")
        hashes = tuple(decode_base64(line) for line in path)
        if any(len(one) != HASH_BYTES for one in hashes):
            raise ProtocolError(f"proof: hashes of {HASH_BYTES} bytes were expected")
        entry = decode_base64(extra.removeprefix("extra "))
        return cls(entry=entry, index=int(number[1]), path=hashes, checkpoint=Note.decode(note))

    def verify(self) -> Checkpoint:
        """Return the checkpoint that the entry leads to; its signatures are the caller's to check.

        Raises: ProtocolError.
        """
        head = Checkpoint.of(self.checkpoint.text)
        verify_inclusion(leaf_hash(self.entry), self.index, head.size, self.path, head.root)
        return head


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()
