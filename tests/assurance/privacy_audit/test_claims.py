"""The audit of the other claims: persons as units, one noise that silos share, whole silos as units.

How often an honest run fails here: canaries of persons need 209 of 238 right guesses at one of four points to refute
the claim, where 140 ± 8 are right (8 deviations); with joint noise 111 of 124. Repeated sums refute it with probability
below 10^-8 (summed over binomials). Checks of drawn figures fail once in a million audits.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import cast

import pytest

from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure import config
from fedcollm_secure.assemble import prepare
from fedcollm_secure.assurance.privacy_audit import audit, audit_words, exit_code
from fedcollm_secure.assurance.privacy_audit.audited_config import audited_config
from fedcollm_secure.assurance.privacy_audit.mechanism_check import Check
from fedcollm_secure.assurance.privacy_audit.repeated_sums import epsilon_from_rates
from fedcollm_secure.assurance.privacy_audit.sabotage import sabotaged
from fedcollm_secure.assurance.privacy_audit.shared_mechanism import joint_checks
from fedcollm_secure.assurance.privacy_audit.training_mechanism import mechanism_checks
from fedcollm_secure.errors import ConfigError

CLAIMED = 1.5
BOUND = 8
Make = Callable[..., dict[str, object]]
Document = Mapping[str, object]
# Enough coordinates for a thousand canaries: both B matrices together have 2048.
SIX = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj"]
WIDE = {"rank": 16, "alpha": 16, "targets": SIX}
DP = {"epsilon": 8.0, "delta": 1e-5, "clip_norm": 1.0, "sampling_rate": 0.2}


def audited(settings: config.Config, *sabotages: str) -> Document:
    return audit(settings, CLAIMED, sabotages, lambda _: None)


def broken(found: Document) -> set[str]:
    return {cast(str, each["check"]) for each in cast(Sequence[Document], found["checks"]) if not each["holds"]}


def failing(checks: Sequence[Check]) -> set[str]:
    return {each.name for each in checks if not each.holds}


def refuting(found: Document) -> set[str]:
    seen = cast(Sequence[Document], found["observations"])
    return {cast(str, each["point"]) for each in seen if cast(float, each["lower_bound"]) > CLAIMED}


@pytest.fixture
def persons(private: Make) -> config.Config:
    unit = {**DP, "unit": {"subject": "site"}, "silos_per_subject": 4, "records_per_subject": BOUND}
    step = {"steps": 4, "batch_size": 8, "learning_rate": 0.01}
    return config.parse(private(privacy={"record_dp": unit}, lora=WIDE, silo=step, rounds=3))


def test_the_claim_for_persons_holds(persons: config.Config) -> None:
    found = audited(persons)
    checks = {each["check"]: each for each in cast(Sequence[Document], found["checks"])}

    assert exit_code(found) == 0
    assert (found["unit"], found["noise"], broken(found), refuting(found)) == ("subject", "own", set(), set())
    assert checks["contribution"]["measured"] == BOUND
    assert "for a subject holds" in audit_words(found)


def test_clipping_by_record_is_caught_where_persons_are_the_unit(persons: config.Config) -> None:
    found = audited(persons, "recordunit")

    assert exit_code(found) == 1
    assert broken(found) >= {"sensitivity"}
    assert refuting(found) >= {"steps"}


def test_a_sabotage_of_records_is_caught_where_persons_are_the_unit(persons: config.Config) -> None:
    """The rest of each audit is the same run as for records."""
    prepared = prepare(audited_config(persons, CLAIMED))
    caught = {"noclip": "sensitivity", "hfloss": "sensitivity", "groupclip": "sensitivity", "edge": "crowd"}

    for sabotage, check in caught.items():
        with sabotaged([sabotage], silo="silo-4"):
            assert check in failing(mechanism_checks(prepared, "silo-1"))


def test_a_persons_records_count_once_however_often_they_are_there(persons: config.Config) -> None:
    with pytest.raises(ConfigError, match="got duplicates"):
        audited(persons, "duplicates")


@pytest.fixture
def joint(private: Make) -> config.Config:
    stated = {**DP, "clip_norm": 0.02, "noise": "joint"}
    step = {"steps": 1, "batch_size": 8, "learning_rate": 0.01}
    masked = {"masked": {"clip": 1.0, "bits": 32}}
    return config.parse(private(privacy={"record_dp": stated}, lora=WIDE, silo=step, rounds=3, aggregation=masked))


def test_the_claim_of_joint_noise_holds(joint: config.Config) -> None:
    found = audited(joint)

    assert exit_code(found) == 0
    assert (found["unit"], found["noise"], found["honest"], broken(found)) == ("record", "shared", 2, set())
    assert [each["point"] for each in cast(Sequence[Document], found["observations"])] == ["sum", "model"]
    assert "the silo's update      not looked at: masked" in audit_words(found)
    assert "all silos but 2 in league with the server" in audit_words(found)


@pytest.mark.parametrize(
    ("sabotage", "checks", "points"),
    [
        ("nonoise", {"share", "noise", "empty batches"}, {"sum"}),
        ("noclip", {"sensitivity"}, {"sum"}),
        ("skipempty", {"share", "empty batches"}, set[str]()),
        ("smallshare", {"share", "noise", "empty batches"}, set[str]()),
        ("redraw", {"second look"}, set[str]()),
        ("layernonoise", {"zeros", "noise of a tensor"}, set[str]()),
        ("halfnoise", {"zeros", "noise of a coordinate", "spread over coordinates"}, {"sum"}),
        ("optimizernonoise", {"zeros", "noise of a tensor"}, {"sum"}),
        ("laterounds", {"zeros", "noise of a tensor"}, set[str]()),
        ("othersilo", {"zeros", "noise of a tensor"}, set[str]()),
        ("groupclip", {"sensitivity"}, set[str]()),
        ("duplicates", {"record", "copies"}, set[str]()),
        ("seednoise", {"same noise twice", "repeats"}, set[str]()),
    ],
)
def test_a_sabotage_is_caught_where_noise_is_joint(
    joint: config.Config, sabotage: str, checks: set[str], points: set[str]
) -> None:
    found = audited(joint, sabotage)

    assert exit_code(found) == 1
    assert broken(found) >= checks  # a silo of 22 records may draw nobody by itself
    assert refuting(found) >= points


def test_a_loss_that_couples_records_is_caught_where_noise_is_joint(joint: config.Config) -> None:
    prepared = prepare(audited_config(joint, CLAIMED))
    assert isinstance(prepared.plan, SharedPlan)

    with sabotaged(["hfloss"], silo="silo-4"):
        assert failing(joint_checks(prepared, "silo-1", prepared.plan)) == {"sensitivity"}


@pytest.fixture
def silos(private: Make) -> config.Config:
    stated = {"silo_dp": {"epsilon": 8.0, "delta": 1e-5, "clip_norm": 0.05}}
    return config.parse(private(privacy=stated, lora=WIDE, rounds=3, aggregation={"masked": {"clip": 1.0, "bits": 32}}))


def test_the_claim_for_whole_silos_holds(silos: config.Config) -> None:
    found = audited(silos)

    assert exit_code(found) == 0
    assert (found["unit"], found["noise"], found["canaries"], broken(found)) == ("silo", "shared", 0, set())
    assert 0 < cast(float, found["lower_bound"]) <= CLAIMED < cast(float, found["largest_refutable"])
    assert "The same sums, drawn many times, all silos but 2 in league" in audit_words(found)


@pytest.mark.parametrize(
    ("sabotage", "checks", "points"),
    [
        ("nonoise", {"share", "noise"}, {"sum"}),
        ("noclip", {"sensitivity"}, {"sum"}),
        ("smallshare", {"share", "noise"}, {"sum"}),
        ("redraw", {"second look"}, set[str]()),
        ("layernonoise", {"zeros", "noise of a tensor"}, set[str]()),
        ("halfnoise", {"zeros", "noise of a coordinate"}, set[str]()),
        ("optimizernonoise", {"zeros", "noise of a tensor"}, {"sum"}),
        ("laterounds", {"zeros", "noise of a tensor"}, set[str]()),
        ("othersilo", {"zeros", "noise of a tensor"}, set[str]()),
    ],
)
def test_a_sabotage_is_caught_where_whole_silos_are_the_unit(
    silos: config.Config, sabotage: str, checks: set[str], points: set[str]
) -> None:
    found = audited(silos, sabotage)

    assert exit_code(found) == 1
    assert broken(found) >= checks
    assert refuting(found) >= points


@pytest.mark.parametrize("sabotage", ["hfloss", "skipempty", "recordunit", "groupclip", "duplicates", "extrastep"])
def test_a_sabotage_that_breaks_nothing_of_a_silos_claim_is_refused(silos: config.Config, sabotage: str) -> None:
    with pytest.raises(ConfigError, match=f"expected some of noclip, redraw, layernonoise, .*, got {sabotage}"):
        audited(silos, sabotage)


def test_rates_prove_what_clopper_and_pearson_allow() -> None:
    """With 0 errors of n the upper end is 1 − (α/2)^(1/n), with n hits the lower end (α/2)^(1/n)."""
    edge = 0.025 ** (1 / 1000)

    assert epsilon_from_rates(1000, 0, 1000, delta=0.01, confidence=0.95) == pytest.approx(
        math.log((edge - 0.01) / (1 - edge))
    )
    assert epsilon_from_rates(500, 500, 1000, delta=0.01, confidence=0.95) == 0
    assert epsilon_from_rates(0, 0, 1000, delta=0.01, confidence=0.95) == 0
    assert epsilon_from_rates(1000, 1000, 1000, delta=0.01, confidence=0.95) == 0
