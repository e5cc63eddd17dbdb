"""The child process in which TenSEAL runs: frames on stdin, frames on stdout, limits on itself before the first.

`python -m fedcollm_crypto.homomorphic.child MEMORY_MIB HANDLES_FROM`. A native crash ends this process and no other;
`worker` makes of it a refusal. Frames: one byte that says what, eight bytes of length, the payload.
"""

import os
import resource
import struct
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import IO, Protocol

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto import canonical
from fedcollm_crypto.canonical import Json
from fedcollm_crypto.errors import CryptoError, ProtocolError
from fedcollm_crypto.homomorphic.parameters import Scheme, read_scheme
from fedcollm_crypto.homomorphic.residues import Residues

OPEN, PUBLIC_KEY, ENCRYPT, DECRYPT, CLOSE = b"o", b"p", b"e", b"d", b"c"
DONE, REFUSED, BROKEN = b"+", b"-", b"!"
FRAME = struct.Struct("<cQ")
HANDLE = struct.Struct("<Q")
MAX_FRAME_BYTES = 1 << 28


def read_frame(stream: IO[bytes]) -> tuple[bytes, bytes] | None:
    """Return what and payload; None at the end of the stream. Raises: ProtocolError for a torn or an endless frame."""
    header = stream.read(FRAME.size)
    if not header:
        return None
    if len(header) < FRAME.size:
        raise ProtocolError("a frame ends in its header")
    what, size = FRAME.unpack(header)
    if size > MAX_FRAME_BYTES:
        raise ProtocolError(f"a frame of {size} bytes is longer than {MAX_FRAME_BYTES}")
    payload = stream.read(size)
    if len(payload) < size:
        raise ProtocolError("a frame ends before its length")
    return what, payload


def write_frame(stream: IO[bytes], what: bytes, payload: bytes) -> None:
    """Write one frame and flush it."""
    stream.write(FRAME.pack(what, len(payload)) + payload)
    stream.flush()


class Context(Protocol):
    """What `seal.Seal` offers; named here so that the parent, which shares this file, never imports TenSEAL."""

    slots: int
    coefficients: int
    primes: tuple[int, ...]
    public_key: Residues

    def encrypt(self, slots: NDArray[np.int64]) -> Residues:
        """Return uint64[k · coefficients]."""
        ...

    def decrypt(self, ciphertexts: Residues) -> NDArray[np.int64] | NDArray[np.float64]:
        """Return [k, slots]."""
        ...


NewContext = Callable[[Scheme, Residues | None], Context]


@dataclass(kw_only=True)
class _Contexts:
    """The contexts that are open, by number."""

    new: NewContext
    last: int
    by_handle: dict[int, Context] = field(default_factory=dict[int, Context])


def serve(requests: IO[bytes], replies: IO[bytes], new: NewContext, handles_from: int) -> None:
    """Answer frames until the stream ends."""
    contexts = _Contexts(new=new, last=handles_from)
    while (frame := read_frame(requests)) is not None:
        try:
            what, payload = DONE, _answer(contexts, *frame)
        except CryptoError as error:
            what, payload = REFUSED, str(error).encode()
        except Exception as error:  # noqa: BLE001 - whatever TenSEAL raises must reach the parent as a refusal
            what, payload = BROKEN, f"{type(error).__name__}: {error}"[:500].encode()
        write_frame(replies, what, payload)


def _answer(contexts: _Contexts, what: bytes, payload: bytes) -> bytes:
    if what == OPEN:
        contexts.last += 1
        contexts.by_handle[contexts.last] = seal = _open(contexts.new, payload)
        return HANDLE.pack(contexts.last) + struct.pack("<QQ", seal.coefficients, seal.primes[0])
    handle = HANDLE.unpack_from(payload)[0]
    if handle not in contexts.by_handle:
        raise ProtocolError(f"no context {handle} is open")
    seal, rest = contexts.by_handle[handle], payload[HANDLE.size :]
    if what == PUBLIC_KEY:
        return seal.public_key.tobytes()
    if what == ENCRYPT:
        return seal.encrypt(np.frombuffer(rest, dtype="<i8").reshape(-1, seal.slots)).tobytes()
    if what == DECRYPT:
        return seal.decrypt(np.frombuffer(rest, dtype="<u8")).tobytes()
    if what == CLOSE:
        del contexts.by_handle[handle]
        return b""
    raise ProtocolError(f"a frame of kind {what!r} is unknown")


def _open(new: NewContext, payload: bytes) -> Context:
    size = HANDLE.unpack_from(payload)[0]
    body: Json = canonical.decode(payload[HANDLE.size : HANDLE.size + size])
    key = np.frombuffer(payload[HANDLE.size + size :], dtype="<u8")
    return new(read_scheme(body), key.astype(np.uint64) if len(key) else None)


def main() -> None:
    """Limit memory, forbid core dumps, keep stdout for frames alone, load TenSEAL, then serve."""
    memory = int(sys.argv[1]) << 20
    resource.setrlimit(resource.RLIMIT_AS, (memory, memory))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints must not land between frames
    from fedcollm_crypto.homomorphic.seal import Seal  # here alone: the parent imports this file for its frames

    serve(sys.stdin.buffer, replies, Seal, int(sys.argv[2]))


if __name__ == "__main__":
    main()
