"""One silo's connection, seen from the coordinator: requests go out in pieces, one reply at a time comes in."""

import asyncio
import queue
from collections import deque
from contextlib import suppress
from typing import TypeAlias

from fedcollm_secure.engines.mtls.frames import BadFrame, Frame, Kind, hang_up, in_pieces, read_frame

HELD = 16
"""Most frames of a reply that lie here unread."""


class Inbox:
    """The pieces of one reply, between the reader of the network and whoever asked. Used inside the loop alone."""

    def __init__(self) -> None:
        """Begin empty."""
        self._pieces = deque[bytes]()
        self._ended = False  # no more will come
        self._unwanted = False  # nobody will read
        self._changed = asyncio.Condition()

    async def put(self, piece: bytes) -> None:
        """Add a piece, as soon as there is room."""
        async with self._changed:
            await self._changed.wait_for(lambda: len(self._pieces) < HELD or self._unwanted)
            if not self._unwanted:
                self._pieces.append(piece)
                self._changed.notify_all()

    async def take(self) -> bytes | None:
        """Return the next piece, None behind the last."""
        async with self._changed:
            await self._changed.wait_for(lambda: bool(self._pieces) or self._ended)
            piece = self._pieces.popleft() if self._pieces else None
            self._changed.notify_all()
            return piece

    async def end(self, *, unwanted: bool = False) -> None:
        """Let no more come; `unwanted`, drop what is there."""
        async with self._changed:
            self._ended = True
            if unwanted:
                self._unwanted = True
                self._pieces.clear()
            self._changed.notify_all()


Arrived: TypeAlias = tuple[str, Inbox | None]
"""Whose reply begins, and where its pieces are; None for one that died before."""


class Connection:
    """A silo that is connected."""

    def __init__(self, *, party: str, serial: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Take the streams of a connection whose other end is known."""
        self.party, self.serial = party, serial
        self._reader, self._writer = reader, writer
        self._sending = asyncio.Lock()
        self._number, self._inbox = 0, Inbox()
        self._waiting: queue.SimpleQueue[Arrived] | None = None
        self._heart: asyncio.Task[None] | None = None
        self._dead = False

    async def ask(self, number: int, request: bytes, arrived: "queue.SimpleQueue[Arrived]") -> None:
        """Send a request, and let `arrived` know when its reply begins, or that none will."""
        await self._inbox.end(unwanted=True)
        self._number, self._inbox, self._waiting = number, Inbox(), arrived
        if self._dead:
            self._announce(None)
            return
        try:
            async with self._sending:
                pieces = list(in_pieces(request))
                for piece in pieces[:-1]:
                    await self._write(Frame(kind=Kind.ASK, number=number, data=piece))
                await self._write(Frame(kind=Kind.ASK_END, number=number, data=pieces[-1]))
        except OSError:
            await self.hang_up()

    async def forget(self, number: int) -> None:
        """Drop whatever still comes of this exchange."""
        if number == self._number:
            await self._inbox.end(unwanted=True)
            self._waiting = None

    async def read_on(self, alive_s: float) -> None:
        """Take in what the silo says, until it goes. Raises: TimeoutError where it is silent for too long."""
        while True:
            async with asyncio.timeout(alive_s):
                frame = await read_frame(self._reader)
            if frame.kind == Kind.ALIVE:
                continue
            if frame.kind not in (Kind.ANSWER, Kind.ANSWER_END):
                raise BadFrame(f"a silo sent a frame of kind {frame.kind.name}")
            if frame.number == self._number:  # another is late, and nobody's
                await self._take(frame)

    def begin_heartbeat(self, every_s: float) -> None:
        """Let the silo know, again and again, that this end lives."""
        self._heart = asyncio.get_running_loop().create_task(self._beat(every_s))

    async def send(self, frame: Frame) -> None:
        """Send one frame. Raises: OSError."""
        async with self._sending:
            await self._write(frame)

    async def hang_up(self) -> None:
        """End the connection; whoever waits for a reply is told that none comes, or that it ends here."""
        self._dead = True
        if self._heart is not None:
            self._heart.cancel()
        self._announce(None)
        await self._inbox.end()
        await hang_up(self._writer)

    async def _take(self, frame: Frame) -> None:
        inbox = self._inbox
        self._announce(inbox)
        await inbox.put(frame.data)
        if frame.kind == Kind.ANSWER_END:
            await inbox.end()

    def _announce(self, inbox: Inbox | None) -> None:
        if self._waiting is not None:
            self._waiting.put((self.party, inbox))
            self._waiting = None

    async def _beat(self, every_s: float) -> None:
        with suppress(OSError):
            while True:
                await asyncio.sleep(every_s)
                await self.send(Frame(kind=Kind.ALIVE))

    async def _write(self, frame: Frame) -> None:
        self._writer.write(frame.encode())
        await self._writer.drain()
