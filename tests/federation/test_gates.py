"""A round's result that does not pass a gate is thrown away, the last good adapter stands, and the log says why."""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fedcollm_crypto.errors import BadSum, ProtocolError, Refused
from fedcollm_crypto.fixedpoint import FixedPoint
from fedcollm_secure.assemble import prepare, start
from fedcollm_secure.audit_log.events import GateRejected, PartyRefused, RoundClosed
from fedcollm_secure.audit_log.log import LOG_NAME, read_log
from fedcollm_secure.audit_log.run_verification import verify_run
from fedcollm_secure.config import parse
from fedcollm_secure.config.protection import Gates
from fedcollm_secure.errors import ConfigError, RunIncomplete
from fedcollm_secure.federation.gates import GateClosed, TrustRegion, check_aggregate, check_distilled
from fedcollm_secure.learning.vectors import digest

Make = Callable[..., dict[str, Any]]
START, AVERAGED = np.zeros(4, dtype=np.float32), np.array([3.0, 0.0, 4.0, 0.0], dtype=np.float32)


def never(_: object) -> float:
    raise AssertionError("the loss was asked for without a gate on it")


def test_a_mean_within_the_norm_passes_and_one_beyond_does_not():
    check_aggregate(Gates(max_norm=5.0), START, AVERAGED, never)
    with pytest.raises(GateClosed, match="norm: above_limit"):
        check_aggregate(Gates(max_norm=4.99), START, AVERAGED, never)


@pytest.mark.parametrize("after", [1.6, float("nan"), float("inf")])
def test_a_loss_that_grew_too_far_closes_the_gate(after: float):
    def loss(adapter: object) -> float:
        return after if adapter is AVERAGED else 1.0

    with pytest.raises(GateClosed, match="auxiliary_loss: above_limit"):
        check_aggregate(Gates(max_loss_increase=0.5), START, AVERAGED, loss)
    check_aggregate(Gates(max_loss_increase=0.5), START, AVERAGED, lambda _: 1.0)


def test_without_gates_nothing_is_asked():
    check_aggregate(Gates(), START, AVERAGED, never)


@pytest.mark.parametrize("name", ["max_norm", "max_loss_increase", "trust_region"])
def test_a_gate_that_nothing_could_pass_is_a_bad_configuration(name: str, tree: Make):
    with pytest.raises(ConfigError, match=f"{name}: expected a positive number"):
        parse(tree(gates={name: 0.0}))


def sum_of(*, entry: int = 0, weight: int = 3, counter: int = 3):
    from fedcollm_crypto.aggregation import Sum

    words = np.array([entry, 0, weight, counter], dtype=np.int64).view(np.uint64)
    return Sum(total=words, contributors=frozenset("abc"))


@pytest.mark.parametrize(
    ("bad", "code"),
    [
        ({"counter": 4}, "miscounted"),
        ({"weight": 2}, "weight_out_of_range"),
        ({"entry": 1 << 40}, "entry_out_of_range"),
    ],
)
def test_a_sum_that_no_honest_consortium_makes_says_which_bound_it_breaks(bad: dict[str, int], code: str):
    encoding = FixedPoint(clip=1.0, bits=8, ring_bits=64, max_weight=1, max_silos=3)
    encoding.decode(sum_of())

    with pytest.raises(BadSum) as caught:
        encoding.decode(sum_of(**bad))
    assert caught.value.reason_code == code


@pytest.fixture
def adapter(tree: Make):
    return prepare(parse(tree())).server_slm


def dense_change(adapter, one, other) -> float:
    """Return the drift by the definition: the products are formed."""

    def products(vector):
        adapter.write(vector)
        named = {
            name: p.detach().numpy().astype(float) for name, p in adapter.model.named_parameters() if "lora_" in name
        }
        return [named[name.replace("lora_A", "lora_B")] @ named[name] for name in named if "lora_A" in name]

    pairs = zip(products(one), products(other), strict=True)
    return max(np.linalg.norm(b - a) / np.linalg.norm(a) for a, b in pairs)


def test_drift_is_that_of_the_products_module_by_module(adapter):
    generator = np.random.default_rng(5)
    one, other = (generator.normal(size=adapter.schema.length).astype(np.float32) for _ in range(2))

    assert adapter.drift(one, other) == pytest.approx(dense_change(adapter, one, other), rel=1e-9)
    assert adapter.drift(one, one) == pytest.approx(0.0, abs=1e-7)


def test_another_pair_of_factors_of_the_same_product_is_no_drift(adapter):
    one = np.random.default_rng(5).normal(size=adapter.schema.length).astype(np.float32)
    refactored, place = one.copy(), 0
    for name, shape in adapter.schema.shapes.items():
        size = int(np.prod(shape))
        refactored[place : place + size] *= 4.0 if "lora_A" in name else 0.25
        place += size

    assert adapter.drift(one, refactored) == pytest.approx(0.0, abs=1e-6)


def test_drift_from_nothing_is_infinite_and_of_what_is_not_finite_is_beyond_any_limit(adapter):
    something = np.ones(adapter.schema.length, dtype=np.float32)
    assert adapter.drift(something * 0, something) == float("inf")
    assert adapter.drift(something * 0, something * 0) == 0.0

    with pytest.raises(GateClosed, match="trust_region"):
        check_distilled(Gates(trust_region=1e9), adapter.drift, something, something * np.float32("nan"))


def test_a_silo_refuses_what_is_beyond_its_trust_region_or_has_nothing_to_be_held_against(adapter, manifest):
    near, far = np.ones(adapter.schema.length, dtype=np.float32), np.full(adapter.schema.length, 3, dtype=np.float32)
    nothing = np.zeros(0, dtype=np.float32)
    region = TrustRegion(limit=0.5, drift=adapter.drift, initial_digest=digest(near))
    second = replace(manifest, round=2, prev_result_hash=digest(near))

    region.check(replace(manifest, round=1), near, nothing, "")
    region.check(second, near * np.float32(1.1), near, digest(near))
    with pytest.raises(Refused, match=r"a module moved by 8 of its aggregate; 0\.5 is allowed"):
        region.check(second, far, near, digest(near))
    with pytest.raises(Refused, match="no aggregate came"):
        region.check(replace(manifest, round=1), far, nothing, "")
    with pytest.raises(Refused, match="no aggregate came"):
        region.check(second, near, nothing, digest(near))
    with pytest.raises(ProtocolError, match="not the one that it and the log name"):
        region.check(second, near, far, digest(far))
    with pytest.raises(ProtocolError, match="not the one that it and the log name"):
        region.check(second, near, near, digest(far))  # a reference of the server's own choice


def run_to_the_end(config: dict[str, Any], out: Path) -> list[object]:
    job = start(prepare(parse(config)), out, lambda _, __: None)
    try:
        list(job.rounds())
        job.coordinator.attest()
    finally:
        job.close()
    return [entry.event for entry in read_log(out / "audit" / LOG_NAME).entries]


@pytest.mark.parametrize("gates", [{"max_norm": 1e-6}, {"max_loss_increase": 0.5}])
def test_a_rejected_round_keeps_the_last_good_adapter_and_says_why(
    gates: dict[str, float], tree: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    losses = itertools.count(step=-1)  # the mean is asked first, then what the round began from
    monkeypatch.setattr("fedcollm_secure.learning.distill.CoTuning.slm_loss", lambda _: next(losses))
    events = run_to_the_end(tree(rounds=2, gates=gates, aggregation={"masked": {}}), tmp_path / "run")

    rejected = [event for event in events if isinstance(event, GateRejected)]
    closed = [event for event in events if isinstance(event, RoundClosed)]
    name = "norm" if "max_norm" in gates else "auxiliary_loss"
    assert [(event.round, event.gate, event.reason) for event in rejected] == [
        (1, name, "above_limit"),
        (2, name, "above_limit"),
    ]
    assert [event.round for event in closed] == [1, 2]  # the server's own steps moved the model on
    assert not any(isinstance(event, PartyRefused) for event in events)
    assert "did not finish" in str(verify_run(tmp_path / "run").incomplete)


def test_a_rejected_round_ends_a_run_in_which_nothing_else_moves_the_model(tree: Make, tmp_path: Path):
    config = tree(rounds=2, gates={"max_norm": 1e-6}, distill={"steps": 0})

    with pytest.raises(RunIncomplete, match="norm: above_limit"):
        run_to_the_end(config, tmp_path / "run")


def test_distillation_beyond_the_trust_region_is_undone_by_an_honest_server(tree: Make, tmp_path: Path):
    distill = {"steps": 2, "batch_size": 5, "learning_rate": {"slm": 1.0, "llm": 1.0e-3}}
    config = tree(rounds=2, gates={"trust_region": 0.01}, distill=distill, aggregation={"masked": {}})
    events = run_to_the_end(config, tmp_path / "run")

    assert [event.gate for event in events if isinstance(event, GateRejected)] == ["trust_region", "trust_region"]
    assert not any(isinstance(event, PartyRefused) for event in events)


def test_silos_refuse_a_server_that_distils_something_else(tree: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("fedcollm_secure.federation.coordinator.check_distilled", lambda *_: None)  # a dishonest server
    distill = {"steps": 2, "batch_size": 5, "learning_rate": {"slm": 1.0, "llm": 1.0e-3}}
    config = tree(rounds=2, gates={"trust_region": 0.01}, distill=distill, aggregation={"masked": {}})

    with pytest.raises(RunIncomplete, match="a module moved by"):
        run_to_the_end(config, tmp_path / "run")

    lines = (tmp_path / "run/audit" / LOG_NAME).read_bytes().splitlines()
    events = [json.loads(line)["event"] for line in lines]
    assert {event["reason_code"] for event in events if event["type"] == "party_refused"} == {"trust_region"}
