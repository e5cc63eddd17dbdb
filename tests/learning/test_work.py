"""What `check --measure` counts is what a run reads: the models' own passes are counted beside it."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from fedcollm_secure.assemble import prepare, start
from fedcollm_secure.assemble.prepare import Prepared
from fedcollm_secure.config import parse
from fedcollm_secure.learning.evaluate import Evaluation
from fedcollm_secure.learning.likelihoods import Pass, log_likelihoods, scoring_passes
from fedcollm_secure.learning.work import Work, evaluations, silo_work
from fedcollm_secure.operations.check_command import check
from fedcollm_secure.operations.check_summary import check_words
from fedcollm_secure.operations.work_prediction import _rows_mib, work_parts
from tests.conftest import DP, rows, write_jsonl

Make = Callable[..., dict[str, object]]


class Counted:
    """Tokens that a model reads while the context is open, padding included, and those that are none."""

    def __init__(self, *models: nn.Module) -> None:
        self.padded = self.real = self.passes = 0
        self._stack, self._models = ExitStack(), models

    def __enter__(self) -> "Counted":
        for model in self._models:
            handle = model.register_forward_pre_hook(self._count, with_kwargs=True)
            self._stack.callback(handle.remove)
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _count(self, _model: nn.Module, _positional: tuple[Any, ...], named: Mapping[str, Any]) -> None:
        ids, mask = named["input_ids"], named["attention_mask"]
        self.padded += ids.numel()
        self.real += int(mask[:, -ids.shape[1] :].sum())
        self.passes += 1


def by_name(prepared: Prepared) -> dict[str, Work]:
    return {part.name: part.work for part in work_parts(prepared)}


def test_a_run_reads_what_was_predicted_part_by_part(tree: Make, tmp_path: Path) -> None:
    config = parse(tree(rounds=3, evaluate={"every": 2}, gates={"max_loss_increase": 1000.0}))
    prepared = prepare(config)
    expected = by_name(prepared)
    llm, slm, silo = (each.model for each in (prepared.server_llm, prepared.server_slm, prepared.silo_slm))
    with Counted(llm) as by_llm, Counted(slm) as by_slm, Counted(silo) as by_silos:
        job = start(prepared, tmp_path / "run", lambda _, __: None)
        for _ in job.rounds():
            pass

    assert by_silos.padded == expected["silos"].padded
    assert by_silos.real == expected["silos"].real
    assert by_llm.padded == expected["scoring, llm"].padded + expected["server, llm"].padded
    assert by_slm.padded == sum(expected[name].padded for name in ("scoring, slm", "server, slm", "gate"))
    assert by_slm.passes == sum(expected[name].passes for name in ("scoring, slm", "server, slm", "gate"))


@pytest.mark.parametrize("budget", [1, 40, 2048])
def test_passes_that_share_prompts_are_counted_as_they_are_made(tree: Make, tmp_path: Path, budget: int) -> None:
    options = [" ".join(["rash", "itch", "mole", "burn"][: 1 + place]) for place in range(4)]
    asked = [{**row, "options": options[number % 3 :], "right": 0} for number, row in enumerate(rows(30))]
    task = {"multiple_choice": {"prompt": "note : {text}", "choices": "options", "answer": "right"}}
    source = {"path": str(write_jsonl(tmp_path / "asked.jsonl", asked))}
    given = tree()
    given["data"] = {
        **given["data"],  # type: ignore[dict-item]
        "source": source,
        "task": task,
        "test": {"share": 0.3},
        "auxiliary": {"share": 0.5},
    }
    prepared = prepare(parse(given))
    sequences = Evaluation(prepared.holdings.test, prepared.encoder, tokens_per_batch=budget).sequences
    passes = list(scoring_passes(prepared.server_slm.model, sequences, tokens_per_batch=budget))
    with Counted(prepared.server_slm.model) as counted:
        log_likelihoods(prepared.server_slm.model, prepared.encoder, sequences, tokens_per_batch=budget)

    assert any(len(sequence.answer) > 2 for sequence in sequences)
    assert (counted.padded, counted.real, counted.passes) == (
        sum(each.padded for each in passes),
        sum(each.real for each in passes),
        len(passes),
    )


def test_under_dp_the_mean_over_draws_is_near_what_is_read(private: Make) -> None:
    silo = {"steps": 40, "batch_size": 8, "learning_rate": 0.01, "microbatch": 4}
    terms = {"record_dp": {**DP["record_dp"], "epsilon": 1000.0}}  # type: ignore[dict-item]
    prepared = prepare(parse(private(silo=silo, privacy=terms)))
    learner = prepared.learner("silo-1")
    expected = silo_work(learner)
    with Counted(prepared.silo_slm.model) as counted:
        for number in (1, 2):
            learner.update(prepared.server_slm.read(), number)

    assert counted.padded == pytest.approx(expected.padded, rel=0.25)  # four standard deviations and more


def test_the_middle_pass_and_the_largest_stand_for_all() -> None:
    passes = [Pass.over([width] * 2, width=width, keep=1) for width in (1, 2, 3, 30)]

    assert [each.width for each in Work.of(passes).some] == [30, 30]
    assert [each.width for each in Work.of(passes[:3]).some] == [3, 2]
    assert (Work.of(passes, times=2) + Work.of(passes)).padded == 3 * 72
    assert (evaluations(3, 2), evaluations(4, 2), evaluations(1, 9)) == (3, 3, 2)


def test_gradients_by_opacus_need_memory_for_each_record(private: Make) -> None:
    lora = {"rank": 2, "alpha": 4, "targets": ["q_proj"], "modules_to_save": ["embed_tokens"]}
    terms = {"record_dp": {**DP["record_dp"], "gradients": "opacus"}}  # type: ignore[dict-item]
    ours, theirs = (prepare(parse(private(lora=lora, **given))) for given in ({}, {"privacy": terms}))
    sizes = [each.numel() for each in theirs.silo_slm.parameters]

    assert _rows_mib(ours) == 0.0
    assert _rows_mib(theirs) == 16 * (4 * sum(sizes) + 8 * 60 * 16) / 2**20


@pytest.mark.parametrize("private_training", [False, True])
def test_check_measures_where_it_is_asked_to(tree: Make, private: Make, private_training: bool) -> None:
    config = parse((private if private_training else tree)())
    before = [each.clone() for each in prepare(config).server_slm.model.parameters()]
    found = check(config, measure=True)
    work: Any = found["work"]

    assert set(work["tokens"]) == {"scoring, llm", "scoring, slm", "silos", "server, llm", "server, slm"}
    assert work["seconds_total"] == pytest.approx(sum(work["seconds"].values()), rel=0.02)
    assert ("noise" in work["seconds"], work["exact"]) == (private_training, not private_training)
    assert work["peak_mib"] > 0
    assert "work of a run, as this machine is now" in check_words(found)
    assert "work of a run" not in check_words({**found, "work": {}})
    assert all(
        torch.equal(one, other)
        for one, other in zip(before, prepare(config).server_slm.model.parameters(), strict=True)
    )
