"""What travels on a connection: frames of a kind, the number of their exchange, and at most `LARGEST` bytes.

    HELLO    silo → coordinator: protocol and name, as JSON          WELCOME | REFUSED(a sentence)  ← coordinator
    ASK      coordinator → silo: a piece of a request                ANSWER  ← silo: a piece of a reply
    *_END    the last piece                                          ALIVE   ↔ nothing new, and still here
    BYE      coordinator → silo: it is over, do not come back

A length is checked before anything is read by it, so that no header makes a reader hold more than one frame.
"""

import asyncio
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from enum import IntEnum

PROTOCOL = 1
LARGEST = 1 << 17
"""Most bytes of a frame behind its header."""
HELLO_BYTES = 1 << 10
"""Most bytes of a frame from somebody who is not known yet."""
_HEADER = struct.Struct(">BQI")


class Kind(IntEnum):
    """What a frame is."""

    HELLO = 1
    WELCOME = 2
    REFUSED = 3
    ASK = 4
    ASK_END = 5
    ANSWER = 6
    ANSWER_END = 7
    ALIVE = 8
    BYE = 9


class BadFrame(Exception):
    """The other end does not speak this protocol."""


@dataclass(frozen=True, kw_only=True)
class Frame:
    """One frame; `number` is that of its exchange, 0 outside of any."""

    kind: Kind
    number: int = 0
    data: bytes = field(default=b"", repr=False)

    def encode(self) -> bytes:
        """Return its bytes."""
        return _HEADER.pack(self.kind, self.number, len(self.data)) + self.data


async def read_frame(reader: asyncio.StreamReader, largest: int = LARGEST) -> Frame:
    """Read one frame. Raises: BadFrame; IncompleteReadError where the connection ends."""
    kind, number, size = _HEADER.unpack(await reader.readexactly(_HEADER.size))
    if kind not in Kind.__members__.values() or size > largest:
        raise BadFrame(f"a frame of kind {kind} and {size} bytes, expected one of at most {largest}")
    return Frame(kind=Kind(kind), number=number, data=await reader.readexactly(size))


async def hang_up(writer: asyncio.StreamWriter) -> None:
    """Close a connection; who does not say goodbye within a second is not waited for."""
    writer.close()
    with suppress(OSError):
        async with asyncio.timeout(1):
            await writer.wait_closed()
    writer.transport.abort()


def in_pieces(data: bytes) -> Iterator[bytes]:
    """Yield the data in pieces that fit a frame; one empty piece for none."""
    view = memoryview(data)
    for start in range(0, max(len(view), 1), LARGEST):
        yield bytes(view[start : start + LARGEST])
