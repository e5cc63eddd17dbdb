"""Cross-entropy and KL per record against float64 arithmetic written out."""

import math

import pytest
import torch

from fedcollm_secure.learning.losses import cross_entropy, distillation


def _logits(seed: int) -> torch.Tensor:
    return torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(seed))


TARGETS = torch.tensor([[1, 4], [-100, 2], [-100, 0]])


def _log_probabilities(row: list[float]) -> list[float]:
    total = math.log(sum(math.exp(x) for x in row))
    return [x - total for x in row]


def test_cross_entropy_is_the_mean_over_each_records_answer() -> None:
    logits = _logits(0)
    rows = logits.double().tolist()
    expected = [
        -(_log_probabilities(rows[0][0])[1] + _log_probabilities(rows[0][1])[4]) / 2,
        -_log_probabilities(rows[1][1])[2],
        -_log_probabilities(rows[2][1])[0],
    ]

    assert cross_entropy(logits, TARGETS).tolist() == pytest.approx(expected, rel=1e-5)


def test_distillation_is_kl_from_the_teacher_per_answer_token() -> None:
    student, teacher = _logits(1), _logits(2)
    t = 2.0
    rows = [(student.double() / t).tolist(), (teacher.double() / t).tolist()]

    def kl(record: int, position: int) -> float:
        s, p = (_log_probabilities(side[record][position]) for side in rows)
        return sum(math.exp(b) * (b - a) for a, b in zip(s, p, strict=True))

    expected = [t * t * (kl(0, 0) + kl(0, 1)) / 2, t * t * kl(1, 1), t * t * kl(2, 1)]

    assert distillation(student, teacher, TARGETS, t).tolist() == pytest.approx(expected, rel=1e-4)


def test_kl_of_equals_is_zero() -> None:
    assert distillation(_logits(3), _logits(3), TARGETS, 1.5).tolist() == pytest.approx([0.0] * 3, abs=1e-6)


def test_gradient_reaches_the_student_and_never_the_teacher() -> None:
    student, teacher = _logits(4).requires_grad_(), _logits(5).requires_grad_()

    distillation(student, teacher, TARGETS, 1.0).sum().backward()

    assert student.grad is not None
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


def test_positions_without_a_target_have_no_gradient() -> None:
    student = _logits(6).requires_grad_()

    (distillation(student, _logits(7), TARGETS, 1.0) + cross_entropy(student, TARGETS)).sum().backward()

    assert student.grad is not None
    assert student.grad[1, 0].abs().sum() == 0
    assert student.grad[1, 1].abs().sum() > 0


def test_one_record_does_not_change_anothers_loss() -> None:
    logits = _logits(8)
    alone = cross_entropy(logits[:1], TARGETS[:1])

    assert torch.equal(cross_entropy(logits, TARGETS)[:1], alone)


def test_other_vocabularies_are_refused() -> None:
    with pytest.raises(ValueError, match="expected equal shapes"):
        distillation(_logits(0), _logits(0)[..., :4], TARGETS, 1.0)
