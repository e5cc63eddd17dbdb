"""The audit's own parts: chosen batches, the sampler's counts, canaries as rows of a file, and what a check holds."""

import itertools
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedcollm_privacy import dpsgd, sampling
from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure import config
from fedcollm_secure.assemble import Prepared, prepare
from fedcollm_secure.assurance.privacy_audit.audited_config import audited_config
from fedcollm_secure.assurance.privacy_audit.mechanism_check import Check
from fedcollm_secure.assurance.privacy_audit.one_run_audit import Canaries
from fedcollm_secure.assurance.privacy_audit.optimiser_watch import Watch
from fedcollm_secure.assurance.privacy_audit.planted_run import PlantedRun
from fedcollm_secure.assurance.privacy_audit.tensor_places import Places
from fedcollm_secure.assurance.privacy_audit.training_mechanism import sampling_checks
from fedcollm_secure.assurance.privacy_audit.watched_learners import ChosenBatches, directions_of

CLAIMED = 1.5
Make = Callable[..., dict[str, object]]
# Enough coordinates for a thousand canaries: both B matrices together have 2048.
SIX = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj"]
WIDE = {"rank": 16, "alpha": 16, "targets": SIX}
ROUND = {"steps": 4, "batch_size": 8, "learning_rate": 0.01}
SAMPLED = RecordPlan(
    epsilon=1e9,
    delta=1e-5,
    clip_norm=1.0,
    sampling_rate=0.05,
    noise_multiplier=1.0,
    steps_per_round=1,
    rounds=1,
    batch_size=4,
)


@pytest.fixture
def settings(private: Make) -> config.Config:
    return config.parse(private(lora=WIDE, silo=ROUND, rounds=3, aggregation={"masked": {}}))


@pytest.fixture
def prepared(settings: config.Config) -> Prepared:
    return prepare(audited_config(settings, CLAIMED))


def test_chosen_batches_are_drawn_and_the_noise_is_the_systems() -> None:
    random = ChosenBatches(5, [[1, 4], []])

    assert sampling.poisson_sample(5, 0.3, random) == [1, 4]
    assert random(64) != random(64)
    assert sampling.poisson_sample(5, 0.3, random) == []


def always_the_first(population: int, rate: float, random: Callable[[int], bytes]) -> list[int]:
    return list(range(len(sampling.poisson_sample(population, rate, random))))


def everybody_in_turn() -> Callable[..., list[int]]:
    turn = itertools.count()

    def sample(population: int, rate: float, random: Callable[[int], bytes]) -> list[int]:
        count = len(sampling.poisson_sample(population, rate, random))
        return sorted({next(turn) % population for _ in range(count)})

    return sample


@pytest.mark.parametrize("way", [always_the_first, everybody_in_turn()])
def test_batches_of_the_right_sizes_but_of_the_wrong_ones_are_caught(
    monkeypatch: pytest.MonkeyPatch, way: Callable[..., list[int]]
) -> None:
    assert [each.name for each in sampling_checks(SAMPLED) if not each.holds] == []
    monkeypatch.setattr(dpsgd, "poisson_sample", way)

    assert [each.name for each in sampling_checks(SAMPLED) if not each.holds] == ["draws of each"]


@pytest.mark.parametrize("rate", [1e-5, 1e-3, 0.2, 1.0])
def test_honest_sampling_holds_at_any_rate(rate: float) -> None:
    for _ in range(2):
        assert all(each.holds for each in sampling_checks(replace(SAMPLED, sampling_rate=rate)))


def test_a_canarys_gradient_is_its_coordinate(settings: config.Config) -> None:
    adapter = prepare(audited_config(settings, CLAIMED)).silo_slm
    adapter.write(np.arange(adapter.schema.length, dtype=np.float32))
    values = directions_of(adapter, [3, None, 1500])
    gradients = torch.autograd.grad(values[2], adapter.parameters, allow_unused=True)
    flat = torch.cat(
        [
            torch.zeros(p.numel()) if g is None else g.flatten()
            for g, p in zip(gradients, adapter.parameters, strict=True)
        ]
    )

    assert values.tolist() == [3.0, 0.0, 1500.0]
    assert flat.nonzero().flatten().tolist() == [1500]
    assert flat[1500] == 1


def test_half_of_the_canaries_are_records_of_one_silo(prepared: Prepared) -> None:
    canaries = Canaries.draw(prepared, Places.of(prepared.server_slm.schema), 3)
    planted = PlantedRun.of(prepared, "silo-2", canaries, Watch())
    kept = len(prepared.holdings.silos["silo-2"])

    assert len(canaries.included) == 1024
    assert 400 < sum(canaries.included) < 624
    assert len(planted.learner("silo-2").records) == kept + sum(canaries.included)
    assert sorted(planted.known.values()) == canaries.present
    assert set(planted.known) <= set(planted.learner("silo-2").records)  # as tokens of a text that was read from a file
    assert not set(planted.known) & set(planted.learner("silo-1").records)


def test_a_coordinate_of_a_frozen_factor_has_no_gradient(private: Make) -> None:
    given = config.parse(private(lora={**WIDE, "rank": 2}, silo=ROUND, factors="rolora"))
    adapter = prepare(audited_config(given, CLAIMED)).silo_slm
    adapter.choose("B")
    frozen, trained = (
        next(start for name, start in Places.of(adapter.schema).starts.items() if kind in name)
        for kind in (".lora_A.", ".lora_B.")
    )
    gradients = [
        torch.autograd.grad(
            directions_of(adapter, [where]).sum() + 0 * adapter.parameters[0].sum(),
            adapter.parameters,
            allow_unused=True,
        )
        for where in (frozen, trained)
    ]
    lengths = [sum(float(part.abs().sum()) for part in parts if part is not None) for parts in gradients]

    assert lengths == [0, 1]


def test_a_check_holds_within_its_range_alone() -> None:
    def check(measured: float) -> bool:
        return Check(name="noise", measured=measured, low=0.9, high=1.1, told="").holds

    assert [check(value) for value in (0.89, 0.9, 1.1, 1.11, float("nan"))] == [False, True, True, False, False]
