import json

import pytest

from fedcollm_privacy.event import (
    Composed,
    Event,
    Gaussian,
    NonPrivate,
    NoOp,
    PoissonGaussian,
    Repeated,
    from_json,
    to_json,
)

STEP = PoissonGaussian(sampling_rate=0.1, noise_multiplier=1.1, steps=7)
EVERY_EVENT: list[Event] = [
    NoOp(),
    NonPrivate(),
    Gaussian(noise_multiplier=2.5),
    STEP,
    Composed(events=(STEP, NoOp())),
    Repeated(event=Composed(events=(STEP, Repeated(event=NonPrivate(), count=0))), count=3),
]


@pytest.mark.parametrize("event", EVERY_EVENT, ids=lambda event: type(event).__name__)
def test_event_survives_json(event: Event) -> None:
    text = json.dumps(to_json(event))

    assert from_json(json.loads(text)) == event


def test_json_holds_no_floats() -> None:
    def refuse(text: str) -> float:
        raise AssertionError(text)

    for event in EVERY_EVENT:
        json.loads(json.dumps(to_json(event)), parse_float=refuse)


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        ("no_op", "JSON object"),
        ({}, "JSON object"),
        ({"event": "laplace"}, "no event 'laplace'"),
        ({"event": "no_op", "surplus": 1}, "exactly the keys"),
        ({"event": "gaussian"}, "exactly the keys"),
        ({"event": "gaussian", "noise_multiplier": 1}, "decimal string"),
        ({"event": "gaussian", "noise_multiplier": "1"}, r"decimal string 1\.0"),
        ({"event": "gaussian", "noise_multiplier": "nan"}, "decimal string"),
        ({"event": "gaussian", "noise_multiplier": "-1.0"}, "positive"),
        ({"event": "repeated", "inner": {"event": "no_op"}, "count": True}, "integer"),
        ({"event": "repeated", "inner": {"event": "no_op"}, "count": -1}, "at least 0"),
        ({"event": "composed", "events": "no_op"}, "list of events"),
    ],
)
def test_malformed_json_is_refused(tree: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        from_json(tree)  # type: ignore[arg-type]  # malformed on purpose


@pytest.mark.parametrize("rate", [0.0, -0.1, 1.5, float("nan")])
def test_sampling_rate_outside_its_range_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match="sampling_rate"):
        PoissonGaussian(sampling_rate=rate, noise_multiplier=1.0, steps=1)


@pytest.mark.parametrize("noise", [0.0, -1.0, float("inf"), float("nan")])
def test_noise_multiplier_outside_its_range_is_refused(noise: float) -> None:
    with pytest.raises(ValueError, match="noise_multiplier"):
        Gaussian(noise_multiplier=noise)


def test_events_of_a_composition_must_be_a_tuple() -> None:
    with pytest.raises(TypeError, match="tuple"):
        Composed(events=[NoOp()])  # type: ignore[arg-type]  # a list could change after it was priced
