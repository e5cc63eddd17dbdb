"""What noise leaves of the signal: counted a second way, told by `check`, and refused where nothing is left."""

from collections.abc import Callable

import numpy as np
import pytest

from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.assemble import prepare
from fedcollm_secure.assemble.signal import LEAST_OF_A_RUN, Signal, fewest_trained
from fedcollm_secure.config import parse
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.studies.check import check
from fedcollm_secure.studies.live import cells
from fedcollm_secure.studies.words import check_words

Make = Callable[..., dict[str, object]]


def _dp(epsilon: float, **changes: object) -> dict[str, object]:
    record = {"epsilon": epsilon, "delta": 1e-5, "clip_norm": 1.0, "sampling_rate": 0.2, **changes}
    return {"record_dp": record}


def test_the_ratio_is_what_simulated_steps_give() -> None:
    plan = RecordPlan(
        epsilon=100.0,
        delta=1e-5,
        clip_norm=0.5,
        sampling_rate=0.1,
        noise_multiplier=3.0,
        steps_per_round=4,
        rounds=2,
        batch_size=20,
    )
    steps, silos, dimension = 8, 3, 2000
    noise = np.random.default_rng(5).normal(0.0, 3.0 * 0.5, (steps * silos, dimension))
    direction = np.full(dimension, dimension**-0.5)
    step, run = 20 * 0.5 * direction, steps * silos * 20 * 0.5 * direction

    signal = Signal.of(plan, trained=dimension, silos=silos, records=200)

    assert signal.release == pytest.approx(np.linalg.norm(step) / np.linalg.norm(noise, axis=1).mean(), rel=0.02)
    assert signal.run == pytest.approx(np.linalg.norm(run) / np.linalg.norm(noise.sum(axis=0)), rel=0.05)


def test_the_main_job_is_far_from_the_limit_even_at_half_an_epsilon() -> None:
    plan = RecordPlan.calibrated(
        epsilon=0.5, delta=1e-5, clip_norm=1.0, sampling_rate=0.05, steps_per_round=10, rounds=4, batch_size=128
    )

    assert Signal.of(plan, trained=31_872, silos=4, records=3000).run > 30 * LEAST_OF_A_RUN


def test_a_public_normaliser_beyond_the_records_is_no_signal() -> None:
    plan = RecordPlan.calibrated(
        epsilon=0.01, delta=1e-5, clip_norm=1.0, sampling_rate=0.05, steps_per_round=10, rounds=4, batch_size=3200
    )

    assert Signal.of(plan, trained=31_872, silos=4, records=30).run < LEAST_OF_A_RUN


@pytest.mark.parametrize("noise", ["own", "joint"])
def test_an_epsilon_whose_noise_drowns_the_run_is_refused(private: Make, noise: str) -> None:
    silo = {"steps": 1, "batch_size": 8, "learning_rate": 0.01}
    tree = private(privacy=_dp(1e-4, noise=noise), aggregation={"masked": {}}, silo=silo)

    with pytest.raises(
        ConfigError, match=r"epsilon: the noise for epsilon 0\.0001 would drown the whole run"
    ) as caught:
        prepare(parse(tree))

    assert caught.value.exit_code == 2


@pytest.mark.parametrize("noise", ["own", "joint"])
def test_a_usual_epsilon_is_not_refused(private: Make, noise: str) -> None:
    silo = {"steps": 1, "batch_size": 8, "learning_rate": 0.01}
    signal = prepare(parse(private(privacy=_dp(0.5, noise=noise), aggregation={"masked": {}}, silo=silo))).signal

    assert signal is not None
    assert signal.run >= LEAST_OF_A_RUN


def test_who_states_the_noise_is_told_and_not_refused(private: Make) -> None:
    found = check(parse(private(privacy=_dp(1e-4, noise_multiplier=1e4), aggregation={"masked": {}})))
    row, words = found["plan"]["silo-1"], check_words(found)  # type: ignore[index]

    assert 0 < row["signal_to_noise"] < row["signal_to_noise_run"] < LEAST_OF_A_RUN
    assert 0 < row["epsilon_per_round"][0] < row["epsilon_total"] < 1e-3
    assert f"noise: signal to noise is at most {row['signal_to_noise']:.2g} in a silo's step" in words
    assert "0.00," not in words


def test_no_noise_has_no_ratio(tree: Make) -> None:
    config = parse(tree())

    assert prepare(config).signal is None
    assert "noise: signal" not in check_words(check(config))


@pytest.mark.parametrize(("factors", "share"), [("ffa", 1.0), ("fedavg", 1.0), ("fedsvd", 0.5), ("rolora", 0.5)])
def test_a_step_has_as_many_dimensions_as_it_trains(tree: Make, factors: str, share: float) -> None:
    prepared = prepare(parse(tree(factors=factors)))
    trained = fewest_trained(prepared.server_slm.schema, prepared.rule)

    assert trained == pytest.approx(share * prepared.parameters, rel=0.2)


@pytest.mark.parametrize(("spent", "text"), [(0.000_101, "0.00011 of 0.0002"), (0.5, "0.50 of 0.0002")])
def test_progress_shows_a_small_epsilon(spent: float, text: str) -> None:
    line = {"round": 1, "bytes": {"up": 1, "down": 1}, "seconds": {}, "silos": {"a": {"epsilon": spent}}}

    assert text in cells(line, 2, 0.0002)["ε spent"]
