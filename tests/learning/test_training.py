"""Local training and co-tuning: equal to the same steps written out in float64, and clear when they cannot go on."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.config.models import Lora, ModelSource
from fedcollm_secure.config.training import Distillation, LearningRates, LocalTraining
from fedcollm_secure.errors import TrainingError
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.batches import Encoder, Tokens
from fedcollm_secure.learning.distill import CoTuning
from fedcollm_secure.learning.models import load_base, with_lora
from fedcollm_secure.learning.optimise import batch_order, rate_factor
from fedcollm_secure.learning.training import Learner

TEXTS = [("note : rash itch", " skin"), ("note : pulse", " heart"), ("note : lens blur", " eye"), ("valve", " heart")]
SETTINGS = LocalTraining(steps=3, batch_size=2, learning_rate=0.05, optimizer="sgd")


def _adapter(models: Path, name: str) -> Adapter:
    base = load_base(ModelSource(source=str(models / name)), f"models.{name}", torch.device("cpu"))
    adapter = Adapter(with_lora(base, Lora(rank=2, alpha=4, targets=("q_proj", "v_proj")), seed=4), "fedavg")
    adapter.model.double()
    return adapter


def _encoder(models: Path) -> Encoder:
    base = load_base(ModelSource(source=str(models / "slm")), "models.slm", torch.device("cpu"))
    return Encoder(base.tokenizer, 64, end_answers=False)


def _learner(models: Path, settings: LocalTraining = SETTINGS) -> Learner:
    encoder = _encoder(models)
    return Learner(
        adapter=_adapter(models, "slm"),
        encoder=encoder,
        records=encoder.encode(TEXTS),
        settings=settings,
        rounds=2,
        seed=1,
        name="north",
        plan=None,
    )


def _loss(adapter: Adapter, tokens: Tokens) -> torch.Tensor:
    """Return −log p(answer)/tokens of one record in float64, without padding or batches."""
    ids = torch.tensor([[*tokens.prompt, *tokens.answer]])
    logs = adapter.model(input_ids=ids).logits.double().log_softmax(-1)[0]
    start = len(tokens.prompt)
    return -sum(logs[start + i - 1, token] for i, token in enumerate(tokens.answer)) / len(tokens.answer)


def _sgd(adapter: Adapter, loss: torch.Tensor, rate: float) -> None:
    for parameter, gradient in zip(adapter.parameters, torch.autograd.grad(loss, adapter.parameters), strict=True):
        parameter.data -= rate * gradient


def test_local_round_equals_the_steps_written_out_in_float64(models: Path) -> None:
    learner, reference = _learner(models), _adapter(models, "slm")
    start = learner.adapter.read()
    change = learner.update(start, 1)
    batches = batch_order(4, 2, seed=1, purpose="silo north/round 1")
    for _ in range(3):
        losses = [_loss(reference, learner.records[index]) for index in next(batches)]
        _sgd(reference, sum(losses) / len(losses), 0.05)  # type: ignore[arg-type]

    assert change == pytest.approx(reference.read() - start, abs=1e-6)
    assert np.abs(change).max() > 1e-4


def _co_tuning(models: Path, **settings: object) -> CoTuning:
    encoder = _encoder(models)
    llm, slm = _adapter(models, "llm"), _adapter(models, "slm")
    for adapter in (llm, slm):  # B away from zero, so that A has a gradient too
        adapter.write(adapter.read() + np.float32(0.05))
    chosen = Distillation(steps=2, batch_size=2, weight=0.7, learning_rate=LearningRates(slm=0.01, llm=0.02))
    return CoTuning(
        llm=llm,
        slm=slm,
        encoder=encoder,
        records=encoder.encode(TEXTS),
        settings=replace(chosen, **settings),  # type: ignore[arg-type]
        rounds=1,
        seed=1,
    )


def _kl(student: torch.Tensor, teacher: torch.Tensor) -> torch.Tensor:
    probabilities = teacher.detach().softmax(-1)
    return (probabilities * (teacher.detach().log_softmax(-1) - student.log_softmax(-1))).sum(-1)


def _reference_gradients(co_tuning: CoTuning, indices: list[int]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return the gradients of L^f and L^g (eq. 6) at the present pair, record by record in float64."""
    llm_loss = slm_loss = torch.zeros((), dtype=torch.float64)
    weight = co_tuning.settings.weight
    for tokens in (co_tuning.records[index] for index in indices):
        ids = torch.tensor([[*tokens.prompt, *tokens.answer]])
        at = slice(len(tokens.prompt) - 1, -1)
        f = co_tuning.llm.model(input_ids=ids).logits[0, at].double()
        g = co_tuning.slm.model(input_ids=ids).logits[0, at].double()
        llm_loss = llm_loss + _loss(co_tuning.llm, tokens) + weight * _kl(f, g).mean()
        slm_loss = slm_loss + _loss(co_tuning.slm, tokens) + weight * _kl(g, f).mean()
    size = len(indices)
    return (
        list(torch.autograd.grad(llm_loss / size, co_tuning.llm.parameters)),
        list(torch.autograd.grad(slm_loss / size, co_tuning.slm.parameters)),
    )


@pytest.mark.parametrize("microbatch", [1, 16])
def test_server_steps_equal_adam_on_equation_6_in_float64(models: Path, microbatch: int) -> None:
    ours, reference = _co_tuning(models, microbatch=microbatch), _co_tuning(models)
    ours.run(1)
    optimisers = [
        torch.optim.AdamW(adapter.parameters, lr=rate, betas=(0.9, 0.95), weight_decay=0.0)
        for adapter, rate in ((reference.llm, 0.02), (reference.slm, 0.01))
    ]
    batches = batch_order(4, 2, seed=1, purpose="server/round 1")
    for _ in range(2):
        both = _reference_gradients(reference, next(batches))  # simultaneous: both before either changes
        for adapter, gradients, optimiser in zip((reference.llm, reference.slm), both, optimisers, strict=True):
            for parameter, gradient in zip(adapter.parameters, gradients, strict=True):
                parameter.grad = gradient
            optimiser.step()

    assert ours.slm.read() == pytest.approx(reference.slm.read(), abs=2e-5)
    assert ours.llm.read() == pytest.approx(reference.llm.read(), abs=2e-5)


def test_without_weight_the_other_model_does_not_matter(models: Path) -> None:
    alone, beside = _co_tuning(models, weight=0.0), _co_tuning(models, weight=0.0)
    beside.llm.write(beside.llm.read() + np.float32(0.3))
    alone.run(1)
    beside.run(1)

    assert (alone.slm.read() == beside.slm.read()).all()


@pytest.mark.parametrize(("direction", "moved"), [("llm_to_slm", "slm"), ("slm_to_llm", "llm")])
def test_one_way_teaches_one_side_only(models: Path, direction: str, moved: str) -> None:
    taught, untaught = _co_tuning(models, direction=direction), _co_tuning(models, weight=0.0)
    taught.run(1)
    untaught.run(1)
    differs = {
        name: bool((getattr(taught, name).read() != getattr(untaught, name).read()).any()) for name in ("llm", "slm")
    }

    assert differs == {name: name == moved for name in ("llm", "slm")}


def test_a_loss_that_is_not_finite_withholds_the_update(models: Path) -> None:
    learner = _learner(models, replace(SETTINGS, learning_rate=1e308, steps=8))

    with pytest.raises(TrainingError, match=r"silo north: (the loss of step \d is not finite|training diverged)"):
        learner.update(learner.adapter.read(), 1)


def test_weights_that_do_not_move_are_an_error(models: Path) -> None:
    learner = _learner(models, replace(SETTINGS, learning_rate=1e-60))

    with pytest.raises(TrainingError, match="training moved no weight"):
        learner.update(learner.adapter.read(), 1)


def test_a_microbatch_changes_nothing(models: Path) -> None:
    whole, split = _learner(models), _learner(models, replace(SETTINGS, microbatch=1))
    start = whole.adapter.read()

    assert whole.update(start, 1) == pytest.approx(split.update(start, 1), abs=1e-6)


def test_kept_optimiser_state_carries_over(models: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, optimizer="adamw", optimizer_state="kept")
    kept = replace(_learner(models, settings), optimizer_file=tmp_path / "state" / "adamw.safetensors")
    fresh = _learner(models, replace(settings, optimizer_state="fresh"))
    start = kept.adapter.read()
    first = kept.update(start, 1), fresh.update(start, 1)
    second = kept.update(start, 2), fresh.update(start, 2)

    assert (first[0] == first[1]).all()
    assert (second[0] != second[1]).any()


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        ("constant", [0.5, 1.0, 1.0, 1.0]),
        ("linear", [0.5, 1.0, 1.0, 2 / 3]),
        ("cosine", [0.5, 1.0, 1.0, 0.75]),
    ],
)
def test_schedules_warm_up_and_fall(schedule: str, factors: list[float]) -> None:
    found = [rate_factor(schedule, 2, step, 5) for step in range(4)]  # type: ignore[arg-type]

    assert found == pytest.approx(factors)


def test_batches_cover_every_record_once_an_epoch() -> None:
    batches = batch_order(10, 4, seed=1, purpose="x")
    epochs = [[next(batches) for _ in range(3)] for _ in range(2)]

    assert all(sorted(index for batch in epoch for index in batch) == list(range(10)) for epoch in epochs)
    assert epochs[0] != epochs[1]


def test_a_records_loss_is_the_same_alone_and_in_any_batch(models: Path) -> None:
    learner = _learner(models)
    together = learner._losses([0, 1, 2, 3])
    alone = torch.cat([learner._losses([index]) for index in range(4)])

    assert torch.allclose(together, alone, atol=1e-9)


def test_no_records_give_no_losses_and_no_error(models: Path) -> None:
    assert _learner(models)._losses([]).shape == (0,)


def _with_dropout(models: Path, plan: RecordPlan | None) -> Learner:
    base = load_base(ModelSource(source=str(models / "slm")), "models.slm", torch.device("cpu"))
    lora = Lora(rank=2, alpha=4, dropout=0.5, targets=("q_proj", "v_proj"))
    adapter = Adapter(with_lora(base, lora, seed=4), "fedavg")
    return replace(_learner(models), adapter=adapter, plan=plan, random=np.random.default_rng(6).bytes)


PLAN = RecordPlan(
    epsilon=1e6,
    delta=1e-5,
    clip_norm=1.0,
    sampling_rate=1.0,
    noise_multiplier=0.1,
    steps_per_round=3,
    rounds=2,
    batch_size=2,
)


def _twice(models: Path, plan: RecordPlan | None, *, rounds: tuple[int, int] = (1, 1)) -> list[np.ndarray]:
    """Return the updates of two learners of one seed, after different draws from torch's own generator."""
    found = []
    for number, drawn in zip(rounds, (0, 777), strict=True):
        learner = _with_dropout(models, plan)
        learner.adapter.model.train()  # whatever mode it was left in
        torch.rand(drawn)
        found.append(learner.update(learner.adapter.read(), number))
    return found


def test_dropout_follows_seed_silo_and_round(models: Path) -> None:
    same, other_round = _twice(models, None), _twice(models, None, rounds=(1, 2))

    assert (same[0] == same[1]).all()
    assert (other_round[0] != other_round[1]).any()


def test_training_under_dp_knows_no_dropout(models: Path) -> None:
    """A mask that follows from a record's place in a pass would move with the other records."""
    dropped = _twice(models, PLAN)
    plain = replace(_with_dropout(models, PLAN), adapter=Adapter(_without_dropout(models), "fedavg"))
    undropped = plain.update(plain.adapter.read(), 1)

    assert (dropped[0] == dropped[1]).all()
    assert (dropped[0] == undropped).all()


def _without_dropout(models: Path) -> torch.nn.Module:
    base = load_base(ModelSource(source=str(models / "slm")), "models.slm", torch.device("cpu"))
    return with_lora(base, Lora(rank=2, alpha=4, targets=("q_proj", "v_proj")), seed=4)


def test_a_model_begins_in_eval_mode(models: Path) -> None:
    model = _with_dropout(models, None).adapter.model

    assert not any(module.training for module in model.modules())


def test_the_auxiliary_loss_knows_no_dropout(models: Path) -> None:
    co_tuning = replace(_co_tuning(models), slm=_with_dropout(models, None).adapter)
    co_tuning.slm.write(co_tuning.slm.read() + np.float32(0.3))
    losses = {co_tuning.slm_loss() for _ in range(3) if co_tuning.slm.model.train()}

    assert len(losses) == 1
