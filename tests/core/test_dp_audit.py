"""The audit: an honest configuration stays under its claim, and each sabotage is caught by the part that can see it."""

import ast
import itertools
import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
import yaml

from fedcollm_privacy import dpsgd, noise, per_record, sampling
from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure import cli, config
from fedcollm_secure.assemble import prepare
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning import losses, training
from fedcollm_secure.studies.audit import SABOTAGES, audit, audit_words, exit_code
from fedcollm_secure.studies.audit.canaries import Canaries
from fedcollm_secure.studies.audit.check import Check
from fedcollm_secure.studies.audit.mechanism import ChosenBatches, sampling_checks
from fedcollm_secure.studies.audit.plan import audited_config
from fedcollm_secure.studies.audit.planted import Planted, _directions
from fedcollm_secure.studies.audit.sabotage import sabotaged

ROOT = Path(__file__).parents[2]
CLAIMED = 1.5
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
Make = Callable[..., dict[str, object]]
Document = Mapping[str, object]
# Enough coordinates for a thousand canaries: both B matrices together have 2048.
WIDE = {"rank": 64, "alpha": 64, "targets": ["q_proj", "v_proj"]}
ROUND = {"steps": 5, "batch_size": 8, "learning_rate": 0.01}


@pytest.fixture
def settings(private: Make) -> config.Config:
    return config.parse(private(lora=WIDE, silo=ROUND, aggregation={"masked": {}}))


def audited(settings: config.Config, *sabotages: str) -> Document:
    return audit(settings, CLAIMED, sabotages, lambda _: None)


def broken(found: Document) -> set[str]:
    return {cast(str, each["check"]) for each in cast(Sequence[Document], found["checks"]) if not each["holds"]}


def refuting(found: Document) -> set[str]:
    seen = cast(Sequence[Document], found["observations"])
    return {cast(str, each["point"]) for each in seen if cast(float, each["lower_bound"]) > CLAIMED}


def test_an_honest_configuration_stays_under_its_claim(private: Make, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(private(lora=WIDE, silo=ROUND, aggregation={"masked": {}})))
    code = cli.main(["audit", str(path), "--claimed", str(CLAIMED), "--json"])
    found = json.loads(capsys.readouterr().out)

    assert code == 0
    assert (found["claimed"], found["confidence"], found["holds"], found["sabotage"]) == (CLAIMED, 0.95, True, None)
    assert found["lower_bound"] <= CLAIMED < found["largest_refutable"]
    assert [each["point"] for each in found["observations"]] == ["update", "sum", "model"]
    assert broken(found) == set()


@pytest.mark.parametrize(
    ("sabotage", "checks", "points"),
    [
        ("nonoise", {"noise", "empty batches"}, {"update", "sum"}),
        ("noclip", {"sensitivity"}, {"update"}),
        ("hfloss", {"sensitivity"}, set[str]()),
        ("skipempty", {"empty batches"}, set[str]()),
    ],
)
def test_a_sabotage_is_caught_by_the_part_that_can_see_it(
    settings: config.Config, sabotage: str, checks: set[str], points: set[str]
) -> None:
    found = audited(settings, sabotage)

    assert exit_code(found) == 1
    assert found["sabotage"] == sabotage
    assert broken(found) == checks
    assert refuting(found) >= points  # what lies behind other silos' noise, or the server's work, shows less
    assert bool(refuting(found)) == bool(points)
    assert "DOES NOT HOLD" in audit_words(found)


def test_sigma_follows_the_claim_whatever_the_file_says(private: Make) -> None:
    stated = {"epsilon": 8.0, "delta": 1e-5, "clip_norm": 1.0, "sampling_rate": 0.2, "noise_multiplier": 0.05}
    given = config.parse(private(privacy={"record_dp": stated}))
    plan = prepare(audited_config(given, CLAIMED)).plan

    assert plan is not None
    assert plan.epsilon_after(plan.rounds) <= plan.epsilon == CLAIMED
    assert plan.noise_multiplier > 0.5


def test_without_differential_privacy_there_is_nothing_to_audit(tree: Make) -> None:
    with pytest.raises(ConfigError, match="no claim to audit"):
        audited_config(config.parse(tree()), CLAIMED)


def test_a_claim_is_a_positive_number(settings: config.Config) -> None:
    with pytest.raises(ConfigError, match="expected a positive number, got 0"):
        audited_config(settings, 0)


@pytest.mark.parametrize("sabotage", ["nofun", "recordunit"])
def test_a_sabotage_that_is_unknown_or_breaks_nothing_here_is_refused(settings: config.Config, sabotage: str) -> None:
    with pytest.raises(ConfigError, match=rf"expected some of .*nonoise.*, got {sabotage}"):
        audited(settings, "nonoise", sabotage)


def test_a_sabotage_ends_with_its_block() -> None:
    with sabotaged(SABOTAGES):
        assert dpsgd.gaussian is not noise.gaussian
        assert not dpsgd.gaussian((3,), 1.0, lambda size: b"\1" * size).any(), (
            "no noise at all, whatever else is broken"
        )
    assert dpsgd.gaussian is noise.gaussian
    assert dpsgd.poisson_sample is sampling.poisson_sample
    assert dpsgd.clipped_sum is per_record.clipped_sum
    assert dpsgd.couples_records is per_record.couples_records
    assert training.cross_entropy is losses.cross_entropy


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
    values = _directions(adapter, [3, None, 1500])
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


def test_half_of_the_canaries_are_records_of_one_silo(settings: config.Config) -> None:
    prepared = prepare(audited_config(settings, CLAIMED))
    canaries = Canaries.draw(prepared)
    planted = Planted.of(prepared, "silo-2", canaries)
    own = len(planted.holdings.silos["silo-2"])

    assert len(canaries.included) == 1024
    assert 400 < sum(canaries.included) < 624
    assert len(planted.learner("silo-2").records) == own + sum(canaries.included)
    assert len(planted.learner("silo-1").records) == len(planted.holdings.silos["silo-1"])


def test_a_check_holds_within_its_range_alone() -> None:
    def check(measured: float) -> bool:
        return Check(name="noise", measured=measured, low=0.9, high=1.1, told="").holds

    assert [check(value) for value in (0.89, 0.9, 1.1, 1.11, float("nan"))] == [False, True, True, False, False]


def test_a_claim_that_canaries_cannot_refute_is_said_to_be_one() -> None:
    found: Document = {
        "claimed": 8.0,
        "lower_bound": 0.2,
        "holds": True,
        "sabotage": None,
        "largest_refutable": 4.2,
        "delta": 1e-5,
        "noise_multiplier": 1.0,
        "canaries": 1000,
        "unit": "record",
        "noise": "own",
        "honest": None,
        "not_observed": {},
        "checks": [],
        "observations": [],
    }

    assert "can refute no claim from 4.20 up" in audit_words(found)
    assert "can refute" not in audit_words({**found, "claimed": 2.0})


def _imports(path: Path) -> set[str]:
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    return {f"{node.module}.{name.name}" for node in nodes for name in node.names}


def test_nothing_but_the_command_line_reaches_a_sabotage() -> None:
    package = "fedcollm_secure.studies.audit"
    outside = [path for path in (ROOT / "fedcollm_secure").rglob("*.py") if "studies/audit" not in str(path)]
    reaching = [path.name for path in outside if any(name.startswith(package) for name in _imports(path))]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = [each for each in contracts if each.get("forbidden_modules") == [package]]

    assert reaching == ["commands.py"]
    assert {"fedcollm_privacy", "fedcollm_secure.assemble", "fedcollm_secure.studies.run"} <= set(
        contract["source_modules"]
    )
