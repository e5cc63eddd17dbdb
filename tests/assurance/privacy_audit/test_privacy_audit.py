"""The audit: an honest configuration stays under its claim, and each sabotage is caught by the part that can see it."""

import ast
import itertools
import json
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
import yaml

from fedcollm_privacy import dpsgd, noise, per_record, sampling
from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure import cli, config
from fedcollm_secure.assemble import Prepared, prepare
from fedcollm_secure.assurance.privacy_audit import SABOTAGES, audit, audit_words, exit_code
from fedcollm_secure.assurance.privacy_audit.audited_config import audited_config
from fedcollm_secure.assurance.privacy_audit.false_alarms import FALSE_ALARM
from fedcollm_secure.assurance.privacy_audit.one_run_audit import Canaries
from fedcollm_secure.assurance.privacy_audit.sabotage import sabotaged
from fedcollm_secure.assurance.privacy_audit.tensor_places import Places
from fedcollm_secure.assurance.privacy_audit.training_mechanism import mechanism_checks
from fedcollm_secure.assurance.privacy_audit.watched_run import watched_run
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning import losses, training
from fedcollm_secure.learning.data import held_out, holdings
from fedcollm_secure.learning.training import Learner

ROOT = Path(__file__).parents[3]
CLAIMED = 1.5
Make = Callable[..., dict[str, object]]
Document = Mapping[str, object]
# Enough coordinates for a thousand canaries: both B matrices together have 2048.
SIX = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj"]
WIDE = {"rank": 16, "alpha": 16, "targets": SIX}
ROUND = {"steps": 4, "batch_size": 8, "learning_rate": 0.01, "schedule": "cosine"}
NONE_AT_ALL = {"zeros", "noise of a tensor", "noise of a step"}


@pytest.fixture
def settings(private: Make) -> config.Config:
    return config.parse(private(lora=WIDE, silo=ROUND, rounds=3, aggregation={"masked": {}}))


def audited(settings: config.Config, *sabotages: str) -> Document:
    return audit(settings, CLAIMED, sabotages, lambda _: None)


def broken(found: Document) -> set[str]:
    return {cast(str, each["check"]) for each in cast(Sequence[Document], found["checks"]) if not each["holds"]}


def refuting(found: Document) -> set[str]:
    seen = cast(Sequence[Document], found["observations"])
    return {cast(str, each["point"]) for each in seen if cast(float, each["lower_bound"]) > CLAIMED}


def test_an_honest_configuration_stays_under_its_claim(private: Make, tmp_path: Path, capsys) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(private(lora=WIDE, silo=ROUND, rounds=3, aggregation={"masked": {}})))
    code = cli.main(["audit", str(path), "--claimed", str(CLAIMED), "--json"])
    found = json.loads(capsys.readouterr().out)

    assert code == 0
    assert (found["claimed"], found["confidence"], found["holds"], found["sabotage"]) == (CLAIMED, 0.95, True, None)
    assert found["lower_bound"] <= CLAIMED < found["largest_refutable"]
    assert [each["point"] for each in found["observations"]] == ["steps", "update", "sum", "model"]
    assert broken(found) == set()
    assert found["rounds"] == {"looked_at": [1, 2, 3], "planned": 3}
    assert 0 < found["false_alarm"] <= FALSE_ALARM


@pytest.mark.parametrize(
    ("sabotage", "checks", "points"),
    [
        ("nonoise", NONE_AT_ALL, {"steps", "update", "sum"}),
        ("noclip", {"sensitivity", "record"}, {"steps"}),
        ("hfloss", {"sensitivity"}, set[str]()),
        ("skipempty", NONE_AT_ALL, set[str]()),
        (
            "layernonoise",
            {"zeros", "noise of a tensor"},
            set[str](),
        ),  # one matrix of six: a step's noise hardly shrinks
        ("halfnoise", {"zeros", "noise of a coordinate", "spread over coordinates", "shape"}, {"steps"}),
        ("optimizernonoise", NONE_AT_ALL, {"steps"}),
        ("laterounds", NONE_AT_ALL, set[str]()),
        ("othersilo", NONE_AT_ALL, set[str]()),
        ("groupclip", {"sensitivity"}, set[str]()),
        ("duplicates", {"record", "copies"}, set[str]()),
    ],
)
def test_a_sabotage_is_caught_by_the_part_that_can_see_it(
    settings: config.Config, sabotage: str, checks: set[str], points: set[str]
) -> None:
    found = audited(settings, sabotage)

    assert exit_code(found) == 1
    assert found["sabotage"] == sabotage
    assert broken(found) >= checks
    assert refuting(found) >= points  # what lies behind an optimiser, other silos or the server's work shows less
    assert "DOES NOT HOLD" in audit_words(found)


@pytest.fixture
def prepared(settings: config.Config) -> Prepared:
    return prepare(audited_config(settings, CLAIMED))


def watched(prepared: Prepared, sabotage: str) -> set[str]:
    """Return what a watched run alone finds."""
    plan = prepared.plan
    assert isinstance(plan, RecordPlan)
    places = Places.of(prepared.server_slm.schema)
    with sabotaged([sabotage], silo="silo-4"):
        run = watched_run(prepared, "silo-1", plan, Canaries.draw(prepared, places, 3), places)
        return {each.name for each in run.checks() if not each.holds}


@pytest.mark.parametrize(
    ("sabotage", "checks"),
    [
        ("samenoise", {"same noise twice", "repeats"}),
        ("pairnoise", {"same noise twice", "steps in a row"}),
        ("averagenoise", {"noise of a step"}),
        ("centrednoise", {"sum of a tensor"}),
        ("cutnoise", {"shape", "tails"}),
        ("float16noise", {"grain"}),
        ("seednoise", {"same noise twice", "repeats"}),
        ("lastempty", {"zeros"}),
        ("otherrate", {"sampling of a silo"}),
        ("samebatches", {"sampling by round"}),
        ("extrastep", {"steps of a round"}),
        ("sidestep", {"post-processing"}),
    ],
)
def test_a_sabotage_of_our_own_attack_is_caught_in_a_watched_run(
    prepared: Prepared, sabotage: str, checks: set[str]
) -> None:
    assert watched(prepared, sabotage) >= checks


@pytest.mark.parametrize(("sabotage", "check"), [("layerclip", "sensitivity"), ("edge", "crowd")])
def test_a_sabotage_of_clipping_is_caught_by_its_neighbours(prepared: Prepared, sabotage: str, check: str) -> None:
    with sabotaged([sabotage], silo="silo-4"):
        found = {each.name for each in mechanism_checks(prepared, "silo-1") if not each.holds}

    assert found == {check}


def test_what_no_test_can_see_is_not_seen(prepared: Prepared, monkeypatch: pytest.MonkeyPatch) -> None:
    """Noise whose seed can be guessed, less one direction that nobody looks along: it passes, as the pages say."""
    seeds, direction = itertools.count(12345), np.random.default_rng(1).normal(size=prepared.parameters)
    direction /= np.linalg.norm(direction)

    def guessable(shape: Sequence[int], std: float, _random: object) -> torch.Tensor:
        drawn = np.random.default_rng(next(seeds)).normal(0.0, std, tuple(shape))
        return torch.from_numpy(drawn - direction * (drawn @ direction))

    monkeypatch.setattr(dpsgd, "gaussian", guessable)

    assert watched(prepared, "nothing") == set()


def test_training_that_only_noise_would_move_is_said_to_stop(private: Make) -> None:
    round_of_one = {**ROUND, "steps": 1, "optimizer": "sgd"}
    given = config.parse(private(lora=WIDE, silo=round_of_one, rounds=3, aggregation={"masked": {}}))
    found = audited(given, "othersilo")

    assert exit_code(found) == 1
    assert broken(found) == {"training"}
    assert "no weight moved" in audit_words(found)


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


def test_a_sabotage_of_adamw_or_of_later_rounds_needs_them(private: Make) -> None:
    given = config.parse(private(lora=WIDE, silo={**ROUND, "optimizer": "sgd"}, rounds=2))

    for sabotage in ("optimizernonoise", "laterounds"):
        with pytest.raises(ConfigError, match=f"got {sabotage}"):
            audited(given, sabotage)


def test_the_audit_trains_as_the_file_says(settings: config.Config) -> None:
    given = audited_config(settings, CLAIMED)

    assert given.silo == settings.silo
    assert (given.rounds, given.lora, given.factors) == (settings.rounds, settings.lora, settings.factors)


def test_a_sabotage_ends_with_its_block() -> None:
    with sabotaged(SABOTAGES, silo="silo-2"):
        assert dpsgd.gaussian is not noise.gaussian
        assert not dpsgd.gaussian((3,), 1.0, lambda size: b"\1" * size).any(), (
            "no noise at all, whatever else is broken"
        )
    assert dpsgd.gaussian is noise.gaussian
    assert dpsgd.poisson_sample is sampling.poisson_sample
    assert dpsgd.clipped_sum is per_record.clipped_sum
    assert dpsgd.couples_records is per_record.couples_records
    assert training.cross_entropy is losses.cross_entropy
    assert holdings.set_apart is held_out.set_apart
    assert Learner.update.__module__ == "fedcollm_secure.learning.training"


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
        "rounds": {"looked_at": [1], "planned": 1},
        "surely_found_below": None,
        "false_alarm": 1e-7,
        "checks": [],
        "observations": [],
    }

    assert "can refute no claim from 4.20 up" in audit_words(found)
    assert "can refute" not in audit_words({**found, "claimed": 2.0})
    assert "No test can see: a seed that somebody can guess, of the noise or of the sampler" in audit_words(found)


def _imports(path: Path) -> set[str]:
    nodes = [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ImportFrom)]
    return {f"{node.module}.{name.name}" for node in nodes for name in node.names}


def test_nothing_but_the_command_line_reaches_a_sabotage() -> None:
    package = "fedcollm_secure.assurance.privacy_audit"
    outside = [path for path in (ROOT / "fedcollm_secure").rglob("*.py") if "privacy_audit" not in path.parts]
    reaching = [path.name for path in outside if any(name.startswith(package) for name in _imports(path))]
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (contract,) = [each for each in contracts if each.get("forbidden_modules") == [package]]

    assert reaching == ["commands.py"]
    assert {"fedcollm_privacy", "fedcollm_secure.assemble", "fedcollm_secure.operations"} <= set(
        contract["source_modules"]
    )
