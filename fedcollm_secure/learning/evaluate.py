"""Score a model on records, public or a silo's own: as lm-evaluation-harness scores `acc` and `acc_norm`, or free text.

Multiple choice and classification: the answer with the largest log-likelihood wins (`accuracy`), or with the largest
log-likelihood per character (`accuracy_norm`). Free text: `perplexity` per answer token, and `exact_match`, whether
greedy decoding would yield the answer token by token.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fedcollm_secure.learning.batches import Batch, Encoder, Tokens, answer_logits
from fedcollm_secure.learning.data.tasks import Record

Scores = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """Of one answer: natural log-likelihood, whether it is the greedy continuation, and its tokens."""

    log: float
    greedy: bool
    tokens: int = field(default=0)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A model's scores, and record by record whether it was right by the first of them that is a rate.

    That is `accuracy` for records with several answers, `exact_match` for free text.
    """

    scores: Scores
    right: tuple[bool, ...] = field(repr=False)


class Evaluation:
    """A test set, tokenised once and scored after every round."""

    def __init__(self, records: Sequence[Record], encoder: Encoder, *, batch_size: int) -> None:
        """Tokenise every (prompt, answer) pair."""
        self._records = records
        self._encoder = encoder
        self._batch_size = batch_size
        pairs = [(record.prompt, answer) for record in records for answer in record.answers]
        self._sequences = encoder.encode(pairs)

    @property
    def free_text(self) -> bool:
        """Return whether records have one answer each."""
        return all(len(record.answers) == 1 for record in self._records)

    @property
    def rate(self) -> str:
        """Return the name of the score that says how many answers were right."""
        return "exact_match" if self.free_text else "accuracy"

    def score(self, model: nn.Module) -> Scores:
        """Return `accuracy` and `accuracy_norm`, or `perplexity` and `exact_match`, over all records."""
        return self.judge(model).scores

    def judge(self, model: nn.Module) -> Judged:
        """Return the scores, and which records were answered right."""
        found = log_likelihoods(model, self._encoder, self._sequences, batch_size=self._batch_size)
        return _judge_text(found) if self.free_text else _judge_choices(self._records, found)


@torch.no_grad()
def log_likelihoods(
    model: nn.Module, encoder: Encoder, sequences: Sequence[Tokens], *, batch_size: int
) -> list[Likelihood]:
    """Return each sequence's answer likelihood, in order.

    Sequences that differ in a one-token answer alone are read once: a classification with one-token labels costs one
    forward pass a record.
    """
    was_training = model.training
    model.eval()
    found: dict[Tokens, Likelihood] = {}
    # Where the answer begins is part of the key: of another record's split of the same tokens nothing may depend.
    groups: dict[tuple[tuple[int, ...], tuple[int, ...]], list[Tokens]] = {}
    for sequence in sequences:
        groups.setdefault((tuple(sequence.prompt), tuple(sequence.answer[:-1])), []).append(sequence)
    shared = sorted(groups.values(), key=lambda group: len(group[0].prompt) + len(group[0].answer))
    device = next(model.parameters()).device
    for start in range(0, len(shared), batch_size):
        part = shared[start : start + batch_size]
        batch = encoder.collate([group[0] for group in part], device)
        scores = F.log_softmax(answer_logits(model, batch), dim=-1)  # [B, K, V]
        for group, found_here in zip(part, _read_off(scores, batch, part), strict=True):
            found.update(zip(group, found_here, strict=True))
    model.train(was_training)
    return [found[sequence] for sequence in sequences]


def _read_off(scores: Tensor, batch: Batch, groups: Sequence[Sequence[Tokens]]) -> list[list[Likelihood]]:
    """Pick the answers' log-probabilities; in a group only the last token differs."""
    asked = batch.targets != -100  # [B, K]
    picked = scores.gather(2, batch.targets.clamp(min=0).unsqueeze(2)).squeeze(2)  # [B, K]
    best = scores.argmax(dim=2)  # [B, K]
    before = (picked * asked)[:, :-1].sum(dim=1).tolist()
    followed = ((best == batch.targets) | ~asked)[:, :-1].all(dim=1).tolist()
    last_best = best[:, -1].tolist()
    result: list[list[Likelihood]] = []
    for row, group in enumerate(groups):
        lasts = scores[row, -1, [sequence.answer[-1] for sequence in group]].tolist()
        result.append(
            [
                Likelihood(
                    log=before[row] + last,
                    greedy=followed[row] and sequence.answer[-1] == last_best[row],
                    tokens=len(sequence.answer),
                )
                for sequence, last in zip(group, lasts, strict=True)
            ]
        )
    return result


def _judge_choices(records: Sequence[Record], found: Sequence[Likelihood]) -> Judged:
    right: list[bool] = []
    right_per_character = start = 0
    for record in records:
        logs = [likelihood.log for likelihood in found[start : start + len(record.answers)]]
        start += len(record.answers)
        per_character = [log / len(answer.lstrip(" ")) for log, answer in zip(logs, record.answers, strict=True)]
        right.append(logs.index(max(logs)) == record.gold)
        right_per_character += per_character.index(max(per_character)) == record.gold
    scores = {"accuracy": sum(right) / len(records), "accuracy_norm": right_per_character / len(records)}
    return Judged(scores=scores, right=tuple(right))


def _judge_text(found: Sequence[Likelihood]) -> Judged:
    tokens = sum(likelihood.tokens for likelihood in found)
    nats = -sum(likelihood.log for likelihood in found)
    right = tuple(likelihood.greedy for likelihood in found)
    scores = {"perplexity": math.exp(min(700.0, nats / tokens)), "exact_match": sum(right) / len(found)}
    return Judged(scores=scores, right=right)
