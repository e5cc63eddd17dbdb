import math
import os

import numpy as np
import pytest
import torch

from fedcollm_privacy.sampling import poisson_sample


def words(*values: int) -> bytes:
    return b"".join(value.to_bytes(8, "little") for value in values)


def test_poisson_index_is_drawn_exactly_below_the_threshold() -> None:
    quarter = 2**62
    stream = words(quarter - 1, quarter, 0, 2**64 - 1)

    assert poisson_sample(4, 0.25, lambda _: stream) == [0, 2]


def test_poisson_asks_for_eight_bytes_per_record() -> None:
    asked: list[int] = []
    poisson_sample(13, 0.5, lambda count: asked.append(count) or os.urandom(count))

    assert asked == [13 * 8]


def test_poisson_rate_one_takes_everyone() -> None:
    assert poisson_sample(5, 1.0) == [0, 1, 2, 3, 4]


def test_poisson_empty_batch_is_a_regular_outcome() -> None:
    assert poisson_sample(3, 1e-300) == []
    assert poisson_sample(0, 0.5) == []


def test_poisson_batch_sizes_follow_the_binomial() -> None:
    population, rate, trials = 50, 0.1, 4000
    sizes = np.array([len(poisson_sample(population, rate)) for _ in range(trials)])
    deviation = math.sqrt(population * rate * (1 - rate))

    assert abs(sizes.mean() - population * rate) < 6 * deviation / math.sqrt(trials)
    assert abs(sizes.var() / deviation**2 - 1) < 6 * math.sqrt(2 / trials) * 1.5
    assert (sizes == 0).mean() == pytest.approx((1 - rate) ** population, abs=0.008)


def test_poisson_draws_are_independent_between_records() -> None:
    drawn = np.zeros((4000, 6))
    for row in drawn:
        row[poisson_sample(6, 0.3)] = 1
    correlations = np.corrcoef(drawn.T) - np.eye(6)

    assert np.abs(correlations).max() < 6 / math.sqrt(4000)


def test_poisson_csprng_ignores_every_global_seed() -> None:
    batches = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        batches.append(poisson_sample(400, 0.5))

    assert batches[0] != batches[1]


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.01, float("nan")])
def test_poisson_rate_outside_its_range_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="rate"):
        poisson_sample(3, rate)


def test_poisson_negative_population_is_refused() -> None:
    with pytest.raises(ValueError, match="population"):
        poisson_sample(-1, 0.5)
