"""Nobody's gradient tells who else was drawn: silos' own records, padded, in float32 and bfloat16."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from fedcollm_privacy import dpsgd
from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.config.models import Lora, ModelSource
from fedcollm_secure.config.training import LocalTraining
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.batches import Encoder, Shape, Tokens
from fedcollm_secure.learning.models import load_base, with_lora
from fedcollm_secure.learning.training import ROWS, Learner

PLAN = RecordPlan(
    epsilon=1e6,
    delta=1e-5,
    clip_norm=1.0,
    sampling_rate=0.5,
    noise_multiplier=1.0,
    steps_per_round=1,
    rounds=1,
    batch_size=4,
)


def learner(dtype: str) -> Learner:
    """Return a silo's training of the embedded model on forty records of unlike lengths, away from B = 0."""
    base = load_base(ModelSource(source="embedded:slm", dtype=dtype), "models.slm", torch.device("cpu"))  # type: ignore[arg-type]
    adapter = Adapter(with_lora(base, Lora(rank=4, alpha=8), seed=1), "fedavg")
    generator = np.random.default_rng(2)
    adapter.write((adapter.read() + generator.normal(0, 0.05, adapter.schema.length)).astype(np.float32))
    records = [
        Tokens(
            prompt=tuple(generator.integers(2, len(base.tokenizer), 4 + number % 23).tolist()),
            answer=tuple(generator.integers(2, len(base.tokenizer), 1 + number % 6).tolist()),
        )
        for number in range(40)
    ]
    return Learner(
        adapter=adapter,
        encoder=Encoder(base.tokenizer, 64, end_answers=False),
        records=records,
        settings=LocalTraining(steps=1, batch_size=4),
        rounds=1,
        seed=1,
        name="north",
        plan=PLAN,
    )


def total(one: Learner, batch: list[int], clip: float, rows: int | None = ROWS) -> Tensor:
    """Return what a step adds up, as training computes it; `rows` None is the way it was once: all in one pass."""
    parameters = one.adapter.parameters
    with dpsgd.tapped(dpsgd.linear_layers(one.adapter.model, parameters)) as taps:
        units = [(record,) for record in batch]
        parts = dpsgd._batch_sum(units, one.losses, taps, clip, rows, parameters, one._shape)
    return torch.cat([part.reshape(-1) for part in parts])


def moved_others(one: Learner, rows: int | None = ROWS, trials: int = 5) -> tuple[float, float]:
    """Return how far one record more moves the sum, and the others' part of it, at most, in units of C."""
    generator, most, others_most = np.random.default_rng(7), 0.0, 0.0
    clip = float(np.median([float(total(one, [record], 1e9).norm()) for record in range(0, 40, 5)]))
    for trial in range(trials):
        batch = sorted(generator.permutation(40)[: generator.integers(2, 30)].tolist())
        added = batch[-1] if trial % 2 else batch[generator.integers(len(batch))]
        change = total(one, batch, clip, rows) - total(one, [each for each in batch if each != added], clip, rows)
        most = max(most, float(change.norm()) / clip)
        others_most = max(others_most, float((change - total(one, [added], clip, rows)).norm()) / clip)
    return most, others_most


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dp_sensitivity_one_record_moves_nobody_elses_share(dtype: str) -> None:
    most, others = moved_others(learner(dtype))

    assert others < 1e-12
    assert 0.9 < most <= 1.0


@pytest.mark.parametrize(("dtype", "least"), [("float32", 1e-8), ("bfloat16", 1e-3)])
def test_the_test_sees_what_padding_and_rows_would_change(dtype: str, least: float) -> None:
    careless = learner(dtype)
    object.__setattr__(careless, "plan", None)  # pads to the longest of the pass, as without privacy
    _, others = moved_others(careless, rows=None)

    assert others > least


def test_a_records_shape_follows_from_itself() -> None:
    encoder = learner("float32").encoder
    record = Tokens(prompt=tuple(range(9)), answer=(1, 2))

    assert encoder.shape(record) == Shape(width=16, keep=4)
    assert encoder.shape(Tokens(prompt=(1,), answer=(2,))) == Shape(width=8, keep=4)
    assert encoder.shape(Tokens(prompt=(1,) * 30, answer=(2,) * 34)) == Shape(width=64, keep=36)


def test_no_shape_is_wider_than_the_model_or_keeps_more_than_it_reads() -> None:
    encoder = Encoder(learner("float32").encoder._tokenizer, 10, end_answers=False)

    assert encoder.shape(Tokens(prompt=(1,) * 8, answer=(2, 3))) == Shape(width=10, keep=4)
    assert encoder.shape(Tokens(prompt=(1,), answer=(2,) * 10)) == Shape(width=10, keep=10)


def test_one_record_at_a_time_gives_the_same_step() -> None:
    apart = replace(learner("float32"), gradients="one_by_one")
    parameters, batch = apart.adapter.parameters, [1, 5, 9, 33]
    parts = dpsgd._batch_sum(
        [(record,) for record in batch],
        apart.losses,
        dpsgd.OneByOne(parameters=parameters),
        0.5,
        ROWS,
        parameters,
        apart._shape,
    )
    together = total(apart, batch, 0.5)

    assert float((torch.cat([part.reshape(-1) for part in parts]) - together).norm()) < 1e-5 * float(together.norm())
