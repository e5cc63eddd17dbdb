"""What travels between coordinator and silo around the aggregation's own bytes.

    request   Begin(manifest, θ_t, basis, payload) | Step(payload) | Close(round, adapter)
    reply     Payload: byte 1, then the aggregation's chunks | Refusal: byte 2, then JSON | Closed: byte 3, then JSON

Begin carries the first step of the aggregation, so that it costs no exchange of its own. Every length is checked, and
bytes that are left over are an error.
"""

import itertools
import struct
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto import canonical
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.masking.manifest import RoundManifest

MAGIC = b"FedCoLLM\x01"
_BEGIN, _STEP, _CLOSE = 1, 2, 3
_PAYLOAD, _REFUSAL, _CLOSED = b"\x01", b"\x02", b"\x03"
LARGEST_NOTE = 64 * 1024  # a refusal or a closing note is a few hundred bytes; more is not read


@dataclass(frozen=True, kw_only=True)
class Begin:
    """Open an attempt at a round: the manifest, θ_t as float32[d], and the aggregation's first request.

    `basis` float32[m] is what a second linear pass projects on; it is empty in the first one.
    """

    manifest: RoundManifest
    adapter: NDArray[np.float32] = field(repr=False)
    payload: bytes = field(repr=False)
    basis: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, dtype=np.float32), repr=False)


@dataclass(frozen=True, kw_only=True)
class Step:
    """Go on with the attempt: the aggregation's next request."""

    payload: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Close:
    """The round has its result; `adapter` is the digest of θ_{t+1}."""

    session: str
    round: int
    adapter: str


Request = Begin | Step | Close


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A silo says no: a code for the log and a sentence for people, neither with anything private in it."""

    reason_code: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Closed:
    """A silo's closing note: the head of its privacy ledger and ε spent so far as a decimal (empty without DP)."""

    ledger: str
    epsilon: str


def encode(request: Request) -> bytes:
    """Return the bytes of a request."""
    match request:
        case Begin():
            manifest, vectors = canonical.encode(request.manifest.to_body()), (request.adapter, request.basis)
            sized = (_sized(vector.astype("<f4").tobytes()) for vector in vectors)
            return b"".join((_head(_BEGIN), _sized(manifest), *sized, request.payload))
        case Step():
            return _head(_STEP) + request.payload
        case Close():
            note: dict[str, canonical.Json] = {
                "session": request.session,
                "round": request.round,
                "adapter": request.adapter,
            }
            return _head(_CLOSE) + canonical.encode(note)


def decode(message: bytes) -> Request:
    """Read a request.

    Raises:
        ProtocolError: another version, a wrong length, or a field that does not fit.
    """
    if message[: len(MAGIC)] != MAGIC or len(message) == len(MAGIC):
        raise ProtocolError("message: expected this version's prefix; the two sides run different releases")
    kind, rest = message[len(MAGIC)], message[len(MAGIC) + 1 :]
    match kind:
        case 1:
            return _begin(rest)
        case 2:
            return Step(payload=rest)
        case 3:
            return _close(rest)
        case _:
            raise ProtocolError(f"message: unknown kind {kind}")


def payload_reply(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Put the reply's kind before the aggregation's chunks."""
    return itertools.chain((_PAYLOAD,), chunks)


def note_reply(note: Refusal | Closed) -> Iterator[bytes]:
    """Return a refusal or a closing note as a reply."""
    kind = _REFUSAL if isinstance(note, Refusal) else _CLOSED
    yield kind + canonical.encode(dict(vars(note)))


def read_reply(chunks: Iterable[bytes]) -> Iterator[bytes] | Refusal | Closed:
    """Return the aggregation's chunks (still unread), a refusal or a closing note.

    Raises:
        ProtocolError: an empty reply, an unknown kind, or a note that does not parse.
    """
    stream = iter(chunks)
    first = next((chunk for chunk in stream if chunk), b"")
    kind, rest = first[:1], itertools.chain((first[1:],), stream)
    if kind == _PAYLOAD:
        return rest
    if kind not in (_REFUSAL, _CLOSED):
        raise ProtocolError("reply: expected a payload, a refusal or a closing note")
    note = _note(rest)
    if kind == _REFUSAL:
        return Refusal(**_fields(note, ("reason_code", "reason")))
    return Closed(**_fields(note, ("ledger", "epsilon")))


def _begin(data: bytes) -> Begin:
    manifest, rest = _cut(data)
    adapter, rest = _cut(rest)
    basis, payload = _cut(rest)
    return Begin(
        manifest=RoundManifest.from_body(canonical.decode(manifest)),
        adapter=_floats(adapter),
        basis=_floats(basis),
        payload=payload,
    )


def _floats(data: bytes) -> NDArray[np.float32]:
    if len(data) % 4:
        raise ProtocolError("message: expected whole float32 words in the adapter and the basis")
    return np.frombuffer(data, dtype="<f4").astype(np.float32)


def _close(data: bytes) -> Close:
    note = _parsed(data)
    number = note.get("round")
    if set(note) != {"session", "round", "adapter"} or not isinstance(number, int):
        raise ProtocolError("close: expected session, round and adapter")
    texts = _fields({name: note[name] for name in ("session", "adapter")}, ("session", "adapter"))
    return Close(session=texts["session"], round=number, adapter=texts["adapter"])


def _note(chunks: Iterator[bytes]) -> Mapping[str, object]:
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) > LARGEST_NOTE:
            raise ProtocolError(f"reply: expected a note of at most {LARGEST_NOTE} bytes")
    return _parsed(bytes(data))


def _parsed(data: bytes) -> Mapping[str, object]:
    value = canonical.decode(data)
    if not isinstance(value, dict):
        raise ProtocolError("message: expected a JSON object")
    return value


def _fields(note: Mapping[str, object], names: tuple[str, ...]) -> dict[str, str]:
    texts = {name: value for name, value in note.items() if isinstance(value, str)}
    if set(note) != set(names) or set(texts) != set(names):
        raise ProtocolError(f"message: expected exactly the texts {', '.join(names)}")
    return texts


def _head(kind: int) -> bytes:
    return MAGIC + bytes((kind,))


def _sized(data: bytes) -> bytes:
    return struct.pack("<Q", len(data)) + data


def _cut(data: bytes) -> tuple[bytes, bytes]:
    if len(data) < 8:
        raise ProtocolError("message: cut off before a length")
    (size,) = struct.unpack_from("<Q", data)
    if size > len(data) - 8:
        raise ProtocolError(f"message: expected {size} more bytes, got {len(data) - 8}")
    return data[8 : 8 + size], data[8 + size :]
