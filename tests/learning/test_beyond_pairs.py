"""What may train beside LoRA's pairs: embeddings, norms, DoRA's magnitudes; and Opacus as the source of gradients."""

import warnings
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers as tr
from peft import PeftModel

from fedcollm_privacy import dpsgd, from_opacus
from fedcollm_privacy.from_opacus import hooked
from fedcollm_privacy.per_record import gradient_of, tapped
from fedcollm_secure.assemble import prepare
from fedcollm_secure.audit_log.run_verification import verify_run
from fedcollm_secure.config import parse
from fedcollm_secure.config.models import Lora
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.models import Base, with_lora
from fedcollm_secure.learning.pair import load_adapter
from fedcollm_secure.learning.probe import why_apart
from fedcollm_secure.learning.training import Learner
from fedcollm_secure.operations.check_command import check
from fedcollm_secure.operations.check_summary import check_words
from fedcollm_secure.operations.run_command import run
from tests.conftest import DP, rows, write_jsonl
from tests.end_to_end.conftest import Quiet
from tests.learning.test_families import DENSE, QKV, WORDS, as_trained, learner, one_by_one

Make = Callable[..., dict[str, object]]
SAVED = Lora(rank=2, alpha=4, targets=("q_proj",), modules_to_save=("embed_tokens", "norm"))
DORA = Lora(rank=2, alpha=4, targets=("q_proj", "v_proj"), use_dora=True)


def adapted(models: Path, lora: Lora, family: str = "llama") -> Adapter:
    """Return a tiny random model's adapter, as it begins."""
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # transformers' and peft's own, about each other
        torch.manual_seed(0)
        model = tr.AutoModelForCausalLM.from_config(DENSE[family][0]()).eval().requires_grad_(False)
        base = Base(model=model, tokenizer=tr.AutoTokenizer.from_pretrained(str(models / "slm")), digest="")
        return Adapter(with_lora(base, lora, seed=1), "fedavg")


def of(models: Path, lora: Lora, gradients: dpsgd.Gradients) -> Learner:
    """Return a silo's training with this adapter, away from where it begins."""
    adapter = adapted(models, lora)
    moved = adapter.read() + np.random.default_rng(1).normal(0, 0.05, adapter.schema.length)
    adapter.write(moved.astype(np.float32))
    return replace(learner(models, DENSE["llama"][0](), QKV), adapter=adapter, gradients=gradients)


@pytest.mark.parametrize("family", DENSE)
def test_opacus_gives_each_record_of_a_family_the_gradient_that_ours_does(models: Path, family: str) -> None:
    shape, names = DENSE[family]
    one = learner(models, shape(), QKV if "projected" in family else names)
    model, parameters, drawn = one.adapter.model, one.adapter.parameters, [2, 0, 1, 3]
    with hooked(model, parameters) as source:
        theirs = source.gradients(one.losses(drawn))
    for place in range(len(drawn)):
        with tapped(dpsgd.linear_layers(model, parameters)) as taps:
            ours = gradient_of(one.losses(drawn), taps, place)
        assert all(torch.allclose(theirs[p][place].double(), ours[p], rtol=1e-3, atol=1e-6) for p in parameters)
    assert why_apart(replace(one, gradients="opacus"), WORDS) == ""


def test_layers_that_take_all_positions_in_a_row_go_one_at_a_time(models: Path) -> None:
    one = replace(learner(models, DENSE["opt"][0](), ("fc1", "fc2")), gradients="opacus")

    assert "records from Opacus" in why_apart(one, WORDS)
    assert (as_trained(one, 0.05) - one_by_one(one, 0.05)).norm() <= 1e-6 * one_by_one(one, 0.05).norm()


def test_embeddings_and_norms_train_by_record_in_one_pass(models: Path) -> None:
    one = of(models, SAVED, "opacus")
    found, expected = as_trained(one, 0.05), one_by_one(one, 0.05)

    assert any("embed_tokens.modules_to_save" in name for name in one.adapter.schema.shapes)
    assert why_apart(one, WORDS) == ""
    assert (found - expected).norm() <= 1e-4 * expected.norm()
    assert "only nn.Linear layers can be trained" in why_apart(replace(one, gradients="linear"), WORDS)


def test_dora_trains_by_record_one_at_a_time(models: Path) -> None:
    one = of(models, DORA, "opacus")

    assert any(".lora_magnitude_vector." in name for name in one.adapter.schema.shapes)
    assert why_apart(one, WORDS) != ""
    assert (as_trained(one, 0.05) - one_by_one(one, 0.05)).norm() <= 1e-6 * one_by_one(one, 0.05).norm()


def test_a_sabotaged_clip_shows_in_what_a_silo_would_send(models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one, clip = of(models, SAVED, "opacus"), 0.01

    assert as_trained(one, clip).norm() <= len(one.records) * clip
    monkeypatch.setattr(from_opacus, "clip_factors", lambda squared, clip_norm, usable: torch.ones_like(squared))
    assert as_trained(one, clip).norm() > 2 * len(one.records) * clip


PERSONS = {"unit": {"subject": "person"}, "silos_per_subject": 1, "noise": "joint"}


@pytest.mark.parametrize("privacy", [{}, PERSONS], ids=["own noise, records", "joint noise, persons"])
def test_a_run_with_embeddings_and_norms_by_opacus_from_check_to_verify(
    tree: Make, tmp_path: Path, privacy: dict[str, object]
) -> None:
    terms = {**DP["record_dp"], "gradients": "opacus", **privacy}  # type: ignore[dict-item]
    given = tree(
        privacy={"record_dp": terms},
        aggregation={"masked": {}},
        rounds=1,
        silo={"steps": 1, "batch_size": 8, "learning_rate": 0.01, "microbatch": 4},
        lora={"rank": 2, "alpha": 4, "targets": ["q_proj"], "modules_to_save": ["embed_tokens", "norm"]},
    )
    if privacy:
        people = [{**row, "person": f"{row['site']}-{number % 5}"} for number, row in enumerate(rows(90))]
        source = {"path": str(write_jsonl(tmp_path / "people.jsonl", people))}
        groups = {f"silo-{number + 1}": [f"s{number}"] for number in range(4)}
        silos = {"by_column": {"column": "site", "groups": groups}}
        given["data"] = {**given["data"], "source": source, "silos": silos}  # type: ignore[dict-item]
    config, out = parse(given), tmp_path / "run"
    told = check_words(check(config))
    run(config, out, resuming=False, show=Quiet())

    assert "gradients: 4 records in a forward pass, by Opacus" in told
    assert verify_run(out).incomplete is None


@pytest.mark.parametrize("lora", [SAVED, DORA, replace(SAVED, modules_to_save=None, use_rslora=True)])
def test_plain_training_moves_all_that_travels_and_peft_reads_it_back(
    tree: Make, models: Path, tmp_path: Path, lora: Lora
) -> None:
    given = {name: value for name, value in vars(lora).items() if value is not None}
    prepared = prepare(parse(tree(lora=given)))
    change = prepared.learner("silo-1").update(prepared.server_slm.read(), 1)
    prepared.server_slm.write((prepared.server_slm.read() + change).astype(np.float32))
    prepared.server_slm.model.save_pretrained(str(tmp_path / "slm"), save_embedding_layers=False)  # type: ignore[operator]
    load_adapter(prepared.silo_slm, tmp_path / "slm")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # peft's own: these models' heads are tied to their embeddings
        plain = tr.AutoModelForCausalLM.from_pretrained(str(models / "slm"))
        fresh = PeftModel.from_pretrained(plain, str(tmp_path / "slm"))
    ids = torch.arange(6)[None]

    moved = dict(zip(prepared.server_slm.schema.shapes, np.split(change, _ends(prepared.server_slm)), strict=True))
    assert all(np.any(part) for part in moved.values())
    assert (prepared.silo_slm.read() == prepared.server_slm.read()).all()
    assert torch.allclose(fresh(ids).logits, prepared.server_slm.model(ids).logits, atol=1e-5)


def _ends(adapter: Adapter) -> list[int]:
    return [int(each) for each in np.cumsum([np.prod(shape) for shape in adapter.schema.shapes.values()])[:-1]]


def test_drift_counts_what_trains_beside_products(models: Path) -> None:
    adapter = adapted(models, SAVED)
    start = adapter.read()
    moved = start.copy()
    place = list(adapter.schema.shapes).index(next(name for name in adapter.schema.shapes if ".norm." in name))
    begin = ([0, *_ends(adapter)])[place]
    moved[begin] += 1.0

    assert adapter.drift(start, start) == 0.0
    assert adapter.drift(start, moved) == pytest.approx(1 / 32**0.5)


def test_layers_may_have_a_rank_of_their_own(models: Path) -> None:
    shapes = adapted(models, replace(DORA, use_dora=False, rank_pattern={"v_proj": 3})).schema.shapes

    assert {shape[0] for name, shape in shapes.items() if "v_proj.lora_A" in name} == {3}
    assert {shape[0] for name, shape in shapes.items() if "q_proj.lora_A" in name} == {2}


@pytest.mark.parametrize(
    ("lora", "told"),
    [
        (replace(SAVED, modules_to_save=("embed",)), r"no module with weights of the llama .*'embed'; .*embed_tokens"),
        (replace(SAVED, modules_to_save=("act_fn",)), r"lora\.modules_to_save: no module with weights"),
        (replace(SAVED, modules_to_save=("self_attn",)), r"self_attn has .*q_proj in it, which lora\.targets names"),
        (replace(SAVED, rank_pattern={"up_proj": 3}), r"lora\.rank_pattern: no adapted layer fits 'up_proj'"),
        (replace(SAVED, rank_pattern={"q_proj": 40}), r"lora\.rank: expected at most 32, .* got 40"),
    ],
)
def test_what_peft_would_drop_or_train_twice_is_refused(models: Path, lora: Lora, told: str) -> None:
    with pytest.raises(ConfigError, match=told):
        adapted(models, lora)


@pytest.mark.parametrize("factors", ["rolora", "fedsvd", "exact"])
@pytest.mark.parametrize("beside", [{"use_dora": True}, {"modules_to_save": ["norm"]}])
def test_rules_that_know_products_alone_refuse_what_trains_beside(
    tree: Make, factors: str, beside: dict[str, object]
) -> None:
    given = {"rank": 2, "alpha": 4, "targets": ["q_proj"], **beside}

    assert parse(tree(lora=given, factors="ffa")).lora.targets == ("q_proj",)
    with pytest.raises(ConfigError, match=f"factors: {factors} does not fit lora.use_dora or lora.modules_to_save"):
        parse(tree(lora=given, factors=factors))


def test_what_does_not_fit_the_adapter_is_refused(tree: Make, models: Path) -> None:
    given = {"rank": 2, "alpha": 4, "targets": ["q_proj"]}
    half = {"llm": {"from": str(models / "llm")}, "slm": {"from": str(models / "slm"), "dtype": "bfloat16"}}

    with pytest.raises(ConfigError, match="exact does not fit lora"):
        parse(tree(lora={**given, "rank_pattern": {"q_proj": 3}}, factors="exact"))
    with pytest.raises(ConfigError, match="q_proj would train in full and, as targets say, by low rank"):
        parse(tree(lora={**given, "modules_to_save": ["q_proj"]}))
    with pytest.raises(ConfigError, match=r"models\.slm\.dtype: expected float32 with lora\.modules_to_save"):
        parse(tree(lora={**given, "modules_to_save": ["norm"]}, models=half))
