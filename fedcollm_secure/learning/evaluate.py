"""Score a model on records, public or a silo's own: as lm-evaluation-harness scores `acc` and `acc_norm`, or free text.

Multiple choice and classification: the answer with the largest log-likelihood wins (`accuracy`), or with the largest
log-likelihood per character (`accuracy_norm`). Free text: `perplexity` per answer token, and `exact_match`, whether
greedy decoding would yield the answer token by token.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from torch import nn

from fedcollm_secure.learning.batches import Encoder, Tokens
from fedcollm_secure.learning.data.tasks import Record
from fedcollm_secure.learning.likelihoods import Likelihood, log_likelihoods

Scores = Mapping[str, float]


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A model's scores, and record by record whether it was right by the first of them that is a rate.

    That is `accuracy` for records with several answers, `exact_match` for free text.
    """

    scores: Scores
    right: tuple[bool, ...] = field(repr=False)

    @property
    def by_record(self) -> tuple[float, ...]:
        """Return the first score by record, 1 or 0, where it is a rate of right answers; else nothing."""
        return tuple(map(float, self.right)) if next(iter(self.scores)) != "perplexity" else ()


class Evaluation:
    """A test set, tokenised once and scored after every round."""

    def __init__(self, records: Sequence[Record], encoder: Encoder, *, tokens_per_batch: int) -> None:
        """Tokenise every (prompt, answer) pair."""
        self._records = records
        self._encoder = encoder
        self._tokens_per_batch = tokens_per_batch
        pairs = [(record.prompt, answer) for record in records for answer in record.answers]
        self._sequences = encoder.encode(pairs)

    @property
    def sequences(self) -> Sequence[Tokens]:
        """Return every prompt with each of its answers."""
        return self._sequences

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
        found = log_likelihoods(model, self._encoder, self._sequences, tokens_per_batch=self._tokens_per_batch)
        return _judge_text(found) if self.free_text else _judge_choices(self._records, found)


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
