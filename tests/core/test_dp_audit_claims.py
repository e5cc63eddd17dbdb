"""The audit of the other claims: persons as units, one noise that silos share."""

from collections.abc import Callable, Mapping, Sequence
from typing import cast

import pytest

from fedcollm_secure import config
from fedcollm_secure.studies.audit import audit, audit_words, exit_code

CLAIMED = 1.5
BOUND = 8
Make = Callable[..., dict[str, object]]
Document = Mapping[str, object]
# Enough coordinates for a thousand canaries: both B matrices together have 2048.
WIDE = {"rank": 64, "alpha": 64, "targets": ["q_proj", "v_proj"]}
DP = {"epsilon": 8.0, "delta": 1e-5, "clip_norm": 1.0, "sampling_rate": 0.2}


def audited(settings: config.Config, *sabotages: str) -> Document:
    return audit(settings, CLAIMED, sabotages, lambda _: None)


def broken(found: Document) -> set[str]:
    return {cast(str, each["check"]) for each in cast(Sequence[Document], found["checks"]) if not each["holds"]}


def refuting(found: Document) -> set[str]:
    seen = cast(Sequence[Document], found["observations"])
    return {cast(str, each["point"]) for each in seen if cast(float, each["lower_bound"]) > CLAIMED}


@pytest.fixture
def persons(private: Make) -> config.Config:
    unit = {**DP, "unit": {"subject": "site"}, "silos_per_subject": 4, "records_per_subject": BOUND}
    step = {"steps": 5, "batch_size": 8, "learning_rate": 0.01}
    return config.parse(private(privacy={"record_dp": unit}, lora=WIDE, silo=step))


def test_the_claim_for_persons_holds(persons: config.Config) -> None:
    found = audited(persons)
    checks = {each["check"]: each for each in cast(Sequence[Document], found["checks"])}

    assert exit_code(found) == 0
    assert (found["unit"], found["noise"], broken(found), refuting(found)) == ("subject", "own", set(), set())
    assert checks["contribution"]["measured"] == BOUND
    assert "for a subject holds" in audit_words(found)


@pytest.mark.parametrize(
    ("sabotage", "checks", "points"),
    [
        ("nonoise", {"noise", "empty batches"}, {"update"}),
        ("noclip", {"sensitivity"}, {"update"}),
        ("recordunit", {"sensitivity"}, {"update"}),
        ("hfloss", {"sensitivity"}, set[str]()),
        ("skipempty", {"empty batches"}, set[str]()),
    ],
)
def test_a_sabotage_is_caught_where_persons_are_the_unit(
    persons: config.Config, sabotage: str, checks: set[str], points: set[str]
) -> None:
    found = audited(persons, sabotage)

    assert exit_code(found) == 1
    assert broken(found) == checks
    assert refuting(found) >= points


@pytest.fixture
def joint(private: Make) -> config.Config:
    stated = {**DP, "clip_norm": 0.02, "noise": "joint"}
    step = {"steps": 1, "batch_size": 8, "learning_rate": 0.01}
    masked = {"masked": {"clip": 1.0, "bits": 32}}
    return config.parse(private(privacy={"record_dp": stated}, lora=WIDE, silo=step, aggregation=masked))


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
        ("hfloss", {"sensitivity"}, set[str]()),
        ("skipempty", {"share", "empty batches"}, set[str]()),
        ("smallshare", {"share", "noise", "empty batches"}, set[str]()),
        ("redraw", {"second look"}, set[str]()),
    ],
)
def test_a_sabotage_is_caught_where_noise_is_joint(
    joint: config.Config, sabotage: str, checks: set[str], points: set[str]
) -> None:
    found = audited(joint, sabotage)

    assert exit_code(found) == 1
    assert broken(found) >= checks  # a silo of 22 records may draw nobody by itself
    assert refuting(found) >= points
