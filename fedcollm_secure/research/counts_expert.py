"""The baseline that costs a model no training: the silos' word counts beside it, as a second expert.

    odds(label | record) = log p(label | prompt) of the model, normalised over the labels + β · log p(label | words)

The counts are those of `word_counts`: one noisy sum, one Gaussian event, at the same ε as the training that it is held
against. β is chosen on the server's own records, which no silo counts: it is public, and costs no ε.
"""

from collections.abc import Mapping, Sequence
from typing import Final, Literal

import numpy as np

from fedcollm_secure.assemble.prepare import Prepared
from fedcollm_secure.learning.data.tasks import Record
from fedcollm_secure.learning.evaluate import Judged
from fedcollm_secure.learning.likelihoods import log_likelihoods
from fedcollm_secure.research.word_counts import Float64, SiloCounts

Model = Literal["slm", "llm"]
MODELS: Final[tuple[Model, ...]] = ("slm", "llm")
BETAS: Final = (0.0, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0)


def judge(prepared: Prepared) -> Mapping[str, Judged]:
    """Return which test records each of the server's models answers right with the silos' word counts beside it.

    Raises: ValueError for a job that `word_counts.can_follow` says no of.
    """
    counts = SiloCounts.summed(prepared)
    public, test = prepared.holdings.auxiliary, prepared.holdings.test
    found: dict[str, Judged] = {}
    for name in MODELS:
        beta = best_beta(label_odds(prepared, name, public), counts.odds(public), public)
        both = label_odds(prepared, name, test) + beta * counts.with_public().odds(test)
        right = tuple(bool(each) for each in answered_right(both, test))
        found[name] = Judged(scores={"accuracy": sum(right) / len(right)}, right=right)
    return found


def label_odds(prepared: Prepared, name: Model, records: Sequence[Record]) -> Float64:
    """Return log p(label | prompt) under the server's LLM or SLM, normalised over the labels, float64[N, L]."""
    is_llm = name == "llm"
    adapter, encoder = (
        (prepared.server_llm, prepared.llm_encoder) if is_llm else (prepared.server_slm, prepared.encoder)
    )
    pairs = [(record.prompt, answer) for record in records for answer in record.answers]
    found = log_likelihoods(
        adapter.model,
        encoder,
        encoder.encode(pairs),
        tokens_per_batch=prepared.config.evaluate.tokens_per_batch,
    )
    logs = np.array([each.log for each in found]).reshape(len(records), -1)
    logs -= logs.max(axis=1, keepdims=True)
    normalised: Float64 = logs - np.log(np.exp(logs).sum(axis=1, keepdims=True))
    return normalised


def best_beta(known: Float64, counted: Float64, records: Sequence[Record]) -> float:
    """Return the β of `BETAS` with which most records are answered right; the smallest of equals."""
    return BETAS[int(np.argmax([answered_right(known + beta * counted, records).sum() for beta in BETAS]))]


def answered_right(odds: Float64, records: Sequence[Record]) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """Return bool[N]: whether the likeliest label is the right one."""
    right: np.ndarray[tuple[int], np.dtype[np.bool_]] = odds.argmax(axis=1) == [record.gold for record in records]
    return right
