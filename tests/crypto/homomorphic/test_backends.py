"""Whatever hides the vectors, the sum is the same integers: plain == masked == BFV == CKKS, bit for bit."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedcollm_crypto.aggregation import aggregate
from fedcollm_crypto.plain import UnsafePlainServer, UnsafePlainSilo

BACKENDS = ("masked", "bfv", "bfv packed", "ckks")


@st.composite
def rounds(draw):
    """Draw a cohort, a seed for updates and weights, the vector's length, and who drops out at which exchange."""
    silos = draw(st.integers(3, 5))
    lost = draw(st.sampled_from([None, *range(silos)])) if silos > 3 else None
    return silos, draw(st.integers(0, 2**32)), draw(st.sampled_from([3, 7, 40])), lost


@settings(max_examples=5, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rounds())
def test_backends_agree_bit_for_bit(tools, worker, drawn):
    silos, seed, length, lost = drawn
    sums, template = {}, tools.Encrypted(silos, worker, "bfv packed", length=length)
    vectors = random_vectors(template, seed)
    for backend in BACKENDS:
        consortium = tools.Encrypted(silos, worker, "bfv" if backend == "masked" else backend, length=length)
        consortium.manifest, consortium.vectors = same_encoding(consortium, template), vectors
        sums[backend] = run(tools, consortium, backend, lost)
    plain = UnsafePlainServer(length, 3)
    ends = {p: UnsafePlainSilo(lambda p=p: vectors[p].astype(np.uint64)) for p in template.names}
    staying = [p for i, p in enumerate(template.names) if i != lost]
    sums["plain"] = aggregate(plain, tools.exchange_with(ends, lambda _, p: p not in staying), template.names)

    assert {backend: result.contributors for backend, result in sums.items()} == {name: set(staying) for name in sums}
    words = {backend: words_of(result.total, template) for backend, result in sums.items()}
    assert len(set(words.values())) == 1, words


def random_vectors(consortium, seed: int) -> dict[str, np.ndarray]:
    """Return encoded updates; some entries at either end of the range."""
    generator, vectors = np.random.default_rng(seed), {}
    for party in consortium.names:
        update = generator.normal(0, 0.7, consortium.manifest.quantisation.length - 2).astype(np.float32)
        vectors[party] = consortium.encoding.encode(update, int(generator.integers(1, 101)))
    return vectors


def same_encoding(consortium, template):
    """Return the manifest with the encoding that all backends share."""
    return replace(consortium.manifest, quantisation=template.manifest.quantisation)


def run(tools, consortium, backend: str, lost: int | None):
    """Run one aggregation, in which a silo never answers when it is asked for its vector."""
    if backend == "masked":
        masked = tools.Consortium(len(consortium.names), length=consortium.manifest.quantisation.length)
        masked.manifest = same_encoding(masked, consortium)
        masked.vectors = consortium.vectors
        parties, server, stage = masked.silos(), masked.server(), 3
    else:
        parties, server = consortium.parties(), consortium.server()
        stage = 3 if backend == "ckks" else 4
    absent = None if lost is None else consortium.names[lost]
    exchange = tools.exchange_with(parties, lambda at, party: party == absent and at >= stage)
    return aggregate(server, exchange, consortium.names)


def words_of(total: np.ndarray, consortium) -> bytes:
    """Return the sum's bytes in the ring of the encoding."""
    return (total & np.uint64((1 << consortium.manifest.quantisation.ring_bits) - 1)).astype("<u8").tobytes()


@pytest.mark.parametrize("backend", ["bfv", "bfv packed", "ckks"])
def test_vectors_over_several_ciphertexts_come_out_whole(tools, worker, backend):
    consortium = tools.Encrypted(3, worker, backend, length=20_001)
    result = aggregate(consortium.server(), tools.exchange_with(consortium.parties()), consortium.names)

    assert (result.total == consortium.total(consortium.names)).all()


def test_a_sum_of_another_bit_would_be_noticed(tools, worker):
    consortium = tools.Encrypted(3, worker)
    total = consortium.total(consortium.names)

    assert words_of(total, consortium) != words_of(total + np.uint64(1), consortium)
