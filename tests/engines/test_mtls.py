"""Mutual TLS: who is let in, who is told what, and what a dead, slow or hostile end costs the others."""

import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable
from dataclasses import replace

import pytest

from fedcollm_secure.engines.engine import Chunks
from fedcollm_secure.engines.mtls import listener
from fedcollm_secure.engines.mtls.dialler import TurnedAway
from fedcollm_secure.engines.mtls.frames import Frame, Kind

from .conftest import Folder
from .test_contract import echo, taken


def until(holds: Callable[[], object]) -> None:
    """Wait for what another thread does; nobody says how long it may take but the deadline of the whole test."""
    end = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def refusal(folder: Folder, name: str, port: int, **given: str) -> str:
    with pytest.raises(TurnedAway) as told:
        folder.dialler(name, port, **given).serve(echo)
    return str(told.value)


def raw(folder: Folder, name: str, port: int) -> ssl.SSLSocket:
    """Return a member's connection that says nothing by itself."""
    context = folder.credentials(name, {"server": "server"}).client_context()
    made = context.wrap_socket(folder.plain(port))
    folder.sockets.append(made)
    return made


def hung_up(connection: socket.socket) -> bool:
    connection.settimeout(10)
    try:
        return connection.recv(1) == b""
    except (ConnectionError, ssl.SSLError):
        return True


def hello(name: str) -> bytes:
    return Frame(kind=Kind.HELLO, data=f'{{"protocol": 1, "name": "{name}"}}'.encode()).encode()


def test_a_foreign_certificate_is_refused_on_both_sides(folder: Folder) -> None:
    folder.make("stranger")
    engine = folder.listen("north")
    assert "not in its roster" in refusal(folder, "stranger", engine.port)
    until(lambda: folder.said)
    assert "none of the roster's" in folder.said[0]
    assert not engine.parties()
    engine.close()


def test_a_foreign_certificate_in_a_members_name_is_refused(folder: Folder) -> None:
    (folder.path / "other").mkdir()
    forger = Folder(path=folder.path / "other")
    forger.make("north")
    (folder.path / "forged.crt").write_bytes((forger.path / "north.crt").read_bytes())
    (folder.path / "forged.pem").write_bytes((forger.path / "north.pem").read_bytes())
    engine = folder.listen("north")
    assert "not in its roster" in refusal(folder, "forged", engine.port, calls_itself="north")
    assert not engine.parties()
    engine.close()


def test_no_certificate_is_refused(folder: Folder) -> None:
    engine = folder.listen("north")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    with (
        socket.create_connection(("127.0.0.1", engine.port), 5) as plain,
        context.wrap_socket(plain) as connection,
    ):
        assert hung_up(connection)
    until(lambda: folder.said)
    assert "showed no certificate" in folder.said[0]
    engine.close()


def test_a_member_cannot_be_another(folder: Folder) -> None:
    engine = folder.listen("north", "south")
    told = refusal(folder, "south", engine.port, calls_itself="north")
    assert "its certificate is that of south, and it calls itself 'north'" in told
    assert "its certificate is that of south" in folder.said[0]
    engine.close()


def test_a_silo_refuses_a_server_that_is_not_its_coordinator(folder: Folder) -> None:
    folder.make("imposter")
    engine = folder.listen("north")
    assert "not whom the roster lists" in refusal(folder, "north", engine.port, server="imposter")
    engine.close()


def test_nothing_older_than_tls_1_3_is_spoken(folder: Folder) -> None:
    engine = folder.listen("north")
    context = folder.credentials("north", {"server": "server"}).client_context()
    context.minimum_version = context.maximum_version = ssl.TLSVersion.TLSv1_2
    with socket.create_connection(("127.0.0.1", engine.port), 5) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain)
    engine.close()


def test_a_declared_length_makes_nobody_hold_more_than_a_frame(folder: Folder) -> None:
    engine = folder.listen("north")
    for size, kind in ((2**32 - 1, Kind.HELLO), (1 << 20, Kind.HELLO), (4, 200)):
        with raw(folder, "north", engine.port) as connection:
            connection.sendall(struct.pack(">BQI", kind, 0, size))
            assert hung_up(connection)
    with raw(folder, "north", engine.port) as connection:
        connection.sendall(hello("north"))
        assert connection.recv(100)[0] == Kind.WELCOME
        connection.sendall(struct.pack(">BQI", Kind.ANSWER, 1, 2**32 - 1))
        assert hung_up(connection)
    engine.close()


def test_a_stranger_that_says_nothing_is_hung_up_on_and_keeps_nobody_out(folder: Folder) -> None:
    folder.patience = replace(folder.patience, handshake=1.0)
    engine = folder.listen("north")
    idle = [folder.plain(engine.port) for _ in range(listener.MOST_STRANGERS - 8)]
    dripping = raw(folder, "north", engine.port)
    dripping.sendall(hello("north")[:5])  # and then nothing
    folder.start("north", engine.port, echo)
    assert engine.wait(["north"], 1) == {"north"}
    assert taken(engine, {"north": b"n"}) == {"north": b"<n>"}
    for connection in idle:
        assert hung_up(connection)
    assert hung_up(dripping)
    engine.close(over=True)


def test_who_dies_in_mid_reply_is_cut_short_and_can_come_back(folder: Folder) -> None:
    engine = folder.listen("north", "south")
    connection = raw(folder, "north", engine.port)
    connection.sendall(hello("north"))
    folder.start("south", engine.port, echo)
    assert engine.wait(["north", "south"], 2) == {"north", "south"}
    before = engine.connection("north")

    def die() -> None:
        while (frame := connection.recv(13))[0] != Kind.ASK_END:
            pass
        number = struct.unpack(">BQI", frame)[1]
        connection.sendall(Frame(kind=Kind.ANSWER, number=number, data=b"half").encode())
        connection.close()

    dying = threading.Thread(target=die)
    dying.start()
    assert taken(engine, {"north": b"", "south": b"s"}) == {"north": b"half", "south": b"<s>"}
    dying.join()
    until(lambda: engine.connection("north") == 0)
    assert taken(engine, {"north": b"", "south": b"s"}) == {"south": b"<s>"}
    folder.start("north", engine.port, echo)
    assert engine.wait(["north"], 1) == {"north"}
    assert engine.connection("north") > before
    assert taken(engine, {"north": b"n"}) == {"north": b"<n>"}
    engine.close(over=True)


def test_who_says_nothing_is_gone_but_who_trains_for_long_is_not(folder: Folder) -> None:
    folder.patience = replace(folder.patience, alive=0.9)
    engine = folder.listen("north", "south")
    silent = raw(folder, "north", engine.port)
    silent.sendall(hello("north"))

    def train(message: bytes) -> Chunks:
        time.sleep(2.5)  # longer than `alive`
        return iter((message,))

    folder.start("south", engine.port, train)
    assert engine.wait(["north", "south"], 2) == {"north", "south"}
    assert taken(engine, {"north": b"n", "south": b"s"}) == {"south": b"s"}
    assert any("north is gone" in line for line in folder.said)
    engine.close(over=True)


def test_an_answer_that_is_late_is_dropped(folder: Folder) -> None:
    folder.patience = replace(folder.patience, answer=0.5)
    engine, go_on = folder.listen("north"), threading.Event()

    def late(message: bytes) -> Chunks:
        if message == b"first":
            go_on.wait(10)
        return iter((message,))

    folder.start("north", engine.port, late)
    engine.wait(["north"], 1)
    assert taken(engine, {"north": b"first"}) == {}
    go_on.set()
    until(lambda: taken(engine, {"north": b"second"}) == {"north": b"second"})
    engine.close(over=True)


def test_waiting_ends_when_enough_are_there_or_time_is_up(folder: Folder) -> None:
    folder.patience = replace(folder.patience, quorum=0.3, grace=0.1)
    engine = folder.listen("north", "south")
    assert engine.wait(["north", "south"], 1) == frozenset()
    folder.start("north", engine.port, echo)
    until(lambda: engine.wait(["north", "south"], 1) == {"north"})
    engine.close(over=True)


def test_a_second_connection_of_a_member_takes_the_place_of_the_first(folder: Folder) -> None:
    engine = folder.listen("north")
    first = raw(folder, "north", engine.port)
    first.sendall(hello("north"))
    engine.wait(["north"], 1)
    serial = engine.connection("north")
    folder.start("north", engine.port, echo)
    until(lambda: engine.connection("north") > serial)
    assert taken(engine, {"north": b"n"}) == {"north": b"<n>"}
    engine.close(over=True)


def test_a_fault_of_the_silos_own_code_ends_its_program(folder: Folder) -> None:
    engine = folder.listen("north")

    def broken(_message: bytes) -> Chunks:
        raise RuntimeError("a bug")

    def ask() -> None:
        engine.wait(["north"], 1)
        taken(engine, {"north": b""})

    asking = threading.Thread(target=ask)
    asking.start()
    with pytest.raises(RuntimeError, match="a bug"):
        folder.dialler("north", engine.port).serve(broken)
    asking.join()
    engine.close()
