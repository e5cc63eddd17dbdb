"""The coordinator's end: it listens, lets in the silos of the roster, and carries exchanges to those that are there.

All of the network is done by one thread with an event loop; `exchange` is called from another. A reply that nobody
reads yet is held back on its sender's side: what lies here of each reply is at most `HELD` frames.
"""

import asyncio
import itertools
import json
import queue
import socket
import ssl
import threading
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from typing import TypeVar

from fedcollm_secure.engines.engine import Chunks, Patience
from fedcollm_secure.engines.mtls.connection import Arrived, Connection
from fedcollm_secure.engines.mtls.credentials import Credentials
from fedcollm_secure.engines.mtls.frames import HELLO_BYTES, PROTOCOL, BadFrame, Frame, Kind, hang_up, read_frame

MOST_STRANGERS = 64
"""Connections that have not said yet who they are; more are closed at once."""
GONE = (OSError, BadFrame, asyncio.IncompleteReadError, TimeoutError)
"""What the other end's death, and its nonsense, look like."""

Result = TypeVar("Result")
Say = Callable[[str], None]
"""Told, in a sentence, who came, who went and who was turned away."""


class MtlsEngine:
    """A `Carrier` over mutual TLS."""

    def __init__(self, *, host: str, port: int, credentials: Credentials, patience: Patience, say: Say) -> None:
        """Listen; with port 0 the system chooses one. Raises: OSError where the address or the key cannot be used."""
        self._credentials, self._patience, self._say = credentials, patience, say
        self._context = credentials.server_context()
        self._listener = socket.create_server((host, port), family=_family(host), backlog=MOST_STRANGERS)
        self._listener.setblocking(False)
        self._connections: dict[str, Connection] = {}
        self._changed = threading.Condition()
        self._numbers, self._serials = itertools.count(1), itertools.count(1)
        self._strangers: set[asyncio.Task[None]] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._loop = asyncio.new_event_loop()
        self._accepting = self._submit(self._accept())
        self._thread = threading.Thread(target=self._loop.run_forever, name="mtls", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        """Return the port that is listened on."""
        return int(self._listener.getsockname()[1])

    def parties(self) -> Sequence[str]:
        """Return who is connected."""
        with self._changed:
            return sorted(self._connections)

    def connection(self, party: str) -> int:
        """Return the serial number of a party's connection, 0 where there is none."""
        with self._changed:
            found = self._connections.get(party)
            return found.serial if found is not None else 0

    def wait(self, parties: Iterable[str], least: int) -> frozenset[str]:
        """Wait as `Engine.wait` says."""
        wanted, begun = frozenset(parties), time.monotonic()
        with self._changed:
            while True:
                here, waited = wanted & self._connections.keys(), time.monotonic() - begun
                limit = self._patience.grace if len(here) >= least else self._patience.quorum
                if here == wanted or waited >= limit:
                    return here
                self._changed.wait(limit - waited)

    def exchange(self, requests: Mapping[str, bytes]) -> Iterator[tuple[str, Chunks]]:
        """Send to all that are there, then yield each reply as it begins."""
        number, arrived = next(self._numbers), queue.SimpleQueue[Arrived]()
        asked: dict[str, Connection] = {}
        for party in requests:
            with self._changed:
                connection = self._connections.get(party)
            if connection is not None:
                asked[party] = connection
                self._submit(connection.ask(number, requests[party], arrived))
        try:
            yield from self._replies(set(asked), arrived)
        finally:
            for connection in asked.values():
                self._submit(connection.forget(number))

    def close(self, *, over: bool = False) -> None:
        """Stop listening and hang up; where all is `over`, silos are told not to come back."""
        self._accepting.cancel()
        self._submit(self._shut(over=over)).result()
        self._listener.close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _replies(self, waiting: set[str], arrived: "queue.SimpleQueue[Arrived]") -> Iterator[tuple[str, Chunks]]:
        end = time.monotonic() + self._patience.answer
        while waiting:
            try:
                party, inbox = arrived.get(timeout=max(0.0, end - time.monotonic()))
            except queue.Empty:
                self._say(f"no answer in time from {', '.join(sorted(waiting))}")
                return
            waiting.discard(party)
            if inbox is not None:
                yield party, self._pieces(inbox.take, end)

    def _pieces(self, take: Callable[[], Coroutine[object, object, bytes | None]], end: float) -> Iterator[bytes]:
        while True:
            taking = asyncio.run_coroutine_threadsafe(take(), self._loop)
            try:
                piece = taking.result(max(0.0, end - time.monotonic()))
            except TimeoutError:
                taking.cancel()
                return
            if piece is None:
                return
            yield piece

    async def _accept(self) -> None:
        while True:
            stranger, _ = await self._loop.sock_accept(self._listener)
            if len(self._strangers) >= MOST_STRANGERS:
                stranger.close()
                continue
            task = self._loop.create_task(self._serve(stranger))
            for tasks in (self._strangers, self._tasks):
                tasks.add(task)
                task.add_done_callback(tasks.discard)

    async def _serve(self, stranger: socket.socket) -> None:
        """Find out who it is, then read what it says until it goes."""
        where = str(stranger.getpeername()[0])
        try:
            async with asyncio.timeout(self._patience.handshake):
                connection = await self._greeted(stranger, where)
        except ssl.SSLError as error:
            self._say(f"refused a connection from {where}: {_why(error)}")
            return
        except GONE as error:
            self._say(f"refused a connection from {where}: it did not say who it is ({type(error).__name__})")
            return
        finally:
            task = asyncio.current_task()
            if task is not None:
                self._strangers.discard(task)
        if connection is None:
            return
        await self._enter(connection)
        try:
            await connection.read_on(self._patience.alive)
        except GONE as error:
            self._say(f"{connection.party} is gone ({type(error).__name__})")
        finally:
            await connection.hang_up()
            with self._changed:
                if self._connections.get(connection.party) is connection:
                    del self._connections[connection.party]

    async def _greeted(self, stranger: socket.socket, where: str) -> Connection | None:
        """Return the connection of a party of the roster; None for one that was refused, and told so."""
        reader = asyncio.StreamReader(loop=self._loop)
        protocol = asyncio.StreamReaderProtocol(reader, loop=self._loop)
        try:
            transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, stranger, ssl=self._context)
        except BaseException:
            stranger.close()
            raise
        writer = asyncio.StreamWriter(transport, protocol, reader, self._loop)
        try:
            party = self._credentials.party_of(writer.get_extra_info("ssl_object"))
            hello = await read_frame(reader, HELLO_BYTES)
            reason = _refusal(hello, party)
            if party is not None and not reason:
                writer.write(Frame(kind=Kind.WELCOME).encode())
                await writer.drain()
                return Connection(party=party, serial=next(self._serials), reader=reader, writer=writer)
            self._say(f"refused a connection from {where}: {reason}")
            writer.write(Frame(kind=Kind.REFUSED, data=reason.encode()).encode())
            await writer.drain()
        except BaseException:
            transport.abort()
            raise
        await hang_up(writer)
        return None

    async def _enter(self, connection: Connection) -> None:
        """Take in a connection, in the place of an older one of the same party."""
        with self._changed:
            former = self._connections.get(connection.party)
            self._connections[connection.party] = connection
            self._changed.notify_all()
        self._say(f"{connection.party} is connected")
        connection.begin_heartbeat(self._patience.alive / 3)
        if former is not None:
            await former.hang_up()

    async def _shut(self, *, over: bool) -> None:
        if over:
            for connection in list(self._connections.values()):
                with suppress(*GONE):
                    async with asyncio.timeout(self._patience.handshake):
                        await connection.send(Frame(kind=Kind.BYE))
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)  # each hangs up
        await asyncio.sleep(0.01)  # the loop closes sockets behind this

    def _submit(self, work: Coroutine[object, object, Result]) -> "Future[Result]":
        return asyncio.run_coroutine_threadsafe(work, self._loop)


def _refusal(hello: Frame, party: str | None) -> str:
    """Return why somebody with a certificate of the roster is turned away all the same; empty where it is not."""
    if party is None:
        return "its certificate is none of the roster's"
    try:
        said = json.loads(hello.data)
        name, protocol = str(said["name"]), said["protocol"]
    except (ValueError, TypeError, KeyError):
        return "it does not speak this protocol"
    if hello.kind != Kind.HELLO or protocol != PROTOCOL:
        return f"it speaks protocol {protocol!r}, expected {PROTOCOL}: the two sides run different releases"
    if name != party:
        return f"its certificate is that of {party}, and it calls itself {name[:64]!r}"
    return ""


def _why(error: ssl.SSLError) -> str:
    said = (error.reason or type(error).__name__).replace("_", " ").lower()
    if "did not return a certificate" in said:
        return "it showed no certificate"
    if "verify failed" in said:
        return "its certificate is none of the roster's, or expired"
    return f"no TLS 1.3 with a certificate of the roster ({said})"


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
