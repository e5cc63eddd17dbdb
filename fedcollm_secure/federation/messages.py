"""What travels between coordinator and silo around the aggregation's own bytes.

    request   Begin(manifest, view of the log, reference, θ_t, basis, payload) | Step(payload) | Close(round, adapter)
              Show(view)
    reply     Payload: byte 1, then the aggregation's chunks        Refusal, Closed, Cosigned: byte 2, 3, 4, then JSON
              Greeting, to Begin: byte 5, the cosignature with its length, then the aggregation's chunks

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
from fedcollm_crypto.derivation import HASH_BYTES
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.fields import Fields, octets
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_secure.audit.fields import is_decimal
from fedcollm_secure.audit.witness import View

MAGIC = b"FedCoLLM\x02"
_BEGIN, _STEP, _CLOSE, _SHOW = 1, 2, 3, 4
_PAYLOAD, _REFUSAL, _CLOSED, _COSIGNED, _GREETING = b"\x01", b"\x02", b"\x03", b"\x04", b"\x05"
LARGEST_NOTE = 64 * 1024  # a refusal or a closing note is a few hundred bytes; more is not read


@dataclass(frozen=True, kw_only=True)
class Begin:
    """Open an attempt at a round: the manifest, the log's head, θ_t as float32[d], the aggregation's first request.

    `reference`: the aggregate of the round before, float32[d], for silos that hold θ_t against it; else empty.
    `basis` float32[m] is what a second linear pass projects on; it is empty in the first one.
    """

    manifest: RoundManifest
    view: View
    reference: NDArray[np.float32] = field(repr=False)
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


@dataclass(frozen=True, kw_only=True)
class Show:
    """Show a head of the log for its cosignature; without a view, ask only which head the silo cosigned last."""

    view: View | None


Request = Begin | Step | Close | Show


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


@dataclass(frozen=True, kw_only=True)
class Cosigned:
    """A silo's answer to Show: its signature lines (empty without a view), and the size of its last head."""

    lines: str
    size: int


@dataclass(frozen=True, kw_only=True)
class Greeting:
    """A silo's answer to Begin: its signature lines under the head it was shown, and the aggregation's reply."""

    lines: str
    chunks: Iterator[bytes]


def encode(request: Request) -> bytes:
    """Return the bytes of a request."""
    match request:
        case Begin():
            manifest, view = canonical.encode(request.manifest.to_body()), canonical.encode(request.view.to_json())
            vectors = (vector.astype("<f4").tobytes() for vector in (request.reference, request.adapter, request.basis))
            parts = (_sized(part) for part in (manifest, view, *vectors))
            return b"".join((_head(_BEGIN), *parts, request.payload))
        case Step():
            return _head(_STEP) + request.payload
        case Close():
            note: dict[str, canonical.Json] = {
                "session": request.session,
                "round": request.round,
                "adapter": request.adapter,
            }
            return _head(_CLOSE) + canonical.encode(note)
        case Show():
            return _head(_SHOW) + canonical.encode({"view": request.view.to_json() if request.view else None})


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
        case 4:
            return _show(rest)
        case _:
            raise ProtocolError(f"message: unknown kind {kind}")


def payload_reply(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Put the reply's kind before the aggregation's chunks."""
    return itertools.chain((_PAYLOAD,), chunks)


def greeting_reply(lines: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Put a cosignature before the aggregation's chunks."""
    data = lines.encode()
    return itertools.chain((_GREETING, struct.pack("<I", len(data)) + data), chunks)


def note_reply(note: Refusal | Closed | Cosigned) -> Iterator[bytes]:
    """Return a refusal, a closing note or a cosignature as a reply."""
    kind = {Refusal: _REFUSAL, Closed: _CLOSED, Cosigned: _COSIGNED}[type(note)]
    yield kind + canonical.encode(dict(vars(note)))


def read_reply(chunks: Iterable[bytes]) -> Iterator[bytes] | Refusal | Closed | Cosigned | Greeting:
    """Return the aggregation's chunks (still unread), with a greeting where there is one, or a note.

    Raises:
        ProtocolError: an empty reply, an unknown kind, or a note that does not parse.
    """
    stream = iter(chunks)
    first = next((chunk for chunk in stream if chunk), b"")
    kind, rest = first[:1], itertools.chain((first[1:],), stream)
    if kind == _PAYLOAD:
        return rest
    if kind == _GREETING:
        return _greeting(rest)
    if kind not in (_REFUSAL, _CLOSED, _COSIGNED):
        raise ProtocolError("reply: expected a payload, a greeting, a refusal, a closing note or a cosignature")
    note = _note(rest)
    if kind == _COSIGNED:
        return _cosigned(note)
    return _refusal(note) if kind == _REFUSAL else _closed(note)


def _begin(data: bytes) -> Begin:
    manifest, rest = _cut(data)
    view, rest = _cut(rest)
    reference, rest = _cut(rest)
    adapter, rest = _cut(rest)
    basis, payload = _cut(rest)
    return Begin(
        manifest=RoundManifest.from_body(canonical.decode(manifest)),
        view=View.from_json(canonical.decode(view)),
        reference=_floats(reference),
        adapter=_floats(adapter),
        basis=_floats(basis),
        payload=payload,
    )


def _floats(data: bytes) -> NDArray[np.float32]:
    if len(data) % 4:
        raise ProtocolError("message: expected whole float32 words in the adapter and the basis")
    return np.frombuffer(data, dtype="<f4").astype(np.float32)


def _close(data: bytes) -> Close:
    fields = Fields("close", _parsed(data))
    session, number, adapter = fields.text("session"), fields.integer("round", 0, 1 << 53), fields.text("adapter")
    fields.close()
    return Close(session=session, round=number, adapter=octets("close.adapter", adapter, HASH_BYTES).hex())


def _show(data: bytes) -> Show:
    view = _parsed(data).get("view", "")
    return Show(view=None if view is None else View.from_json(view))


def _refusal(note: Mapping[str, canonical.Json]) -> Refusal:
    fields = Fields("refusal", note)
    code, reason = fields.text("reason_code", LARGEST_NOTE), fields.text("reason", LARGEST_NOTE)
    fields.close()
    return Refusal(reason_code=code, reason=reason)


def _closed(note: Mapping[str, canonical.Json]) -> Closed:
    fields = Fields("closed", note)
    ledger, epsilon = fields.octets("ledger", 0, HASH_BYTES).hex(), fields.text("epsilon")
    fields.close()
    if epsilon and not is_decimal(epsilon):  # the log will state it
        raise ProtocolError("closed.epsilon: a decimal such as 1.25 was expected")
    return Closed(ledger=ledger, epsilon=epsilon)


def _cosigned(note: Mapping[str, canonical.Json]) -> Cosigned:
    fields = Fields("cosigned", note)
    cosigned = Cosigned(lines=fields.text("lines", LARGEST_NOTE), size=fields.integer("size", 0, 1 << 53))
    fields.close()
    return cosigned


def _greeting(chunks: Iterator[bytes]) -> Greeting:
    """Read the cosignature and leave what follows it unread."""
    held = bytearray()

    def take(count: int) -> bytes:
        while len(held) < count:
            chunk = next(chunks, None)
            if chunk is None:
                raise ProtocolError("greeting: cut off inside the cosignature")
            held.extend(chunk)
        taken = bytes(held[:count])
        del held[:count]
        return taken

    (size,) = struct.unpack("<I", take(4))
    if size > LARGEST_NOTE:
        raise ProtocolError(f"greeting: expected a cosignature of at most {LARGEST_NOTE} bytes")
    try:
        lines = take(size).decode()
    except UnicodeDecodeError:
        raise ProtocolError("greeting: expected a cosignature in UTF-8") from None
    return Greeting(lines=lines, chunks=itertools.chain((bytes(held),), chunks))


def _note(chunks: Iterator[bytes]) -> Mapping[str, canonical.Json]:
    data = bytearray()
    for chunk in chunks:
        data += chunk
        if len(data) > LARGEST_NOTE:
            raise ProtocolError(f"reply: expected a note of at most {LARGEST_NOTE} bytes")
    return _parsed(bytes(data))


def _parsed(data: bytes) -> Mapping[str, canonical.Json]:
    value = canonical.decode(data)
    if not isinstance(value, dict):
        raise ProtocolError("message: expected a JSON object")
    return value


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
