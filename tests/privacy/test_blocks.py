"""Which records stand in which forward pass, and that nobody's company shows in a gradient."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fedcollm_privacy import dpsgd
from fedcollm_privacy.blocks import blocks

UNITS = st.lists(st.integers(0, 3), max_size=40).map(
    lambda sizes: [tuple(range(100 * k, 100 * k + 1 + size)) for k, size in enumerate(sizes)]
)


def kind(record: int) -> int:
    """Return one of three shapes, by the record's own number."""
    return record // 100 % 3


@given(units=UNITS, rows=st.integers(1, 9))
def test_every_unit_stands_in_one_pass_and_counts_once(units: list[tuple[int, ...]], rows: int) -> None:
    counted = []
    for block in blocks(units, rows, kind):
        start = 0
        for size in block.unit_sizes:
            counted.append(tuple(block.records[start : start + size]))
            start += size

    assert sorted(counted) == sorted(units)


@given(units=UNITS, rows=st.integers(1, 9))
def test_a_pass_is_of_one_shape_and_full_or_of_one_person(units: list[tuple[int, ...]], rows: int) -> None:
    for block in blocks(units, rows, kind):
        alone = len(block.unit_sizes) == 1 and block.unit_sizes[0] > 1

        assert alone or (len(block.records) == rows and len({kind(record) for record in block.records}) == 1)
        assert set(block.records) == set(block.records[: sum(block.unit_sizes)])


def test_nobody_is_in_no_pass() -> None:
    assert list(blocks([], 4)) == []
    assert list(blocks([], None)) == []


def test_no_rows_means_one_pass_of_all() -> None:
    (block,) = blocks([(3,), (5, 6)], None)

    assert (list(block.records), list(block.unit_sizes)) == ([3, 5, 6], [1, 2])


@pytest.mark.parametrize("kind_of_model", ["llama", "gpt2"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_dp_sensitivity_is_the_records_own_share_and_nothing_else(build, kind_of_model, dtype) -> None:  # type: ignore[no-untyped-def]
    """The others add up to the same in float64 (the twin, with padding: tests/learning/test_company.py)."""
    subject = build(kind_of_model, records=64)
    for name, parameter in subject.model.named_parameters():
        parameter.data = parameter.data if "lora_" in name else parameter.data.to(dtype)
    clip, random, worst = 0.05, np.random.default_rng(3), 0.0

    def total(batch: list[int], rows: int | None = 4) -> torch.Tensor:
        parameters = subject.parameters()
        with dpsgd.tapped(dpsgd.linear_layers(subject.model, parameters)) as taps:
            drawn = [(record,) for record in batch]
            parts = dpsgd._batch_sum(drawn, subject.losses, taps, clip, rows, parameters)
        return torch.cat([part.reshape(-1) for part in parts])

    for _ in range(30):
        batch = sorted(random.permutation(64)[: random.integers(2, 20)].tolist())
        added = batch[random.integers(len(batch))]
        others = [record for record in batch if record != added]
        moved = total(batch) - total(others) - total([added])
        worst = max(worst, moved.norm().item() / clip)

    assert worst < 1e-12
