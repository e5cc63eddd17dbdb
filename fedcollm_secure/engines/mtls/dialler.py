"""The silo's end: it dials the coordinator, answers what it is asked, and dials again when it is cut off.

Requests are answered one after another by one thread, since a silo is one party with one memory. A connection that dies
meanwhile ends no training: the answer is dropped, and what the silo remembers is sent when it is asked again.
"""

import asyncio
import json
import queue
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

from fedcollm_secure.engines.engine import Chunks, Patience
from fedcollm_secure.engines.mtls.credentials import Credentials
from fedcollm_secure.engines.mtls.frames import PROTOCOL, BadFrame, Frame, Kind, in_pieces, read_frame
from fedcollm_secure.errors import printable

FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 30.0
HANG_UPS = 3
"""So often in a row is no accident: in TLS 1.3 a certificate is judged behind the handshake, and no word need come."""
MOST_REQUEST_BYTES = 1 << 32
"""Longest request that a silo gathers: three adapters of 350 million parameters."""

Handler = Callable[[bytes], Chunks]


class _HungUp(OSError):
    """The coordinator hung up as soon as it had seen this end's certificate, without a word."""


class TurnedAway(Exception):
    """The coordinator said no, and will say so again: its sentence, for a person."""


@dataclass(frozen=True, kw_only=True)
class Dialler:
    """One silo's way to its coordinator, whose certificate is the one peer in `credentials`."""

    name: str
    host: str
    port: int
    credentials: Credentials
    patience: Patience
    say: Callable[[str], None] = field(repr=False)

    def serve(self, handler: Handler) -> None:
        """Answer until the coordinator says that it is over. Raises: TurnedAway; OSError for a key that won't open."""
        asyncio.run(self._serve(self.credentials.client_context(), handler))

    async def _serve(self, context: ssl.SSLContext, handler: Handler) -> None:
        """Dial until it is over, or until the handler fails: what it raises is a bug of ours, and ends the program."""
        loop = asyncio.get_running_loop()
        failure = loop.create_future()
        dialling = loop.create_task(self._dial(context, _Worker(handler, loop, failure)))
        await asyncio.wait({dialling, failure}, return_when=asyncio.FIRST_COMPLETED)
        if failure.done():
            dialling.cancel()
            raise failure.result()
        await dialling

    async def _dial(self, context: ssl.SSLContext, worker: "_Worker") -> None:
        pause, told, hang_ups = FIRST_PAUSE_S, "", 0
        while True:
            try:
                if await self._connected(context, worker):
                    return
                pause, told, hang_ups = FIRST_PAUSE_S, "", 0
            except ssl.SSLCertVerificationError as error:
                raise TurnedAway(_why(error)) from error
            except (ssl.SSLError, _HungUp) as error:  # anybody on the way can cut a handshake short, once or twice
                hang_ups += 1
                if hang_ups == HANG_UPS:
                    raise TurnedAway(_why(error) if isinstance(error, ssl.SSLError) else _NOT_KNOWN) from error
            except (OSError, BadFrame, asyncio.IncompleteReadError, TimeoutError) as error:
                now = f"{self.host}:{self.port} cannot be reached ({_short(error)}); dialling again until it can"
                if now != told:
                    self.say(now)
                told = now
            await asyncio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_S)

    async def _connected(self, context: ssl.SSLContext, worker: "_Worker") -> bool:
        """Answer over one connection; return whether the coordinator said that it is over."""
        async with asyncio.timeout(self.patience.handshake):
            reader, writer = await asyncio.open_connection(self.host, self.port, ssl=context)
        link = _Link(writer)
        heart: asyncio.Task[None] | None = None
        try:
            if self.credentials.party_of(writer.get_extra_info("ssl_object")) is None:
                raise TurnedAway("the other end showed another certificate than the coordinator's")
            await self._introduced(reader, link)
            self.say(f"connected to {self.host}:{self.port}")
            heart = asyncio.get_running_loop().create_task(link.beat(self.patience.alive / 3))
            return await self._answering(reader, link, worker)
        except (OSError, asyncio.IncompleteReadError, TimeoutError) as error:
            if heart is None:
                raise
            self.say(f"cut off from {self.host}:{self.port} ({_short(error)}); dialling again")
            return False
        finally:
            link.dead = True
            if heart is not None:
                heart.cancel()
            writer.transport.abort()

    async def _introduced(self, reader: asyncio.StreamReader, link: "_Link") -> None:
        hello = json.dumps({"protocol": PROTOCOL, "name": self.name}).encode()
        await link.send(Frame(kind=Kind.HELLO, data=hello))
        try:
            async with asyncio.timeout(self.patience.handshake):
                said = await read_frame(reader)
        except (ConnectionError, asyncio.IncompleteReadError) as error:
            raise _HungUp from error
        if said.kind == Kind.REFUSED:
            raise TurnedAway(f"the coordinator refuses: {printable(said.data.decode(errors='replace'))}")
        if said.kind != Kind.WELCOME:
            raise BadFrame(f"a frame of kind {said.kind.name}, expected a welcome")

    async def _answering(self, reader: asyncio.StreamReader, link: "_Link", worker: "_Worker") -> bool:
        request = bytearray()
        while True:
            async with asyncio.timeout(self.patience.alive):
                frame = await read_frame(reader)
            match frame.kind:
                case Kind.ALIVE:
                    continue
                case Kind.BYE:
                    return True
                case Kind.ASK | Kind.ASK_END:
                    request += frame.data
                    if len(request) > MOST_REQUEST_BYTES:
                        raise BadFrame(f"a request of more than {MOST_REQUEST_BYTES} bytes")
                case _:
                    raise BadFrame(f"a coordinator sent a frame of kind {frame.kind.name}")
            if frame.kind == Kind.ASK_END:
                worker.answer(bytes(request), link, frame.number)
                request = bytearray()


class _Link:
    """The sending half of one connection."""

    def __init__(self, writer: asyncio.StreamWriter) -> None:
        self._writer, self._sending = writer, asyncio.Lock()
        self.dead = False

    async def send(self, frame: Frame) -> None:
        async with self._sending:
            if self.dead:
                raise ConnectionResetError("the connection is gone")
            self._writer.write(frame.encode())
            await self._writer.drain()

    async def beat(self, every_s: float) -> None:
        with suppress(OSError):
            while True:
                await asyncio.sleep(every_s)
                await self.send(Frame(kind=Kind.ALIVE))

    def cut(self) -> None:
        """Hang up in mid-answer, so that the coordinator need not wait for the rest."""
        self.dead = True
        self._writer.transport.abort()


class _Worker:
    """The one thread that answers. It ends with the program: nothing is left half-written that a crash would not."""

    def __init__(
        self, handler: Handler, loop: asyncio.AbstractEventLoop, failure: "asyncio.Future[BaseException]"
    ) -> None:
        self._handler, self._loop, self._failure = handler, loop, failure
        self._requests = queue.SimpleQueue[tuple[bytes, _Link, int]]()
        threading.Thread(target=self._work, name="silo", daemon=True).start()

    def answer(self, request: bytes, link: _Link, number: int) -> None:
        """Answer behind what is being answered."""
        self._requests.put((request, link, number))

    def _work(self) -> None:
        with suppress(RuntimeError):  # the loop is closed: the program ends
            while True:
                request, link, number = self._requests.get()
                try:
                    self._answer(request, link, number)
                except OSError:  # the connection is gone, or the disk failed in mid-answer: it ends here, unfinished
                    self._loop.call_soon_threadsafe(link.cut)
                except BaseException as error:  # noqa: BLE001 - raised again in the program's own thread
                    self._loop.call_soon_threadsafe(self._fail, error)
                    return

    def _answer(self, request: bytes, link: _Link, number: int) -> None:
        for chunk in self._handler(request):
            for piece in in_pieces(chunk):
                self._send(link, Frame(kind=Kind.ANSWER, number=number, data=piece))
        self._send(link, Frame(kind=Kind.ANSWER_END, number=number))

    def _send(self, link: _Link, frame: Frame) -> None:
        asyncio.run_coroutine_threadsafe(link.send(frame), self._loop).result()

    def _fail(self, error: BaseException) -> None:
        if not self._failure.done():
            self._failure.set_result(error)


_NOT_KNOWN = "the coordinator hangs up on this certificate: it is not in its roster"


def _why(error: ssl.SSLError) -> str:
    said = (error.reason or type(error).__name__).replace("_", " ").lower()
    if "verify failed" in said:
        return "the other end showed another certificate than the coordinator's: it is not whom the roster lists"
    return f"{_NOT_KNOWN} ({said})"


def _short(error: Exception) -> str:
    if isinstance(error, asyncio.IncompleteReadError):
        return "it hung up"
    if isinstance(error, TimeoutError):
        return "no sign of life"
    return getattr(error, "strerror", None) or type(error).__name__
