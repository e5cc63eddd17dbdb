"""What every engine keeps (`engines.engine`), over the local one and over mutual TLS."""

import threading
from collections.abc import Callable, Iterator, Mapping

import pytest

from fedcollm_secure.engines.engine import Chunks, Engine
from fedcollm_secure.engines.local import LocalEngine

from .conftest import Folder, Handler

Reach = Callable[[Mapping[str, Handler]], Engine]


@pytest.fixture(params=["local", "mtls"])
def reach(request: pytest.FixtureRequest, folder: Folder) -> Iterator[Reach]:
    """Return what makes an engine over handlers, with all of them there."""
    if request.param == "local":
        yield LocalEngine
        return
    open_ones = []

    def over(handlers: Mapping[str, Handler]) -> Engine:
        engine = folder.listen(*handlers)
        open_ones.append((engine, [folder.start(name, engine.port, handler) for name, handler in handlers.items()]))
        assert engine.wait(handlers, len(handlers)) == handlers.keys()
        return engine

    yield over
    for engine, threads in open_ones:
        engine.close(over=True)
        for thread in threads:
            thread.join(5)


def echo(message: bytes) -> Chunks:
    return iter((b"<", message, b">"))


def taken(engine: Engine, requests: Mapping[str, bytes]) -> dict[str, bytes]:
    return {party: b"".join(chunks) for party, chunks in engine.exchange(requests)}


def test_each_party_gets_its_own_request_and_its_reply_comes_whole(reach: Reach) -> None:
    engine = reach({"north": echo, "south": echo})
    assert taken(engine, {"north": b"n", "south": b"s"}) == {"north": b"<n>", "south": b"<s>"}
    assert sorted(engine.parties()) == ["north", "south"]


def test_a_party_that_is_not_asked_is_not_asked(reach: Reach) -> None:
    asked: list[bytes] = []

    def remember(message: bytes) -> Chunks:
        asked.append(message)
        return iter(())

    engine = reach({"north": echo, "south": remember})
    assert taken(engine, {"north": b"n"}) == {"north": b"<n>"}
    assert not asked


def test_megabytes_come_in_order_both_ways(reach: Reach) -> None:
    pieces = [bytes([number]) * 300_001 for number in range(20)]

    def measure(message: bytes) -> Chunks:
        return iter((len(message).to_bytes(8, "big"), *pieces))

    engine = reach({"north": measure, "south": measure})
    found = taken(engine, dict.fromkeys(("north", "south"), b"x" * 5_000_003))
    assert found == dict.fromkeys(("north", "south"), (5_000_003).to_bytes(8, "big") + b"".join(pieces))


def test_a_reply_that_nobody_reads_is_nobodys_next_reply(reach: Reach) -> None:
    engine = reach({"north": lambda message: iter((message,) * 40), "south": echo})
    first = engine.exchange({"north": b"old" * 100_000, "south": b"old"})
    next(first)
    first.close()
    assert taken(engine, {"south": b"new"}) == {"south": b"<new>"}
    assert taken(engine, {"north": b"new"}) == {"north": b"new" * 40}


def test_an_empty_reply_is_one(reach: Reach) -> None:
    assert taken(reach({"north": lambda _: iter(())}), {"north": b""}) == {"north": b""}


def test_all_that_are_here_are_here_at_once(reach: Reach) -> None:
    engine = reach({"north": echo, "south": echo})
    assert engine.wait(["north", "south"], 1) == {"north", "south"}
    assert engine.wait(["north"], 1) == {"north"}


def test_silos_answer_side_by_side_over_a_network(folder: Folder) -> None:
    both = threading.Barrier(2, timeout=10)

    def together(message: bytes) -> Chunks:
        both.wait()
        return iter((message,))

    engine = folder.listen("north", "south")
    for name in ("north", "south"):
        folder.start(name, engine.port, together)
    engine.wait(["north", "south"], 2)
    assert taken(engine, {"north": b"n", "south": b"s"}) == {"north": b"n", "south": b"s"}
    engine.close(over=True)
