from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch

from fedcollm_privacy import dpsgd
from fedcollm_privacy.dpsgd import train
from fedcollm_privacy.plan import RecordPlan
from fedcollm_privacy.subjects import across_silos, check_subjects, group_by_subject

CLIP = 0.05
PLAN = RecordPlan(
    epsilon=60.0,
    delta=1e-5,
    clip_norm=CLIP,
    sampling_rate=0.5,
    noise_multiplier=0.5,
    steps_per_round=2,
    rounds=1,
    batch_size=4,
    unit="subject",
)
SUBJECTS = [(0, 1, 2, 3), (4,), (5, 6), (7, 8, 9, 10, 11), (12, 13), (14,)]


def clipped_total(
    subject, units: Sequence[Sequence[int]], microbatch: int | None = None, clip: float = CLIP
) -> torch.Tensor:  # type: ignore[no-untyped-def]  # a fixture's
    parameters = subject.parameters()
    with dpsgd.tapped(dpsgd.linear_layers(subject.model, parameters)) as taps:
        parts = dpsgd._batch_sum(units, subject.losses, taps, clip, microbatch, parameters)
    return torch.cat([part.reshape(-1) for part in parts])


def attempt(subject, **changes: object) -> None:  # type: ignore[no-untyped-def]  # a fixture's
    arguments = {"plan": PLAN, "population": len(SUBJECTS), "subjects": SUBJECTS} | changes
    train(
        model=subject.model,
        parameters=subject.parameters(),
        optimizer=torch.optim.SGD(subject.parameters(), lr=1.0),
        losses=subject.losses,
        **arguments,  # type: ignore[arg-type]  # wrong on purpose
    )


@pytest.mark.parametrize("clip", [CLIP, 100.0], ids=["clipped", "whole"])
def test_mean_gradient_of_a_subject_is_clipped_as_one(build, clip: float) -> None:  # type: ignore[no-untyped-def]
    subject = build()
    expected = torch.zeros(1, dtype=torch.float64)
    for records in SUBJECTS:
        parts = torch.autograd.grad(subject.losses(records).mean(), subject.parameters())
        gradient = torch.cat([part.reshape(-1) for part in parts]).double()
        expected = expected + gradient * min(1.0, clip / gradient.norm().item())

    for microbatch in (None, 1, 2):
        assert (clipped_total(subject, SUBJECTS, microbatch, clip) - expected).norm() < 2e-5 * expected.norm()


def test_dp_sensitivity_of_a_whole_subject_is_at_most_the_clip_norm(build) -> None:  # type: ignore[no-untyped-def]
    subject = build()
    random = np.random.default_rng(3)
    worst = 0.0
    for _ in range(50):
        *others, added = random.permutation(len(SUBJECTS))[: random.integers(2, 7)].tolist()
        drawn = [SUBJECTS[each] for each in others]
        difference = clipped_total(subject, [*drawn, SUBJECTS[added]]) - clipped_total(subject, drawn)
        worst = max(worst, difference.norm().item())

    assert 0.9 * CLIP < worst <= CLIP * (1 + 1e-5)


def test_record_clipping_would_let_a_subject_weigh_more(build) -> None:  # type: ignore[no-untyped-def]
    subject = build()
    alone = [(record,) for record in SUBJECTS[3]]

    assert clipped_total(subject, alone).norm() > 1.2 * CLIP


def test_subjects_are_drawn_whole(build) -> None:  # type: ignore[no-untyped-def]
    subject = build()
    seen: list[int] = []
    real = subject.losses
    subject.losses = lambda indices: seen.append(len(indices)) or real(indices)
    attempt(subject, random=lambda size: b"\0" * size)

    assert seen == [2, 15, 15]  # the probe, then everybody


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subjects": None}, "unit is 'subject'"),
        ({"plan": replace(PLAN, unit="record")}, "unit is 'record'"),
        ({"population": 5}, "number of subjects, 6, got 5"),
        ({"subjects": [(0, 1), (1,)], "population": 2}, "each record exactly one subject"),
        ({"subjects": [(0, 1), ()], "population": 2}, "needs a record"),
    ],
)
def test_subjects_that_do_not_fit_the_plan_are_refused(build, changes: dict[str, object], message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match=message):
        attempt(build(), **changes)


def test_grouping_keeps_the_first_records_of_each_subject() -> None:
    grouped = group_by_subject(["b", "a", "b", "b", "c", "a"], most_records=2)

    assert grouped == ((0, 2), (1, 5), (4,))
    check_subjects(grouped)


def test_grouping_needs_room_for_a_record() -> None:
    with pytest.raises(ValueError, match="most_records"):
        group_by_subject(["a"], most_records=0)


def test_disjoint_silos_cost_the_largest() -> None:
    assert across_silos([(1.0, 1e-6), (3.0, 1e-5), (2.0, 1e-5)], silos_per_subject=1) == (3.0, 1e-5)


def test_overlapping_silos_cost_the_sum_of_the_largest() -> None:
    assert across_silos([(1.0, 1e-6), (3.0, 1e-5), (2.0, 1e-5)], silos_per_subject=2) == (5.0, 2e-5)
    assert across_silos([(1.0, 1e-6)], silos_per_subject=3) == (1.0, 1e-6)


def test_overlap_below_one_silo_is_refused() -> None:
    with pytest.raises(ValueError, match="silos_per_subject"):
        across_silos([(1.0, 1e-6)], silos_per_subject=0)
