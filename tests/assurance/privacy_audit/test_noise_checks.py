"""The tests of noise on numbers drawn here: honest ones pass, each fault is found by its own test."""

import math
from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from fedcollm_secure.assurance.privacy_audit.detection_power import Sight, finds_repeat, finds_scale, finds_tail
from fedcollm_secure.assurance.privacy_audit.false_alarms import (
    ALARM,
    FALSE_ALARM,
    TESTS,
    counts,
    distance,
    mean_square,
    most_of,
    product,
)
from fedcollm_secure.assurance.privacy_audit.noise_checks import noise_checks
from fedcollm_secure.assurance.privacy_audit.noise_draws import Draw, Table, float_tables, whole_tables
from fedcollm_secure.assurance.privacy_audit.tensor_places import MOST_ENTRIES, Places
from fedcollm_secure.learning.adapter import Schema

Float64 = NDArray[np.float64]
SILOS, ROUNDS, STEPS, TENSORS, SIZE = 3, 3, 4, 4, 250
Change = Callable[[Float64], Float64]


def draws(change: Change, *, seed: int = 0, scale: float = 1.0, whole: bool = False) -> list[Draw]:
    """Return draws of (silo, round, step, entry), of which `change` makes what is tested."""
    shape = (SILOS, ROUNDS, STEPS, TENSORS * SIZE)
    noise = np.random.default_rng(seed).normal(size=shape) * scale
    noise = change(np.rint(noise) if whole else noise.astype(np.float32).astype(np.float64))
    return [
        Draw(
            silo=f"silo-{silo}",
            round=number + 1,
            step=step + 1,
            noise={f"tensor-{k}": part for k, part in enumerate(np.split(noise[silo, number, step], TENSORS))},
        )
        for silo in range(SILOS)
        for number in range(ROUNDS)
        for step in range(STEPS)
    ]


def failing(tables: list[Table], alarm: float = ALARM) -> set[str]:
    return {each.name for each in noise_checks(tables, alarm) if not each.holds}


def only(where: tuple[object, ...], change: Change) -> Change:
    def changed(noise: Float64) -> Float64:
        noise[where] = change(noise[where])  # type: ignore[index]  # any of numpy's indices
        return noise

    return changed


def again(noise: Float64) -> Float64:
    noise[2, 2, 3] = noise[0, 0, 0]
    return noise


def shifted(noise: Float64) -> Float64:
    noise[2, 2, 3] = -np.roll(noise[0, 0, 0], 77)
    return noise


def in_two_layers(noise: Float64) -> Float64:
    noise[..., :SIZE] = noise[..., 2 * SIZE : 3 * SIZE]
    return noise


def half(noise: Float64) -> Float64:
    noise[..., ::2] *= 0.7
    noise[..., 1::2] *= math.sqrt(2 - 0.49)
    return noise


def taken_back(noise: Float64) -> Float64:
    noise[:, :, 1:] -= 0.2 * noise[:, :, :-1]
    return noise / np.sqrt(1.04)


def laplace(noise: Float64) -> Float64:
    return np.random.default_rng(1).laplace(0.0, 2**-0.5, noise.shape)


def ones(noise: Float64) -> Float64:
    return np.sign(noise)


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (only((1, 2, slice(None), slice(0, SIZE)), np.zeros_like), "zeros"),
        (only((1, 2, slice(None), slice(0, SIZE)), lambda part: part * 0.7), "noise of a tensor"),
        (only((1, 2, slice(None), slice(0, SIZE)), lambda part: part * 1.4), "noise of a tensor"),
        (only((1, 2, 3), lambda part: part * 0.7), "noise of a step"),
        (only((..., slice(7, 8)), lambda part: part * 0.1), "noise of a coordinate"),
        (only((1, ..., slice(7, 8)), lambda part: part * 1e-6), "noise of a coordinate"),
        (half, "spread over coordinates"),
        (lambda noise: noise - noise.mean(axis=-1, keepdims=True), "sum of a tensor"),
        (lambda noise: noise + 0.1, "sum of a tensor"),
        (laplace, "shape"),
        (ones, "shape"),
        (lambda noise: np.clip(noise, -3.0, 3.0), "tails"),
        (again, "same noise twice"),
        (again, "repeats"),
        (shifted, "repeats"),
        (taken_back, "steps in a row"),
        (in_two_layers, "places"),
        (lambda noise: noise.astype(np.float16).astype(np.float64), "grain"),
    ],
)
def test_each_fault_of_the_noise_is_found_by_its_own_test(change: Change, found: str) -> None:
    assert found in failing(float_tables(draws(change), bits=24))


@pytest.mark.parametrize("seed", range(5))
def test_honest_noise_holds(seed: int) -> None:
    assert failing(float_tables(draws(lambda noise: noise, seed=seed), bits=24)) == set()


@pytest.mark.parametrize("variance", [9, 50, 10_000])
def test_honest_shares_of_whole_numbers_hold(variance: int) -> None:
    scale = math.sqrt(variance + 1 / 12)
    shares = draws(lambda noise: noise / scale, seed=variance, scale=math.sqrt(variance), whole=True)

    assert failing(whole_tables(shares, 1 / scale)) == set()


def test_shares_of_a_smaller_variance_are_found() -> None:
    shares = draws(lambda noise: noise / 100, scale=80, whole=True)

    assert {"noise of a step", "spread over coordinates"} <= failing(whole_tables(shares, 1 / 100))


def test_honest_noise_fails_no_more_often_than_the_alarm_says() -> None:
    """At 20 % a test: of 20 honest tables more than 13 fail one test with probability below 10^-5 (binomial)."""
    times = dict[str, int]()
    for seed in range(20):
        for name in failing(float_tables(draws(lambda noise: noise, seed=100 + seed), bits=24), alarm=0.2):
            times[name] = times.get(name, 0) + 1

    assert stats.binom.sf(13, 20, 0.2) < 1e-5
    assert max(times.values(), default=0) <= 13
    assert times  # the bounds are not so loose that nothing ever comes near


def test_one_budget_covers_all_tests() -> None:
    checks = noise_checks(float_tables(draws(lambda noise: noise), bits=24))

    assert FALSE_ALARM == 1e-6
    assert math.isclose(TESTS * ALARM, FALSE_ALARM)
    assert {each.alarm for each in checks} == {ALARM}


def test_bounds_are_those_of_the_textbooks() -> None:
    low, high = mean_square(10, 0.01)

    assert (stats.chi2.cdf(10 * low, 10), stats.chi2.sf(10 * high, 10)) == pytest.approx((0.005, 0.005))
    assert distance(100, 0.05) == pytest.approx(0.1358, abs=1e-4)  # the well-known 1.358/√n
    assert counts(100, 0.5, 0.05) == (40, 60)
    assert most_of(4.0, 0.05) == 8
    # Laurent and Massart at x = ln(2/α): 2√(x·Σλ²) + 2x·max λ.
    assert product(50, 0.5, 2 / math.e) == pytest.approx(2 * math.sqrt(50) + 1)


def test_products_stay_within_their_bound_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(3)
    found = np.abs(np.sum(generator.normal(size=(4000, 50)) * generator.normal(size=(4000, 50)), axis=1))

    assert 0 < np.mean(found > product(25, 0.5, 0.2)) < 0.2


def test_power_of_a_smaller_noise_is_what_is_found_of_it() -> None:
    generator, factor, entries, alarm = np.random.default_rng(5), 0.9, 300, 0.01
    low, high = mean_square(entries, alarm)
    seen = np.mean((factor * generator.normal(size=(2000, entries))) ** 2, axis=1)
    found = float(np.mean((seen < low) | (seen > high)))

    assert finds_scale(factor, entries, alarm) == pytest.approx(found, abs=4 * math.sqrt(0.25 / 2000))
    assert finds_scale(0.0, entries, alarm) == 1
    assert finds_scale(1.0, entries, alarm) == pytest.approx(alarm)


def test_power_against_cut_tails_and_repeats_is_that_of_the_audits_own_counts() -> None:
    """Of a million entries 2700 lie beyond 3 σ; where none do, 0 is far below what chance allows."""
    assert finds_tail(0.0, 2 * stats.norm.sf(3), 1_000_000, ALARM) == 1
    assert finds_tail(2 * stats.norm.sf(3), 2 * stats.norm.sf(3), 1_000_000, ALARM) < ALARM
    assert finds_repeat(1000, ALARM, pairs=10_000) > 1 - 1e-9
    assert finds_repeat(10, ALARM, pairs=10_000) < 0.1  # ten entries are too few to tell


def test_power_at_the_examples_size_is_what_the_page_says() -> None:
    """210 draws of 31,872 entries, 5,120 units of a silo drawn by chance at q = 0.05: privacy/README.md."""
    draws_made, entries = 210, 31_872
    everything = draws_made * entries
    step, twice = ALARM / draws_made, 2.0 ** (2 - 24) / (2 * math.pi)
    pairs = everything * (entries - 1) / 2
    low, high = counts(5_120, 0.05, ALARM, 4)

    assert finds_scale(2**-0.5, entries, step) > 0.999  # averagenoise, over two microbatches
    assert finds_tail(0.0, float(stats.norm.sf(3)), everything, ALARM / 10) > 0.999  # cutnoise
    assert (
        finds_tail(math.exp(-4 * 2**0.5) / 2, float(stats.norm.sf(4)), everything, ALARM / 10) > 0.999
    )  # laplacenoise
    assert finds_repeat(entries, ALARM, draws_made**2) > 0.999  # samenoise, pairnoise, seednoise
    assert stats.poisson.sf(most_of(pairs * twice, ALARM), pairs * 2.0**-12) > 0.999  # float16noise
    assert 1 - stats.binom.cdf(high, 5_120, 0.1) > 0.999 > low / 5_120  # otherrate


def test_what_is_surely_found_is_found_and_a_little_less_is_not() -> None:
    tables = float_tables(draws(lambda noise: noise), bits=24)
    sight = Sight.of(tables)
    cells, entries = SILOS * ROUNDS, STEPS * SIZE
    alarm = ALARM / cells / TENSORS

    assert finds_scale(sight.tensor, entries, alarm) >= 0.999 > finds_scale(sight.tensor + 0.001, entries, alarm)
    assert sight.entry < sight.tensor < 1
    assert sight.step < 1


def test_of_a_large_adapter_a_run_of_each_tensor_is_kept() -> None:
    schema = Schema(shapes={"small": (4, 4), "large": (1000, 1000)})
    places = Places.of(schema)
    whole = np.arange(schema.length, dtype=np.float64)

    assert len(places.cut(whole)["small"]) == 16
    assert len(places.flat) <= MOST_ENTRIES + 64
    assert np.concatenate(list(places.cut(whole).values())).tolist() == places.flat.tolist()
