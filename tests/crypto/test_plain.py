from collections.abc import Iterator, Mapping

import numpy as np
import pytest

from fedcollm_crypto.aggregation import Ask, Chunks, PartyId, Sum, aggregate
from fedcollm_crypto.errors import ProtocolError, TooFewSilos
from fedcollm_crypto.plain import REQUEST, UnsafePlainServer, UnsafePlainSilo

VECTORS = {
    "a": np.array([1, 2], np.uint64),
    "b": np.array([10, 20], np.uint64),
    "c": np.array([2**64 - 1, 0], np.uint64),
}


def exchange(requests: Mapping[PartyId, bytes]) -> Iterator[tuple[PartyId, Chunks]]:
    for party, request in requests.items():
        yield party, UnsafePlainSilo(lambda party=party: VECTORS[party]).handle(request)


def test_the_sum_is_taken_modulo_the_ring():
    result = aggregate(UnsafePlainServer(2, 3), exchange, ["a", "b", "c"])

    assert result.total.tolist() == [10, 22]
    assert result.contributors == frozenset("abc")


def test_a_silo_that_never_answers_is_dropped_by_name():
    end = UnsafePlainServer(2, 2)
    without_c = lambda requests: ((p, r) for p, r in exchange(requests) if p != "c")  # noqa: E731

    assert aggregate(end, without_c, ["a", "b", "c"]).contributors == frozenset("ab")
    assert end.dropped == {"c": "did not answer"}


@pytest.mark.parametrize(
    ("reply", "reason"), [(b"\0" * 15, "ends after 15"), (b"\0" * 17, "1 bytes follow the vector")]
)
def test_a_reply_of_the_wrong_length_drops_its_sender_alone(reply: bytes, reason: str):
    end = UnsafePlainServer(2, 1)
    end.start(["a", "b"])

    end.absorb("a", [reply])
    end.absorb("b", [VECTORS["b"].tobytes()])
    result = end.step()

    assert isinstance(result, Sum)
    assert result.total.tolist() == [10, 20]
    assert reason in end.dropped["a"]


def test_a_connection_that_breaks_in_the_middle_drops_its_sender():
    def breaking() -> Iterator[bytes]:
        yield bytes(8)
        raise ConnectionError("reset by peer")

    end = UnsafePlainServer(2, 1)
    end.start(["a"])
    end.absorb("a", breaking())

    assert end.dropped == {"a": "reset by peer"}


def test_the_second_reply_of_a_silo_and_a_strangers_reply_are_ignored():
    end = UnsafePlainServer(2, 1)
    end.start(["a"])

    for party in ("a", "a", "stranger"):
        end.absorb(party, [VECTORS["a"].tobytes()])
    result = end.step()

    assert isinstance(result, Sum)
    assert result.total.tolist() == [1, 2]


def test_too_few_silos_are_refused_with_reasons():
    end = UnsafePlainServer(2, 2)
    end.start(["a", "b"])
    end.absorb("a", [VECTORS["a"].tobytes()])

    with pytest.raises(TooFewSilos, match="1 silos are left, 2 are needed") as caught:
        end.step()
    assert caught.value.dropped == {"b": "did not answer"}


def test_the_vector_is_computed_once():
    calls: list[int] = []
    silo = UnsafePlainSilo(lambda: calls.append(1) or VECTORS["a"])  # type: ignore[func-returns-value]

    replies = {b"".join(silo.handle(REQUEST + b"2")) for _ in range(2)}

    assert replies == {VECTORS["a"].tobytes()}
    assert calls == [1]


@pytest.mark.parametrize(("request_bytes", "reason"), [(b"hello", "not a request"), (REQUEST + b"3", "another length")])
def test_a_foreign_request_is_refused(request_bytes: bytes, reason: str):
    with pytest.raises(ProtocolError, match=reason):
        UnsafePlainSilo(lambda: VECTORS["a"]).handle(request_bytes)


def test_misuse_is_a_programmers_error():
    end = UnsafePlainServer(2, 1)
    assert isinstance(end.start(["a"]), Ask)

    with pytest.raises(RuntimeError, match="serves one attempt"):
        end.start(["a"])
    with pytest.raises(ValueError, match="distinct silos"):
        UnsafePlainServer(2, 1).start(["a", "a"])
    with pytest.raises(ValueError, match="at least 1"):
        UnsafePlainServer(0, 1)
