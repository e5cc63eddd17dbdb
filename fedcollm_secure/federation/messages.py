"""The messages between coordinator and silo, around the aggregation's own bytes.

    request   Begin(view of the log, proofs, reference, θ_t, basis, payload) | Step(payload) | Close(round, adapter)
              Show(view), nothing behind its kind where there is none. A view is JSON, then lines of the log
    reply     Payload: byte 1, then the aggregation's chunks        Refusal, Closed, Cosigned: byte 2, 3, 4, then JSON
              Greeting, to Begin: byte 5, the cosignature with its length, then the aggregation's chunks
              Declined, to Begin: byte 6, then a refusal that the silo signed

Begin carries the first step of the aggregation, so that it costs no exchange of its own. There is one manifest, the one
that the server signed, inside that payload. Every length is checked, and bytes that are left over are an error.
"""

import struct
from dataclasses import dataclass, field
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto import canonical
from fedcollm_crypto.declared import Declared
from fedcollm_crypto.derivation import HASH_BYTES
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.kinds import HexText, Natural
from fedcollm_secure.audit_log.witness import View

MAGIC = b"FedCoLLM\x04"
_BEGIN, _STEP, _CLOSE, _SHOW = 1, 2, 3, 4
_SIZE = struct.Struct("<Q")


@dataclass(frozen=True, kw_only=True)
class Begin:
    """Open an attempt at a round: the log's head, θ_t as float32[d], the aggregation's first request with the manifest.

    `proofs`: of each silo that was convicted in this round (`masking.conviction`). `reference`: the aggregate of the
    round before, float32[d], for silos that hold θ_t against it; else empty.
    `basis` float32[m] is what a second linear pass projects on; it is empty in the first one.
    """

    view: View
    reference: NDArray[np.float32] = field(repr=False)
    adapter: NDArray[np.float32] = field(repr=False)
    payload: bytes = field(repr=False)
    basis: NDArray[np.float32] = field(default_factory=lambda: np.zeros(0, dtype=np.float32), repr=False)
    proofs: tuple[bytes, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Step:
    """Go on with the attempt: the aggregation's next request."""

    payload: bytes = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Close(Declared):
    """The round has its result; `adapter` is the digest of θ_{t+1}."""

    session: str
    round: Natural
    adapter: Annotated[str, HexText(HASH_BYTES)]


@dataclass(frozen=True, kw_only=True)
class Show:
    """Show a head of the log for its cosignature; without a view, ask only which head the silo cosigned last."""

    view: View | None


Request = Begin | Step | Close | Show


def encode(request: Request) -> bytes:
    """Return the bytes of a request."""
    match request:
        case Begin():
            view, proofs = request.view.encode(), b"".join(map(_sized, request.proofs))
            vectors = (vector.astype("<f4").tobytes() for vector in (request.reference, request.adapter, request.basis))
            parts = (piece for part in (view, proofs, *vectors) for piece in (_SIZE.pack(len(part)), part))
            return b"".join((_head(_BEGIN), *parts, request.payload))
        case Step():
            return _head(_STEP) + request.payload
        case Close():
            return _head(_CLOSE) + canonical.encode(request.to_body())
        case Show():
            return _head(_SHOW) + (request.view.encode() if request.view else b"")


def decode(message: bytes) -> Request:
    """Read a request.

    Raises:
        ProtocolError: another version, a wrong length, or a field that does not fit.
    """
    if message[: len(MAGIC)] != MAGIC or len(message) == len(MAGIC):
        raise ProtocolError("message: expected this version's prefix; the two sides run different releases")
    kind, rest = message[len(MAGIC)], memoryview(message)[len(MAGIC) + 1 :]
    match kind:
        case 1:
            return _begin(rest)
        case 2:
            return Step(payload=bytes(rest))
        case 3:
            return Close.from_body(canonical.decode(bytes(rest)))
        case 4:
            return Show(view=View.decode(bytes(rest)) if rest else None)
        case _:
            raise ProtocolError(f"message: unknown kind {kind}")


def _begin(data: memoryview) -> Begin:
    view, rest = _cut(data)
    proofs, rest = _cut(rest)
    reference, rest = _cut(rest)
    adapter, rest = _cut(rest)
    basis, payload = _cut(rest)
    return Begin(
        proofs=_proofs(proofs),
        view=View.decode(bytes(view)),
        reference=_floats(reference),
        adapter=_floats(adapter),
        basis=_floats(basis),
        payload=bytes(payload),
    )


def _proofs(data: memoryview) -> tuple[bytes, ...]:
    found: list[bytes] = []
    while data:
        proof, data = _cut(data)
        found.append(bytes(proof))
    return tuple(found)


def _floats(data: memoryview) -> NDArray[np.float32]:
    if len(data) % 4:
        raise ProtocolError("message: expected whole float32 words in the adapter and the basis")
    return np.frombuffer(data, dtype="<f4").astype(np.float32)


def _head(kind: int) -> bytes:
    return MAGIC + bytes((kind,))


def _sized(data: bytes) -> bytes:
    return _SIZE.pack(len(data)) + data


def _cut(data: memoryview) -> tuple[memoryview, memoryview]:
    if len(data) < 8:
        raise ProtocolError("message: cut off before a length")
    (size,) = _SIZE.unpack_from(data)
    if size > len(data) - 8:
        raise ProtocolError(f"message: expected {size} more bytes, got {len(data) - 8}")
    return data[8 : 8 + size], data[8 + size :]
