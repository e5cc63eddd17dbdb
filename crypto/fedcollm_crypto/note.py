"""Signed notes (C2SP signed-note): text, a blank line, and signature lines that anybody may add to.

    — <key name> base64(4-byte key id ‖ signature)          key id = SHA-256(name ‖ "\\n" ‖ type ‖ public key)[:4]

Reading checks form alone; what a signature is worth is decided with a key, in `checkpoint`.
"""

import base64
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass

from fedcollm_crypto.errors import ProtocolError

ED25519_NOTE = 0x01
ED25519_COSIGNATURE = 0x04
MLDSA44_COSIGNATURE = 0x06
"""Signature types that C2SP assigned."""

KEY_ID_BYTES = 4
MAX_SIGNATURES = 256
MAX_NOTE_BYTES = 1 << 20
_DASH = "— "


@dataclass(frozen=True, kw_only=True)
class SignatureLine:
    """One signature under a note: whose key it claims, and the bytes behind the key id."""

    name: str
    key_id: bytes
    signature: bytes

    def __post_init__(self) -> None:
        """Refuse a name that no line could carry."""
        check_name(self.name)

    def encode(self) -> str:
        """Return the line, with its newline."""
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n"

    @classmethod
    def decode(cls, line: str) -> "SignatureLine":
        """Read a line without its newline. Raises: ProtocolError."""
        found = re.fullmatch(r"— ([^\s+]+) ([A-Za-z0-9+/]+={0,2})", line)
        if found is None:
            raise ProtocolError("note: a signature line reads — name base64")
        data = decode_base64(found[2])
        if len(data) <= KEY_ID_BYTES:
            raise ProtocolError("note: a signature line holds a key id of 4 bytes and a signature")
        try:
            return cls(name=found[1], key_id=data[:KEY_ID_BYTES], signature=data[KEY_ID_BYTES:])
        except ValueError as error:
            raise ProtocolError(f"note: {error}") from None


@dataclass(frozen=True, kw_only=True)
class Note:
    """A text that ends with a newline, and its signature lines in the order they came."""

    text: str
    signatures: tuple[SignatureLine, ...]

    def encode(self) -> str:
        """Return the note as it lies in a file."""
        return self.text + "\n" + "".join(line.encode() for line in self.signatures)

    @classmethod
    def decode(cls, data: str) -> "Note":
        """Read a note. Raises: ProtocolError for another form, control characters, or too many signatures."""
        if len(data) > MAX_NOTE_BYTES or re.search(r"[\x00-\x09\x0b-\x1f]", data):
            raise ProtocolError("note: printable text of at most a megabyte was expected")
        text, blank, tail = data.rpartition("\n\n")
        if not blank or not tail.endswith("\n"):
            raise ProtocolError("note: a text, a blank line and signature lines were expected")
        lines = tail[:-1].split("\n")
        if len(lines) > MAX_SIGNATURES:
            raise ProtocolError(f"note: at most {MAX_SIGNATURES} signatures were expected, got {len(lines)}")
        return cls(text=text + "\n", signatures=tuple(SignatureLine.decode(line) for line in lines))

    def with_lines(self, lines: Sequence[SignatureLine]) -> "Note":
        """Return the note with further lines; one that is there already is not repeated."""
        known = {(line.name, line.key_id) for line in self.signatures}
        fresh = tuple(line for line in lines if (line.name, line.key_id) not in known)
        return Note(text=self.text, signatures=self.signatures + fresh)


def key_id(name: str, kind: int, public_key: bytes) -> bytes:
    """Return the 4 bytes that tell a signature's key; not a commitment to it."""
    return hashlib.sha256(name.encode() + b"\n" + bytes((kind,)) + public_key).digest()[:KEY_ID_BYTES]


def check_name(name: str) -> None:
    """Raise ValueError for a key name with a blank or a plus in it, or none at all."""
    if not name or "+" in name or any(letter.isspace() or not letter.isprintable() for letter in name):
        raise ValueError("a key name has at least one letter, and neither blanks nor plus signs")


def decode_base64(text: str) -> bytes:
    """Return the bytes of base64 in its one canonical spelling. Raises: ProtocolError."""
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:  # binascii.Error among them; a letter outside ASCII is another
        data = b""
    if not data or base64.b64encode(data).decode() != text:
        raise ProtocolError("note: canonical base64 was expected")
    return data
