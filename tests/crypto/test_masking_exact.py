import numpy as np
import pytest

from fedcollm_crypto.aggregation import aggregate
from fedcollm_crypto.errors import TooFewSilos
from fedcollm_crypto.masking.protocol import run_masking


@pytest.mark.parametrize("ring_bits", [32, 64])
@pytest.mark.parametrize("n", [2, 3, 10])
def test_the_masked_sum_is_exact(tools, n: int, ring_bits: int):
    consortium = tools.Consortium(n, ring_bits=ring_bits)

    result = run_masking(consortium.server(), consortium.silos())

    assert np.array_equal(result.total, consortium.total(consortium.names))
    assert result.contributors == frozenset(consortium.names)


@pytest.mark.parametrize("n", [50, 100])
def test_the_masked_sum_is_exact_in_large_cohorts_with_all_allowed_dropouts(tools, n: int):
    consortium = tools.Consortium(n)
    allowed = consortium.names[: n - consortium.manifest.threshold]

    silos = consortium.silos()
    result = aggregate(
        consortium.server(), tools.exchange_with(silos, lambda stage, p: stage == 5 and p in allowed), list(silos)
    )

    assert np.array_equal(result.total, consortium.total(result.contributors))
    assert result.contributors == frozenset(consortium.names) - frozenset(allowed)


@pytest.mark.parametrize("stage", [1, 2, 3, 5, 6, 7])
def test_the_sum_is_exact_when_silos_drop_out_at_a_stage(tools, stage: int):
    consortium = tools.Consortium(7)
    lost = {"silo-002", "silo-007"}

    result = run_masking(consortium.server(), consortium.silos(), lambda at, party: at < stage or party not in lost)

    assert result.contributors == frozenset(consortium.names) - (lost if stage <= 5 else set())
    assert np.array_equal(result.total, consortium.total(result.contributors))


@pytest.mark.parametrize("stage", [1, 2, 3, 5, 6, 7])
def test_one_dropout_too_many_ends_the_attempt_cleanly(tools, stage: int):
    consortium = tools.Consortium(7)
    lost = {"silo-001", "silo-002", "silo-007"}
    server = consortium.server()

    with pytest.raises(TooFewSilos, match="4 silos are left, 5 are needed") as caught:
        run_masking(server, consortium.silos(), lambda at, party: at < stage or party not in lost)

    assert caught.value.dropped == dict.fromkeys(lost, "did not answer")


def test_silos_may_drop_out_at_every_stage_in_turn(tools):
    consortium = tools.Consortium(16)
    leaving = {1: "silo-003", 2: "silo-016", 3: "silo-005", 5: "silo-001", 6: "silo-008"}

    result = run_masking(
        consortium.server(),
        consortium.silos(),
        lambda at, party: all(party != leaving.get(stage) for stage in range(1, at + 1)),
    )

    assert result.contributors == frozenset(consortium.names) - {leaving[stage] for stage in (1, 2, 3, 5)}
    assert np.array_equal(result.total, consortium.total(result.contributors))


def test_a_vector_longer_than_a_chunk_is_summed_exactly(tools):
    consortium = tools.Consortium(3, length=2 * 32768 + 5)

    result = run_masking(consortium.server(), consortium.silos())

    assert np.array_equal(result.total, consortium.total(consortium.names))


def test_the_semi_honest_profile_tolerates_more_dropouts(tools):
    consortium = tools.Consortium(5, adversary="semi_honest", threshold=3)
    consortium.policy = type(consortium.policy)(adversary="semi_honest", colluding=1)

    result = run_masking(
        consortium.server(), consortium.silos(), lambda at, party: at < 5 or party in consortium.names[:3]
    )

    assert np.array_equal(result.total, consortium.total(consortium.names[:3]))


def test_fresh_randomness_gives_other_uploads_for_the_same_vectors(tools):
    def upload() -> bytes:
        consortium = tools.Consortium(3)
        silos = consortium.silos()
        ask = tools.run_to(5, consortium.server(), silos)
        return b"".join(silos["silo-001"].handle(ask.requests["silo-001"]))[1:41]

    assert upload() != upload()
