"""Events hold what the allow-list names and nothing else, and survive the journey to JSON and back."""

import json
from collections.abc import Callable
from dataclasses import fields

import pytest

from fedcollm_crypto.canonical import Json, decode, encode
from fedcollm_secure.audit_log.events import (
    EVENT_TYPES,
    Event,
    GatePassed,
    GateRejected,
    HeadAttested,
    PartyConvicted,
    PartyDropped,
    PartyRefused,
    RoundClosed,
    RoundStarted,
    RoundSummed,
    RunFinished,
    RunResumed,
    RunStarted,
    RunStopped,
    StageAnswered,
    SumAgreed,
    SumDecrypted,
    event_from_json,
    event_to_json,
    type_name,
)

DIGEST = "0f" * 32
CANARY = "sk-CANARY 52.7 café /home/alice"
EXAMPLES: tuple[Event, ...] = (
    RunStarted(
        run_id="icd10-2026-01",
        config_digest=DIGEST,
        software={"torch": "2.8.0+cpu", "fedcollm-secure": "0.1.0"},
        roster_digest=DIGEST,
        aggregation="masked",
        privacy="record_dp",
        models={"slm": DIGEST, "llm": DIGEST},
        environment_digest=DIGEST,
        simulated=True,
    ),
    RoundStarted(
        round=1, attempt=0, cohort=("a", "b"), adapter_digest=DIGEST, plan_digest=DIGEST, manifest_digest=DIGEST
    ),
    PartyDropped(round=1, party="<script>alert(1)</script>".replace("/", ""), reason_code="timeout"),
    PartyRefused(round=1, party="Hôpital Nord", reason_code="budget_exhausted"),
    RoundSummed(round=1, attempt=2, averaged_digest=DIGEST, is_mean=True, replies={"a": DIGEST, "b": DIGEST}),
    RoundClosed(
        round=1,
        contributors=("a", "b"),
        total_weight=2,
        sum_digest=DIGEST,
        averaged_digest=DIGEST,
        adapter_before=DIGEST,
        adapter_after=DIGEST,
        llm_adapter_digest=DIGEST,
        ledgers={"a": DIGEST},
        epsilon={"a": "1.25", "b": "inf"},
    ),
    StageAnswered(round=1, attempt=2, stage=1, accepted=("a",), replies={"a": DIGEST, "b": DIGEST}),
    SumDecrypted(
        round=1,
        attempt=2,
        linear_pass=0,
        decryptor="trent",
        parameters_digest=DIGEST,
        key_digest=DIGEST,
        ciphertexts_digest=DIGEST,
        opened_digest=DIGEST,
        statement_digest=DIGEST,
    ),
    GatePassed(round=2, gate="range"),
    HeadAttested(size=3, silos=("a", "b")),
    GateRejected(round=2, gate="norm", reason="above_limit"),
    RunStopped(reason="budget_exhausted", rounds_done=2),
    RunResumed(rounds_done=2, config_digest=DIGEST, software={}, environment_digest=DIGEST),
    RunFinished(summary_digest=DIGEST),
    SumAgreed(round=1, attempt=1, linear_pass=0, adapter_digest=DIGEST, survivors=("north", "south")),
    PartyConvicted(round=1, attempt=1, party="north", fault="seed", proof_digest=DIGEST),
)


def test_there_is_an_example_of_every_event() -> None:
    assert {type(example) for example in EXAMPLES} == set(EVENT_TYPES)


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: type_name(type(event)))
def test_an_event_survives_the_journey_through_canonical_json(event: Event) -> None:
    assert event_from_json(decode(encode(event_to_json(event)))) == event


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: type_name(type(event)))
def test_no_event_holds_a_float(event: Event) -> None:
    def refuse(text: str) -> float:
        raise AssertionError(f"float {text}")

    assert json.loads(encode(event_to_json(event)), parse_float=refuse) is not None


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: type_name(type(event)))
def test_an_unknown_or_a_missing_field_is_refused(event: Event) -> None:
    body = event_to_json(event)
    name = fields(event)[0].name

    with pytest.raises(ValueError, match="loss"):
        event_from_json({**body, "loss": "0.5"})
    with pytest.raises(ValueError, match=name):
        event_from_json({key: value for key, value in body.items() if key != name})


@pytest.mark.parametrize("event", EXAMPLES, ids=lambda event: type_name(type(event)))
def test_a_secret_fits_into_no_text_field_and_not_into_the_message(event: Event) -> None:
    body = event_to_json(event)
    for name, value in body.items():
        for planted in _planted(value):
            with pytest.raises(ValueError, match=r".") as caught:
                event_from_json({**body, name: planted})
            assert CANARY not in str(caught.value)


def _planted(value: Json) -> list[Json]:
    """The value with a canary in each place it offers; the slash in the canary keeps it out of names too."""
    match value:
        case list():
            return [[CANARY], CANARY]
        case dict():
            return [dict.fromkeys(value, CANARY) or CANARY, CANARY]
        case _:
            return [CANARY]


Build = Callable[[], Event]
REFUSED: dict[str, tuple[Build, str]] = {
    "negative round": (lambda: GateRejected(round=-1, gate="norm", reason="x"), "GateRejected.round"),
    "a bool for a round": (lambda: GateRejected(round=True, gate="norm", reason="x"), "whole number"),
    "beyond JSON": (lambda: RunStopped(reason="x", rounds_done=2**53), "whole number"),
    "a sentence": (lambda: RunStopped(reason="the loss was 0.5", rounds_done=1), "a code such as"),
    "short digest": (lambda: RunFinished(summary_digest="ab"), "64 hexadecimal"),
    "upper-case digest": (lambda: RunFinished(summary_digest="AB" * 32), "64 hexadecimal"),
    "digest and newline": (lambda: RunFinished(summary_digest=DIGEST + "\n"), "64 hexadecimal"),
    "a path": (lambda: PartyDropped(round=1, party="../../etc", reason_code="timeout"), "can name a folder"),
    "the folder above": (lambda: PartyDropped(round=1, party="..", reason_code="timeout"), "can name a folder"),
    "control letters": (lambda: PartyDropped(round=1, party="a\nb", reason_code="timeout"), "can name a folder"),
    "half a letter": (lambda: PartyDropped(round=1, party="\ud800", reason_code="timeout"), "can name a folder"),
    "the same silo twice": (lambda: _cohort("a", "a"), "differ from one another"),
    "a key as a version": (
        lambda: RunResumed(rounds_done=1, config_digest=DIGEST, software={"x": CANARY}, environment_digest=DIGEST),
        "version",
    ),
}


def _cohort(*names: str) -> RoundStarted:
    return RoundStarted(
        round=1, attempt=0, cohort=names, adapter_digest=DIGEST, plan_digest=DIGEST, manifest_digest=DIGEST
    )


@pytest.mark.parametrize("name", REFUSED)
def test_a_value_outside_the_allow_list_is_refused_when_the_event_is_made(name: str) -> None:
    build, message = REFUSED[name]

    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize("epsilon", ["1e3", "-1", "01", "1.", ".5", "nan", "1.1234567890123"])
def test_epsilon_is_a_plain_decimal(epsilon: str) -> None:
    closed = event_to_json(EXAMPLES[5])

    with pytest.raises(ValueError, match=r"RoundClosed.epsilon\['a'\] must be a decimal"):
        event_from_json({**closed, "epsilon": {"a": epsilon}})


def test_a_wrong_container_is_refused() -> None:
    closed = event_to_json(EXAMPLES[5])

    with pytest.raises(ValueError, match="must be a tuple"):
        event_from_json({**closed, "contributors": {"a": "b"}})
    with pytest.raises(ValueError, match="must be a mapping"):
        event_from_json({**closed, "ledgers": ["a"]})
    with pytest.raises(ValueError, match="true or false"):
        event_from_json({**event_to_json(EXAMPLES[0]), "simulated": 1})
