from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcollm_crypto.aggregation import Sum
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.fixedpoint import FixedPoint

ROOMY = FixedPoint(clip=0.5, bits=16, ring_bits=64, max_weight=1000, max_silos=100)
TIGHT = FixedPoint(clip=0.5, bits=16, ring_bits=32, max_weight=256, max_silos=100)


def total(encoding: FixedPoint, *encoded: np.ndarray, contributors: int | None = None) -> Sum:
    names = frozenset(f"silo-{i}" for i in range(len(encoded) if contributors is None else contributors))
    return Sum(total=np.sum(np.stack(encoded), axis=0, dtype=np.uint64), contributors=names)


def by_hand(encoding: FixedPoint, value: float, weight: int) -> int:
    """Encode one entry with exact fractions: a second derivation."""
    clip = Fraction(encoding.clip)
    scaled = max(-clip, min(clip, Fraction(value))) * encoding.levels / clip
    return round(scaled) * weight % (1 << encoding.ring_bits)  # round(): half to even, as rint


@pytest.mark.parametrize("encoding", [ROOMY, TIGHT])
@given(values=st.lists(st.floats(-1, 1, width=32), min_size=1, max_size=8), weight=st.integers(1, 256))
def test_encoding_matches_exact_fractions(encoding: FixedPoint, values: list[float], weight: int):
    encoded = encoding.encode(np.array(values, np.float32), weight)

    assert encoded.dtype == np.uint64
    assert encoded.tolist() == [by_hand(encoding, v, weight) for v in values] + [weight, 1]


@pytest.mark.parametrize("encoding", [ROOMY, TIGHT])
@given(data=st.data())
def test_the_mean_is_within_half_a_step_of_the_weighted_mean(encoding: FixedPoint, data: st.DataObject):
    silos = data.draw(st.integers(1, 5))
    updates = [
        np.array(data.draw(st.lists(st.floats(-0.5, 0.5, width=32), min_size=3, max_size=3)), np.float32)
        for _ in range(silos)
    ]
    weights = data.draw(st.lists(st.integers(1, 256), min_size=silos, max_size=silos))

    decoded = encoding.decode(total(encoding, *(encoding.encode(u, w) for u, w in zip(updates, weights, strict=True))))

    exact = sum(w * u.astype(np.float64) for u, w in zip(updates, weights, strict=True)) / sum(weights)
    assert np.abs(decoded.mean - exact).max() <= encoding.grid / 2 * (1 + 1e-9)
    assert (decoded.total_weight, decoded.contributors) == (sum(weights), silos)


def test_the_largest_allowed_sum_does_not_overflow():
    encoding = FixedPoint(clip=1.0, bits=16, ring_bits=32, max_weight=655, max_silos=100)
    assert encoding.headroom_bits == 0
    extremes = [encoding.encode(np.array([sign], np.float32), 655) for sign in (1.0, -1.0)]

    assert encoding.decode(total(encoding, *[extremes[0]] * 100)).mean.tolist() == [1.0]
    assert encoding.decode(total(encoding, *[extremes[1]] * 100)).mean.tolist() == [-1.0]


def test_overflow_is_refused_by_its_bound_before_anything_is_sent():
    with pytest.raises(ValueError, match=r"n·W_max·Q < 2\^\(m-1\).*100·656·32767 = 2149515200 >= 2\^31.*ring_bits: 64"):
        FixedPoint(clip=1.0, bits=16, ring_bits=32, max_weight=656, max_silos=100)


def test_a_sum_that_would_just_reach_the_sign_bit_is_refused():
    FixedPoint(clip=1.0, bits=2, ring_bits=32, max_weight=2**24 - 1, max_silos=128)

    with pytest.raises(ValueError, match=r"2147483648 >= 2\^31"):
        FixedPoint(clip=1.0, bits=2, ring_bits=32, max_weight=2**24, max_silos=128)


@given(st.integers(2, 32), st.integers(1, 2**40), st.integers(1, 1000))
def test_an_encoding_exists_exactly_when_its_bound_holds(bits: int, max_weight: int, max_silos: int):
    fits = max_silos * max_weight * (2 ** (bits - 1) - 1) < 2**63
    try:
        FixedPoint(clip=1.0, bits=bits, ring_bits=64, max_weight=max_weight, max_silos=max_silos)
    except ValueError:
        assert not fits
    else:
        assert fits


def test_the_smaller_ring_is_chosen_where_it_fits():
    assert FixedPoint.smallest_ring(clip=1.0, bits=16, max_weight=655, max_silos=100).ring_bits == 32
    assert FixedPoint.smallest_ring(clip=1.0, bits=16, max_weight=656, max_silos=100).ring_bits == 64


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_an_entry_that_is_not_finite_is_refused(bad: float):
    with pytest.raises(ValueError, match="not finite"):
        ROOMY.encode(np.array([0.0, bad], np.float32), 1)


@pytest.mark.parametrize("weight", [0, -1, 1001])
def test_a_weight_out_of_range_is_refused(weight: int):
    with pytest.raises(ValueError, match=r"weight must be in \[1, 1000\]"):
        ROOMY.encode(np.zeros(1, np.float32), weight)


def test_only_flat_float32_is_encoded():
    with pytest.raises(TypeError, match=r"float32\[d\], got float64"):
        ROOMY.encode(np.zeros(3), 1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"shape \(1, 3\)"):
        ROOMY.encode(np.zeros((1, 3), np.float32), 1)


def test_a_silo_counted_twice_is_noticed():
    one = ROOMY.encode(np.zeros(1, np.float32), 1)

    with pytest.raises(ProtocolError, match="counter says 2, the contributors are 1"):
        ROOMY.decode(total(ROOMY, one, one, contributors=1))


def test_a_total_weight_out_of_range_is_noticed():
    forged = np.array([0, 2001, 2], np.uint64)

    with pytest.raises(ProtocolError, match=r"total weight 2001 is outside \[2, 2000\]"):
        ROOMY.decode(total(ROOMY, forged, contributors=2))


@pytest.mark.parametrize("entry", [32768, 2**64 - 32768, 2**63])
def test_an_entry_beyond_the_clip_is_noticed(entry: int):
    with pytest.raises(ProtocolError, match="beyond what clipping allows"):
        ROOMY.decode(total(ROOMY, np.array([entry, 1, 1], np.uint64)))


def test_more_silos_than_the_bound_allows_are_refused():
    with pytest.raises(ValueError, match="at most 100 silos, got 101"):
        ROOMY.decode(total(ROOMY, *[ROOMY.encode(np.zeros(1, np.float32), 1)] * 101))


def test_a_sum_without_entries_is_misuse():
    with pytest.raises(ValueError, match="at least 3 coordinates"):
        ROOMY.decode(Sum(total=np.array([1, 1], np.uint64), contributors=frozenset("a")))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"clip": 0.0}, "clip"),
        ({"clip": float("inf")}, "clip"),
        ({"bits": 1}, "bits"),
        ({"bits": 33}, "bits"),
        ({"ring_bits": 16}, "ring_bits"),
        ({"max_weight": 0}, "max_weight"),
        ({"max_silos": 0}, "max_silos"),
    ],
)
def test_parameters_without_meaning_are_refused(change: dict[str, float], message: str):
    fields = {"clip": 1.0, "bits": 16, "ring_bits": 64, "max_weight": 1, "max_silos": 1} | change
    with pytest.raises(ValueError, match=message):
        FixedPoint(**fields)  # type: ignore[arg-type]


def test_the_encoded_length_adds_the_weight_and_the_counter():
    assert ROOMY.length(5) == 7 == len(ROOMY.encode(np.zeros(5, np.float32), 1))


NOISY = FixedPoint(clip=0.5, bits=16, ring_bits=32, max_weight=1, max_silos=3, noise_allowance=1000)


@pytest.mark.parametrize("ring_bits", [32, 64])
def test_noise_goes_through_the_sum_in_steps_of_the_grid(ring_bits: int):
    encoding = FixedPoint(clip=0.5, bits=16, ring_bits=ring_bits, max_weight=1, max_silos=3, noise_allowance=1000)  # type: ignore[arg-type]
    update, noise = np.array([0.25, -0.5], np.float32), np.array([[7, -3], [-900, 500]])
    decoded = encoding.decode(total(encoding, *(encoding.encode(update, 1, each) for each in noise)))

    assert decoded.mean == pytest.approx(update + noise.sum(axis=0) * encoding.grid / 2, abs=encoding.grid / 2)
    assert (decoded.total_weight, decoded.contributors) == (2, 2)


def test_noise_within_its_allowance_may_pass_the_clip_and_none_beyond():
    full = NOISY.encode(np.array([0.5], np.float32), 1, np.array([1000]))
    beyond = NOISY.encode(np.array([0.5], np.float32), 1, np.array([1001]))

    assert NOISY.decode(total(NOISY, full)).mean[0] == pytest.approx(0.5 + 1000 * NOISY.grid)
    with pytest.raises(ProtocolError, match="beyond what clipping allows"):
        NOISY.decode(total(NOISY, beyond))


def test_noise_counts_against_the_ring():
    room = 2**31 - 1 - 3 * (2**15 - 1)
    parameters = {"clip": 0.5, "bits": 16, "max_weight": 1, "max_silos": 3}

    assert FixedPoint(**parameters, ring_bits=32, noise_allowance=room).headroom_bits == 0  # type: ignore[arg-type]
    assert FixedPoint.smallest_ring(**parameters, noise_allowance=room + 1).ring_bits == 64  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"could overflow: .* of noise = 2147483648 >= 2\^31"):
        FixedPoint(**parameters, ring_bits=32, noise_allowance=room + 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(("encoding", "noise"), [(ROOMY, [1, 1]), (NOISY, [1])])
def test_noise_without_an_allowance_or_of_another_length_is_refused(encoding: FixedPoint, noise: list[int]):
    with pytest.raises(ValueError, match="noise needs an allowance"):
        encoding.encode(np.zeros(2, np.float32), 1, np.array(noise))


def test_a_negative_allowance_is_refused():
    with pytest.raises(ValueError, match="noise_allowance must be at least 0"):
        FixedPoint(clip=0.5, bits=16, ring_bits=64, max_weight=1, max_silos=3, noise_allowance=-1)
