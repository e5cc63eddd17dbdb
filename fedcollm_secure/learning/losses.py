"""Cross-entropy and Kullback–Leibler divergence per record: the mean over its answer tokens.

One number a record, never a mean over the batch's tokens: the built-in loss of transformers divides by all answer
tokens of the batch, so that one record changes everyone's gradient and DP-SGD's sensitivity is not C
(`privacy/README.md`).
"""

import torch
from torch import Tensor
from torch.nn import functional as F


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Return float32[B]: mean negative log-likelihood of each record's answer tokens, in nats.

    `logits` float32[B, K, V]; `targets` int64[B, K] with -100 where nothing is asked.
    """
    losses = F.cross_entropy(logits.transpose(1, 2), targets, ignore_index=-100, reduction="none")  # [B, K]
    return _mean_over_answer(losses, targets)


def distillation(student: Tensor, teacher: Tensor, targets: Tensor, temperature: float) -> Tensor:
    """Return float32[B]: T²·KL(teacher ‖ student) per answer token (eq. 5; T² as Hinton et al. 2015).

    The teacher is detached: each side follows the other's present distribution and is not pulled through it
    (Deep Mutual Learning, Zhang et al. 2018). `student`, `teacher` float32[B, K, V].

    Raises:
        ValueError: the vocabularies differ.
    """
    if student.shape != teacher.shape:
        raise ValueError(f"distillation: expected equal shapes, got {list(student.shape)} and {list(teacher.shape)}")
    log_student = F.log_softmax(student / temperature, dim=-1)
    log_teacher = F.log_softmax(teacher.detach() / temperature, dim=-1)
    divergence = F.kl_div(log_student, log_teacher, log_target=True, reduction="none").sum(dim=-1)  # [B, K]
    return temperature**2 * _mean_over_answer(divergence, targets)


def _mean_over_answer(values: Tensor, targets: Tensor) -> Tensor:
    asked = targets != -100  # [B, K]
    return (values * asked).sum(dim=1) / asked.sum(dim=1).clamp(min=1).to(torch.float32)
