import hashlib
import json
from dataclasses import fields, replace

import pytest

from fedcollm_privacy.event import PoissonGaussian
from fedcollm_privacy.plan import RecordPlan

PLAN = RecordPlan(
    epsilon=8.0,
    delta=1e-5,
    clip_norm=0.5,
    sampling_rate=0.1,
    noise_multiplier=1.0,
    steps_per_round=10,
    rounds=5,
    batch_size=16,
)


def test_privacy_parameters_have_no_defaults() -> None:
    with pytest.raises(TypeError, match="missing"):
        RecordPlan()  # type: ignore[call-arg]  # on purpose

    assert [field.name for field in fields(RecordPlan) if field.default is not field.default_factory] == ["unit"]


def test_calibrated_plan_meets_its_target() -> None:
    plan = RecordPlan.calibrated(
        epsilon=2.0, delta=1e-6, clip_norm=1.0, sampling_rate=0.05, steps_per_round=8, rounds=3, batch_size=8
    )

    assert 1.95 < plan.epsilon_after(3) <= 2.0


def test_plan_that_cannot_keep_its_promise_is_refused() -> None:
    with pytest.raises(ValueError, match=r"noise_multiplier 0\.5 gives epsilon"):
        replace(PLAN, noise_multiplier=0.5)


def test_round_is_charged_its_planned_steps() -> None:
    assert PLAN.round_event() == PoissonGaussian(sampling_rate=0.1, noise_multiplier=1.0, steps=10)


def test_epsilon_grows_with_the_rounds() -> None:
    costs = [PLAN.epsilon_after(rounds) for rounds in range(6)]

    assert costs[0] == 0
    assert costs == sorted(set(costs))


def test_json_has_no_floats_and_reads_back() -> None:
    tree = json.loads(json.dumps(PLAN.as_json()))

    assert all(isinstance(value, str | int) for value in tree.values())
    assert RecordPlan.from_json(tree) == PLAN


def test_digest_is_the_sha256_of_the_canonical_json() -> None:
    canonical = (
        '{"batch_size":16,"clip_norm":"0.5","delta":"1e-05","epsilon":"8.0","noise_multiplier":"1.0",'
        '"rounds":5,"sampling_rate":"0.1","steps_per_round":10,"unit":"record"}'
    )

    assert PLAN.digest() == hashlib.sha256(canonical.encode()).hexdigest()


@pytest.mark.parametrize(
    ("name", "value"),
    [("epsilon", 9.0), ("delta", 2e-5), ("clip_norm", 0.6), ("noise_multiplier", 1.1), ("batch_size", 17)],
)
def test_digest_covers_every_field(name: str, value: float) -> None:
    assert replace(PLAN, **{name: value}).digest() != PLAN.digest()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("epsilon", 0.0),
        ("epsilon", float("inf")),
        ("delta", 0.0),
        ("delta", 1.0),
        ("clip_norm", 0.0),
        ("clip_norm", float("nan")),
        ("sampling_rate", 0.0),
        ("sampling_rate", 1.1),
        ("noise_multiplier", -1.0),
        ("steps_per_round", 0),
        ("rounds", 2.0),
        ("batch_size", True),
        ("unit", "patient"),
    ],
)
def test_value_outside_its_range_is_refused_by_name(name: str, value: object) -> None:
    with pytest.raises(ValueError, match=name):
        replace(PLAN, **{name: value})


@pytest.mark.parametrize(
    ("change", "message"),
    [({"surplus": 1}, "exactly the keys"), ({"epsilon": 8}, "decimal string"), ({"rounds": "5"}, "integer")],
)
def test_malformed_json_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RecordPlan.from_json(PLAN.as_json() | change)
