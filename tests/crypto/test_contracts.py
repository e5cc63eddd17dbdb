"""What every pair of ends must do, whatever it hides."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import pytest

from fedcollm_crypto.aggregation import ServerEnd, SiloEnd, Vector, aggregate
from fedcollm_crypto.errors import ProtocolError, TooFewSilos
from fedcollm_crypto.fixedpoint import FixedPoint
from fedcollm_crypto.plain import UnsafePlainServer, UnsafePlainSilo


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Both ends of one aggregation over five silos, the vectors, how many may drop out, and a decryptor if needed."""

    server: ServerEnd
    silos: Mapping[str, SiloEnd]
    others: Mapping[str, SiloEnd] = field(default_factory=dict)
    encoding: FixedPoint
    vectors: dict[str, Vector]
    spare: int
    hides: bool


@pytest.fixture(params=["plain", "masked", "masked in 32 bits", "masked post-quantum", "bfv", "bfv packed", "ckks"])
def pair(request, tools) -> Pair:
    """Make a fresh pair of each kind."""
    if request.param in ("bfv", "bfv packed", "ckks"):
        return encrypted(tools.Encrypted(5, request.getfixturevalue("worker"), request.param, length=12))
    ring_bits, post_quantum = 32 if "32" in request.param else 64, "post-quantum" in request.param
    consortium = tools.Consortium(5, ring_bits=ring_bits, post_quantum=post_quantum, length=12)
    generator = np.random.default_rng(1)
    for party in consortium.names:
        update = generator.normal(0, 0.5, 10).astype(np.float32)
        consortium.vectors[party] = ENCODING.encode(update, int(generator.integers(1, 100)))
    if request.param == "plain":
        silos = {p: UnsafePlainSilo(lambda p=p: consortium.vectors[p]) for p in consortium.names}
        server = UnsafePlainServer(12, 3)
        return Pair(server=server, silos=silos, vectors=consortium.vectors, spare=2, hides=False, encoding=ENCODING)
    server = consortium.server()
    silos = consortium.silos()
    return Pair(server=server, silos=silos, vectors=consortium.vectors, spare=1, hides=True, encoding=ENCODING)


def encrypted(consortium) -> Pair:
    """Make both ends of a sum inside ciphertexts, and the party that opens it."""
    return Pair(
        server=consortium.server(),
        silos=consortium.silos(),
        others={"decryptor": consortium.decryptor()},
        vectors=consortium.vectors,
        spare=1,
        hides=True,
        encoding=consortium.encoding,
    )


ENCODING = FixedPoint(clip=1.0, bits=16, ring_bits=32, max_weight=100, max_silos=5)


def play(pair: Pair, order=lambda parties: parties, lost=(), change=lambda _, data: [data]):
    """Aggregate over an exchange that reorders, loses and changes replies; return the decoded mean."""
    uploads = []

    def exchange(requests):
        for party in order(sorted(requests)):
            if party not in lost:
                end = pair.silos[party] if party in pair.silos else pair.others[party]
                reply = b"".join(end.handle(requests[party]))
                if party in pair.silos:
                    uploads.append(reply)
                yield party, change(party, reply)

    return pair.encoding.decode(aggregate(pair.server, exchange, sorted(pair.silos))), uploads


def clear(pair: Pair, parties) -> np.ndarray:
    """Return the mean from the vectors in the clear, by another way: signed integers."""
    signed = np.sum([pair.vectors[p].astype(np.uint32).view(np.int32).astype(np.int64) for p in parties], axis=0)
    return signed[:-2] / signed[-2] / pair.encoding.levels


def test_the_sum_is_exact(pair):
    decoded, _ = play(pair)

    assert np.allclose(decoded.mean, clear(pair, pair.vectors), rtol=1e-14, atol=0)
    assert decoded.contributors == 5


def test_the_order_of_replies_does_not_matter(pair):
    decoded, _ = play(pair, order=lambda parties: reversed(parties))

    assert np.allclose(decoded.mean, clear(pair, pair.vectors), rtol=1e-14, atol=0)


def test_the_size_of_chunks_does_not_matter(pair):
    decoded, _ = play(
        pair,
        change=lambda _, data: [
            data[i : i + size] for size in [3 if len(data) < 1 << 16 else 997] for i in range(0, len(data), size)
        ],
    )

    assert np.allclose(decoded.mean, clear(pair, pair.vectors), rtol=1e-14, atol=0)


def test_as_many_dropouts_as_allowed_leave_an_exact_sum(pair):
    lost = sorted(pair.silos)[: pair.spare]

    decoded, _ = play(pair, lost=lost)

    assert np.allclose(decoded.mean, clear(pair, set(pair.silos) - set(lost)), rtol=1e-14, atol=0)
    assert dict(pair.server.dropped) == dict.fromkeys(lost, "did not answer")


def test_one_dropout_more_is_refused(pair):
    with pytest.raises(TooFewSilos):
        play(pair, lost=sorted(pair.silos)[: pair.spare + 1])


def test_a_truncated_reply_drops_its_sender_alone(pair):
    decoded, _ = play(pair, change=lambda party, data: [data[:-1] if party == "silo-002" else data])

    assert decoded.contributors == 4
    assert set(pair.server.dropped) == {"silo-002"}


@pytest.mark.parametrize("request_bytes", [b"", b"{}", b"fedcollm", bytes(100)])
def test_a_foreign_request_is_not_answered(pair, request_bytes):
    with pytest.raises(ProtocolError):
        pair.silos["silo-001"].handle(request_bytes)


def test_an_upload_shows_the_vector_only_where_nothing_hides_it(pair):
    _, uploads = play(pair)

    width = "<u4" if any(v.max() >= 2**32 for v in pair.vectors.values()) else "<u8"
    shown = any(pair.vectors[p].astype(width).tobytes()[:24] in upload for p in pair.silos for upload in uploads)
    narrow = any(pair.vectors[p].astype("<u4").tobytes()[:24] in upload for p in pair.silos for upload in uploads)
    assert (shown or narrow) == (not pair.hides)
