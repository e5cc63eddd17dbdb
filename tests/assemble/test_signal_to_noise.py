"""What noise leaves of the signal: counted a second way, told by `check`, and refused where nothing is left."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.assemble import prepare
from fedcollm_secure.assemble.signal_to_noise import LEAST_OF_A_RUN, Signal, fewest_trained
from fedcollm_secure.config import parse
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.operations.check_command import check
from fedcollm_secure.operations.check_summary import check_words
from fedcollm_secure.operations.live_progress import cells
from tests.conftest import rows, write_jsonl

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

    signal = Signal.of(plan, trained=dimension, silos=silos)

    assert signal.release == pytest.approx(np.linalg.norm(step) / np.linalg.norm(noise, axis=1).mean(), rel=0.02)
    assert signal.run == pytest.approx(np.linalg.norm(run) / np.linalg.norm(noise.sum(axis=0)), rel=0.05)


def test_the_main_job_is_far_from_the_limit_even_at_half_an_epsilon() -> None:
    plan = RecordPlan.calibrated(
        epsilon=0.5, delta=1e-5, clip_norm=1.0, sampling_rate=0.05, steps_per_round=10, rounds=4, batch_size=128
    )

    assert Signal.of(plan, trained=31_872, silos=4).run > 30 * LEAST_OF_A_RUN


def test_what_is_printed_and_kept_does_not_tell_how_many_records_a_silo_holds(private: Make, tmp_path: Path) -> None:
    """One record less in one silo changes no word of `check` outside `data`, which is for whoever holds the records.

    Figures that all can read come from the plan alone.
    """
    sizes = (40, 39)
    found = []
    for size in sizes:
        paths = {name: str(write_jsonl(tmp_path / f"{name}{size}.jsonl", rows(count))) for name, count in _held(size)}
        found.append(check(parse(private(data={**_data(private), "silos": {"files": paths}}))))

    one, other = ({key: value for key, value in each.items() if key != "data"} for each in found)
    assert one == other
    assert found[0]["data"] != found[1]["data"]


def _held(size: int) -> list[tuple[str, int]]:
    return [("north", size), ("south", 30), ("west", 20)]


def _data(private: Make) -> dict[str, object]:
    return {name: part for name, part in private()["data"].items() if name != "silos"}  # type: ignore[attr-defined]


@pytest.mark.parametrize(("delta", "persons"), [(0.05, False), (0.3, True)])
def test_a_delta_at_which_a_record_could_be_published_is_refused(private: Make, delta: float, persons: bool) -> None:
    unit = {"unit": {"subject": "text"}, "silos_per_subject": 4} if persons else {}

    with pytest.raises(ConfigError, match=r"record_dp\.delta: expected less than 1 in the number of units") as caught:
        prepare(parse(private(privacy=_dp(8.0, delta=delta, **unit))))

    assert caught.value.exit_code == 2
    assert not re.search(r"\b2[0-9]\b", str(caught.value))  # 22 or 23 records are in each silo, and nobody says so


def test_a_delta_below_one_in_the_records_is_accepted(private: Make) -> None:
    assert prepare(parse(private(privacy=_dp(8.0, delta=0.03)))).plan is not None


def test_a_delta_of_one_in_the_silos_is_refused_where_silos_are_the_unit(private: Make) -> None:
    silos = {"silo_dp": {"epsilon": 8.0, "delta": 0.25, "clip_norm": 0.5}}

    with pytest.raises(ConfigError, match=r"silo_dp\.delta: expected less than 1"):
        prepare(parse(private(privacy=silos, aggregation={"masked": {"clip": 1.0, "bits": 32}})))


def test_very_many_rounds_are_told_in_a_hundred_figures(private: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedcollm_secure.operations.check_command.MOST_FIGURES", 3)
    found = check(parse(private(rounds=7)))
    row = found["plan"]["silo-1"]  # type: ignore[index]

    assert len(row["epsilon_per_round"]) == 3
    assert row["epsilon_per_round"][-1] == row["epsilon_total"]


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
