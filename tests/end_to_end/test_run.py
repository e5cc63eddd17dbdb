"""The whole job on a tiny consortium: equal under plain and masked sums, fresh randomness, limits that hold."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from peft import PeftModel
from safetensors.numpy import load_file

from fedcollm_secure.assemble import prepare, start
from fedcollm_secure.audit_log.events import PartyRefused, RunStopped
from fedcollm_secure.audit_log.log import LOG_NAME, read_log
from fedcollm_secure.audit_log.run_verification import verify_run
from fedcollm_secure.config import Config, parse
from fedcollm_secure.errors import RefusedByPolicy, RunError
from fedcollm_secure.federation.coordinator import Coordinator
from fedcollm_secure.learning.batches import Encoder
from fedcollm_secure.learning.evaluate import Evaluation
from fedcollm_secure.learning.models import load_base
from fedcollm_secure.operations.run_command import run
from tests.end_to_end.conftest import Quiet

Make = Callable[..., dict[str, object]]
MASKED = {"masked": {"clip": 1.0, "bits": 24}}


def _run(tree: Mapping[str, object], out: Path) -> Mapping[str, object]:
    return run(parse(tree), out, resuming=False, show=Quiet())


def _adapter(out: Path, name: str = "slm") -> dict[str, np.ndarray]:
    return dict(load_file(out / "adapters" / name / "adapter_model.safetensors"))


def _same(first: Path, second: Path) -> bool:
    a, b = _adapter(first), _adapter(second)
    return a.keys() == b.keys() and all(np.array_equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("weighting", ["uniform", "examples"])
def test_masked_and_plain_runs_end_in_the_same_bits(tree: Make, tmp_path: Path, weighting: str) -> None:
    silo = {"steps": 2, "batch_size": 8, "learning_rate": 0.01, "weighting": weighting}
    _run(tree(silo=silo), tmp_path / "plain")
    _run(tree(silo=silo, aggregation=MASKED), tmp_path / "masked")

    assert _same(tmp_path / "plain", tmp_path / "masked")


def test_round_is_the_mean_of_the_silos_updates(tree: Make, tmp_path: Path) -> None:
    config = parse(tree(rounds=1, distill={"steps": 0}, aggregation=MASKED))
    prepared = prepare(config)

    theta = prepared.server_slm.read().astype(np.float64)
    updates = [prepared.learner(name).update(theta.astype(np.float32), 1) for name in prepared.silos]
    expected = theta + np.mean([update.astype(np.float64) for update in updates], axis=0)
    job = start(prepared, tmp_path / "run", lambda _, __: None)
    list(job.rounds())
    job.close()

    assert prepared.server_slm.read() == pytest.approx(expected, abs=prepared.encoding.grid)


def test_two_private_runs_of_one_seed_share_no_noise_and_no_mask(private: Make, tmp_path: Path) -> None:
    sums: list[str] = []
    for name in ("first", "second"):
        _run(private(aggregation=MASKED), tmp_path / name)
        sums.append((tmp_path / name / "audit" / LOG_NAME).read_text())
        hellos = (tmp_path / name / "silos" / "silo-1" / "stages.jsonl").read_text()
        sums.append(hellos)

    assert not _same(tmp_path / "first", tmp_path / "second")
    assert sums[1] != sums[3]


def test_a_finished_run_verifies_and_its_summary_is_complete(private: Make, tmp_path: Path) -> None:
    out = tmp_path / "run"
    summary = _run(private(aggregation=MASKED), out)
    found = verify_run(out)

    assert found.incomplete is None
    assert summary["log"] == {"size": found.entries, "root": found.root}
    assert json.loads((out / "summary.json").read_text()) == summary
    assert [json.loads(line)["round"] for line in (out / "metrics.jsonl").read_text().splitlines()] == [0, 1, 2]
    assert (out / "report.html").stat().st_size > 10_000
    assert set(summary) >= {"run_id", "rounds_planned", "rounds_done", "stopped_because", "aggregation", "guarantees"}


def test_peft_opens_both_adapters_and_reproduces_the_scores(tree: Make, tmp_path: Path) -> None:
    config, out = parse(tree()), tmp_path / "run"
    run(config, out, resuming=False, show=Quiet())
    reported = json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])
    test = prepare(config).holdings.test

    for name, source in (("slm", config.models.slm), ("llm", config.models.llm)):
        base = load_base(source, "models", torch.device("cpu"))
        opened = PeftModel.from_pretrained(base.model, str(out / "adapters" / name))
        encoder = Encoder(base.tokenizer, 64, end_answers=False)

        assert Evaluation(test, encoder, tokens_per_batch=77).score(opened) == reported[name]


def test_adapters_fit_the_architecture_they_name(tree: Make, tmp_path: Path) -> None:
    _run(tree(), tmp_path / "run")
    settings = json.loads((tmp_path / "run" / "adapters" / "slm" / "adapter_config.json").read_text())

    assert (settings["r"], settings["lora_alpha"], settings["task_type"]) == (2, 4, "CAUSAL_LM")


def _exhausting(private: Make) -> Config:
    """Return a configuration whose stated noise pays for the first round and not for the second."""
    dp = {"epsilon": 7.0, "delta": 1e-5, "clip_norm": 1.0, "sampling_rate": 0.2, "noise_multiplier": 1.1}
    silo = {"steps": 10, "batch_size": 8, "learning_rate": 0.01}
    return parse(private(privacy={"record_dp": dp}, silo=silo, rounds=9, aggregation=MASKED))


@pytest.mark.parametrize("dies", [False, True])
def test_an_exhausted_budget_stops_the_run_and_keeps_its_work(
    private: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies: bool
) -> None:
    out = tmp_path / "run"
    if dies:  # in its last step; resumed, it does the rest and says the same
        with monkeypatch.context() as patch:
            patch.setattr(Coordinator, "attest", lambda _: 1 // 0)
            with pytest.raises(ZeroDivisionError):
                run(_exhausting(private), out, resuming=False, show=Quiet())
    with pytest.raises(RefusedByPolicy, match=r"round \d did not start"):
        run(_exhausting(private), out, resuming=dies, show=Quiet())
    summary = json.loads((out / "summary.json").read_text())
    events = [entry.event for entry in read_log(out / "audit" / LOG_NAME).entries]
    spent = [row["spent"] for row in summary["budget"].values()]

    assert 0 < summary["rounds_done"] < 9
    assert "budget" in summary["stopped_because"]
    assert {event.reason_code for event in events if isinstance(event, PartyRefused)} == {"budget_exhausted"}
    assert any(isinstance(event, RunStopped) and event.reason == "budget_exhausted" for event in events)
    assert all(0 < epsilon <= 7.0 for epsilon in spent)
    assert verify_run(out).incomplete is None


def test_the_scores_do_not_depend_on_the_engines_order_of_silos(tree: Make, tmp_path: Path) -> None:
    groups = {f"n{i}": [f"s{i}"] for i in range(4)}
    data = cast(dict[str, object], tree()["data"])
    for name, order in (("one", list(groups)), ("two", list(reversed(groups)))):
        by_column = {"by_column": {"column": "site", "groups": {silo: groups[silo] for silo in order}}}
        _run(tree(data={**data, "silos": by_column}, aggregation=MASKED), tmp_path / name)

    assert _same(tmp_path / "one", tmp_path / "two")


def test_a_run_is_never_written_over(tree: Make, tmp_path: Path) -> None:
    _run(tree(rounds=1), tmp_path / "run")
    before = (tmp_path / "run" / "summary.json").read_bytes()

    with pytest.raises(RunError, match="is not empty"):
        _run(tree(rounds=1), tmp_path / "run")

    assert (tmp_path / "run" / "summary.json").read_bytes() == before


def test_free_text_is_scored_by_perplexity(tree: Make, tmp_path: Path) -> None:
    data = cast(dict[str, object], tree()["data"])
    task = {"text": {"prompt": "note : {text} is", "answer": "{topic}"}}
    summary = _run(tree(data={**data, "task": task}), tmp_path / "run")
    gained = cast(Mapping[str, Mapping[str, float]], summary["gained"])

    assert gained["slm"]["metric"] == "perplexity"
    assert gained["slm"]["to"] < gained["slm"]["from"]


def test_two_parties_run_where_that_is_accepted(tree: Make, tmp_path: Path) -> None:
    security = {"allow_two_party": True, "min_cohort": 2, "colluding": 0}
    data = cast(dict[str, object], tree()["data"])
    summary = _run(tree(data={**data, "silos": {"iid": 2}}, security=security, aggregation=MASKED), tmp_path / "run")

    assert any("two parties" in text for text in cast(list[str], summary["warnings"]))


def test_a_post_quantum_run_ends_in_the_same_bits_and_says_so(tree: Make, tmp_path: Path) -> None:
    _run(tree(rounds=1), tmp_path / "plain")
    summary = _run(tree(rounds=1, aggregation=MASKED, security={"post_quantum": True}), tmp_path / "hybrid")
    classical = _run(tree(rounds=1, aggregation=MASKED), tmp_path / "classical")

    assert _same(tmp_path / "plain", tmp_path / "hybrid")
    assert [_hidden_from_a_quantum_computer(s) for s in (summary, classical)] == [True, False]
    assert [any("quantum" in text for text in cast(list[str], s["warnings"])) for s in (summary, classical)] == [
        False,
        True,
    ]
    roster = json.loads((tmp_path / "hybrid" / "audit" / "roster.json").read_text())
    assert {len(member["mldsa44"]) for member in roster["roster"]["members"]} == {2 * 1312}
    assert len(roster["root_signature"]) == 2 * 2484
    assert verify_run(tmp_path / "hybrid").incomplete is None


def _hidden_from_a_quantum_computer(summary: Mapping[str, object]) -> bool:
    rows = cast(list[Mapping[str, object]], summary["guarantees"])
    return next(bool(row["holds"]) for row in rows if "quantum computer" in str(row["property"]))
