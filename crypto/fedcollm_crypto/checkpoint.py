"""Checkpoints: what a log's keeper signs, and what its witnesses cosign (C2SP tlog-checkpoint, tlog-cosignature).

    checkpoint     origin \\n size \\n base64(root) \\n
    keeper         Ed25519 over exactly this text (type 0x01)
    witness        Ed25519 over "cosignature/v1\\ntime T\\n" ‖ text (type 0x04); in the post-quantum profile also
                   ML-DSA-44 over (witness, T, origin, 0, size, root) (type 0x06)

A cosignature says: the tree with this size and root grew out of every tree of this origin that I cosigned before.
Whoever wants to show two people two logs needs the cosignatures of two quorums; with q > (n + n_c)/2 of n witnesses,
of whom n_c may lie, two quorums have an honest witness in common, and there is no second log.
"""

import base64
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PublicKey

from fedcollm_crypto.derivation import HASH_BYTES
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.note import (
    ED25519_COSIGNATURE,
    ED25519_NOTE,
    MLDSA44_COSIGNATURE,
    Note,
    SignatureLine,
    decode_base64,
    key_id,
)

MAX_SIZE = 1 << 53
_TIMESTAMP_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class Checkpoint:
    """The head of the log `origin`: how many entries it has, and the root of the tree over them."""

    origin: str
    size: int
    root: bytes

    def __post_init__(self) -> None:
        """Refuse what the text could not hold."""
        if not self.origin or not self.origin.isprintable() or len(self.origin.encode()) > 255:
            raise ValueError("an origin is 1 to 255 bytes of printable text")
        if not 0 <= self.size < MAX_SIZE or len(self.root) != HASH_BYTES:
            raise ValueError(f"a size below 2^53 and a root of {HASH_BYTES} bytes are needed")

    @property
    def text(self) -> str:
        """Return the text that is signed."""
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"

    @classmethod
    def of(cls, text: str) -> "Checkpoint":
        """Read the text of a note. Raises: ProtocolError, also for extension lines: we know none."""
        lines = text.split("\n")
        if len(lines) != 4 or lines[3] or not lines[1].isdecimal() or str(int(lines[1][:20])) != lines[1]:
            raise ProtocolError("checkpoint: origin, size and root, a line each, were expected")
        try:
            return cls(origin=lines[0], size=int(lines[1]), root=decode_base64(lines[2]))
        except ValueError as error:
            raise ProtocolError(f"checkpoint: {error}") from None


@dataclass(frozen=True, kw_only=True)
class NoteKey:
    """The public keys behind a name under a note: Ed25519, and ML-DSA-44 where the party has one (else empty)."""

    name: str
    ed25519: bytes
    mldsa44: bytes = b""


LineCheck = Callable[[Checkpoint, SignatureLine], None]
"""Raise ProtocolError for a line that does not verify under a key."""


def sign_checkpoint(checkpoint: Checkpoint, keeper: Identity, *, time_s: int = 0) -> Note:
    """Return the checkpoint under its keeper's signature; the key's name is the origin.

    With an ML-DSA-44 key the keeper adds a cosignature of type 0x06: the one form of that key that C2SP knows.
    """
    name, public = checkpoint.origin, keeper.public_key
    line = SignatureLine(
        name=name, key_id=key_id(name, ED25519_NOTE, public), signature=keeper.key.sign(checkpoint.text.encode())
    )
    return Note(text=checkpoint.text, signatures=(line, *_mldsa44_lines(checkpoint, name, keeper, time_s)))


def cosign(checkpoint: Checkpoint, name: str, witness: Identity, *, time_s: int) -> tuple[SignatureLine, ...]:
    """Return the witness's lines: one, or two with an ML-DSA-44 key. `time_s` is in seconds since 1970.

    Guarantee: none by itself. The caller must have verified consistency with what it cosigned before, and have made
    this head durable, or it can be led to cosign two logs.
    """
    message = _ed25519_message(checkpoint, time_s)
    line = SignatureLine(
        name=name,
        key_id=key_id(name, ED25519_COSIGNATURE, witness.public_key),
        signature=_timestamp(time_s) + witness.key.sign(message),
    )
    return (line, *_mldsa44_lines(checkpoint, name, witness, time_s))


def open_checkpoint(note: Note, keeper: NoteKey, origin: str | None = None) -> Checkpoint:
    """Return the checkpoint that the keeper signed, with each of its keys.

    `keeper.name` is not looked at: the name must be the origin. Raises: ProtocolError for a missing or bad signature,
    or for another origin than the one expected.
    """
    checkpoint = Checkpoint.of(note.text)
    if origin is not None and checkpoint.origin != origin:
        raise ProtocolError(f"checkpoint: the log {origin} was expected, this one is of {checkpoint.origin}")
    named = NoteKey(name=checkpoint.origin, ed25519=keeper.ed25519, mldsa44=keeper.mldsa44)
    line = _line_of(note, named.name, key_id(named.name, ED25519_NOTE, named.ed25519))
    if line is None:
        raise ProtocolError("checkpoint: the keeper did not sign it")
    _check_keeper(named)(checkpoint, line)
    if keeper.mldsa44 and not _verify_mldsa44(note, checkpoint, named):
        raise ProtocolError("checkpoint: the keeper's ML-DSA-44 signature is missing")
    return checkpoint


def keepers_part(note: Note, keeper: NoteKey) -> Note:
    """Return a note that `open_checkpoint` opened, with the keeper's own lines alone: nobody else chose its length."""
    origin = Checkpoint.of(note.text).origin
    own = [_line_of(note, origin, key_id(origin, ED25519_NOTE, keeper.ed25519))]
    if keeper.mldsa44:
        own.append(_line_of(note, origin, key_id(origin, MLDSA44_COSIGNATURE, keeper.mldsa44)))
    return Note(text=note.text, signatures=tuple(line for line in own if line is not None))


def cosigners(note: Note, witnesses: Iterable[NoteKey]) -> frozenset[str]:
    """Return the names of the witnesses that cosigned, with each of their keys; strangers' lines are ignored.

    Raises: ProtocolError for a line under a known witness's key that does not verify.
    """
    checkpoint = Checkpoint.of(note.text)
    found = (witness.name for witness in witnesses if _is_cosigned(note, checkpoint, witness))
    return frozenset(found)


def require_own_lines(note: Note, keeper: NoteKey, witnesses: Iterable[NoteKey]) -> None:
    """Raise ProtocolError unless each line is of one of these keys, stands there once, and verifies by itself.

    C2SP lets anybody sign a note, and has readers ignore strangers. In a log's own folder nobody else signs: a line
    that is nobody's there was somebody's before it was changed.
    """
    checkpoint, seen = Checkpoint.of(note.text), set[tuple[str, bytes]]()
    checks = {(keeper.name, key_id(keeper.name, ED25519_NOTE, keeper.ed25519)): _check_keeper(keeper)}
    for signer in (keeper, *witnesses):
        if signer.mldsa44:
            checks[signer.name, key_id(signer.name, MLDSA44_COSIGNATURE, signer.mldsa44)] = _check_mldsa44(signer)
        if signer is not keeper:
            checks[signer.name, key_id(signer.name, ED25519_COSIGNATURE, signer.ed25519)] = _check_cosignature(signer)
    for line in note.signatures:
        place = (line.name, line.key_id)
        if place not in checks or place in seen:
            raise ProtocolError("checkpoint: a signature line is of no key of keeper and silos, or stands there twice")
        seen.add(place)
        checks[place](checkpoint, line)


def quorum(witnesses: int, colluding: int) -> int:
    """Return q, the least number above (n + n_c)/2: two sets of q witnesses share an honest one."""
    if not 0 <= colluding < witnesses:
        raise ValueError(f"of {witnesses} witnesses {colluding} cannot be the liars")
    return (witnesses + colluding) // 2 + 1


def require_quorum(names: Sequence[str] | frozenset[str], witnesses: int, colluding: int) -> None:
    """Raise ProtocolError unless enough witnesses cosigned that no second log can exist."""
    needed = quorum(witnesses, colluding)
    if len(names) < needed:
        raise ProtocolError(f"checkpoint: {len(names)} of {witnesses} witnesses cosigned it, {needed} are needed")


def _is_cosigned(note: Note, checkpoint: Checkpoint, witness: NoteKey) -> bool:
    line = _line_of(note, witness.name, key_id(witness.name, ED25519_COSIGNATURE, witness.ed25519))
    if line is None:
        return False
    _check_cosignature(witness)(checkpoint, line)
    return not witness.mldsa44 or _verify_mldsa44(note, checkpoint, witness)


def _verify_mldsa44(note: Note, checkpoint: Checkpoint, signer: NoteKey) -> bool:
    line = _line_of(note, signer.name, key_id(signer.name, MLDSA44_COSIGNATURE, signer.mldsa44))
    if line is None:
        return False
    _check_mldsa44(signer)(checkpoint, line)
    return True


def _check_keeper(keeper: NoteKey) -> LineCheck:
    def check(checkpoint: Checkpoint, line: SignatureLine) -> None:
        try:
            Ed25519PublicKey.from_public_bytes(keeper.ed25519).verify(line.signature, checkpoint.text.encode())
        except InvalidSignature:
            raise ProtocolError("checkpoint: the keeper's signature does not verify") from None

    return check


def _check_cosignature(witness: NoteKey) -> LineCheck:
    def check(checkpoint: Checkpoint, line: SignatureLine) -> None:
        time_s, signature = _split_timestamp(line.signature, 64)
        try:
            key = Ed25519PublicKey.from_public_bytes(witness.ed25519)
            key.verify(signature, _ed25519_message(checkpoint, time_s))
        except InvalidSignature:
            raise ProtocolError(f"checkpoint: the cosignature of {witness.name} does not verify") from None

    return check


def _check_mldsa44(signer: NoteKey) -> LineCheck:
    def check(checkpoint: Checkpoint, line: SignatureLine) -> None:
        time_s, signature = _split_timestamp(line.signature, 2420)
        try:
            key = MLDSA44PublicKey.from_public_bytes(signer.mldsa44)
            key.verify(signature, _mldsa44_message(checkpoint, signer.name, time_s))
        except (InvalidSignature, ValueError):
            raise ProtocolError(f"checkpoint: the ML-DSA-44 signature of {signer.name} does not verify") from None

    return check


def _mldsa44_lines(checkpoint: Checkpoint, name: str, signer: Identity, time_s: int) -> tuple[SignatureLine, ...]:
    if signer.mldsa44 is None:
        return ()
    signature = signer.mldsa44.sign(_mldsa44_message(checkpoint, name, time_s))
    identifier = key_id(name, MLDSA44_COSIGNATURE, signer.mldsa44_key)
    return (SignatureLine(name=name, key_id=identifier, signature=_timestamp(time_s) + signature),)


def _ed25519_message(checkpoint: Checkpoint, time_s: int) -> bytes:
    return f"cosignature/v1\ntime {time_s}\n{checkpoint.text}".encode()


def _mldsa44_message(checkpoint: Checkpoint, name: str, time_s: int) -> bytes:
    """Return `cosigned_message` of tlog-cosignature: a checkpoint is the subtree from 0 to its size."""
    who, origin = name.encode(), checkpoint.origin.encode()
    if len(who) > 255:
        raise ValueError("a cosigner's name has at most 255 bytes")
    head = b"subtree/v1\n\0" + bytes((len(who),)) + who + struct.pack(">Q", time_s)
    return head + bytes((len(origin),)) + origin + struct.pack(">QQ", 0, checkpoint.size) + checkpoint.root


def _timestamp(time_s: int) -> bytes:
    if not 0 <= time_s < 1 << 63:
        raise ValueError("a time is a number of seconds since 1970")
    return struct.pack(">Q", time_s)


def _split_timestamp(data: bytes, length: int) -> tuple[int, bytes]:
    if len(data) != _TIMESTAMP_BYTES + length:
        raise ProtocolError(f"checkpoint: a time and a signature of {length} bytes were expected")
    (time_s,) = struct.unpack(">Q", data[:_TIMESTAMP_BYTES])
    return time_s, data[_TIMESTAMP_BYTES:]


def _line_of(note: Note, name: str, identifier: bytes) -> SignatureLine | None:
    """Return the line under this key. Raises: ProtocolError for two of them."""
    found = [line for line in note.signatures if (line.name, line.key_id) == (name, identifier)]
    if len(found) > 1:
        raise ProtocolError("checkpoint: one key signed it twice")
    return found[0] if found else None


def as_keys(parties: Mapping[str, tuple[bytes, bytes]]) -> tuple[NoteKey, ...]:
    """Return note keys for names and (Ed25519, ML-DSA-44) public keys."""
    return tuple(NoteKey(name=name, ed25519=keys[0], mldsa44=keys[1]) for name, keys in parties.items())
