"""Ask a model one question: which of some answers it finds likeliest, or what it would write."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import torch
from peft import PeftModelForCausalLM
from torch import Tensor

from fedcollm_secure.learning.batches import Encoder
from fedcollm_secure.learning.likelihoods import log_likelihoods


@dataclass(frozen=True, kw_only=True)
class Answered:
    """One answer: its natural log-likelihood after the prompt, and its share of all that were asked about."""

    text: str
    log: float
    probability: float


def ranked(
    model: torch.nn.Module, encoder: Encoder, prompt: str, answers: Sequence[str], *, tokens_per_batch: int
) -> list[Answered]:
    """Return the answers, likeliest first, scored as `evaluate` scores them; probabilities sum to 1 over these alone.

    Raises:
        ConfigError: an answer is empty or too long.
    """
    sequences = encoder.encode([(prompt, answer) for answer in answers])
    logs = [found.log for found in log_likelihoods(model, encoder, sequences, tokens_per_batch=tokens_per_batch)]
    most = max(logs)
    whole = math.fsum(math.exp(log - most) for log in logs)
    found = [
        Answered(text=answer.strip(), log=log, probability=math.exp(log - most) / whole)
        for answer, log in zip(answers, logs, strict=True)
    ]
    return sorted(found, key=lambda each: -each.log)


@torch.no_grad()
def continued(model: torch.nn.Module, encoder: Encoder, prompt: str, *, most_tokens: int) -> str:
    """Return what the model writes after the prompt by greedy decoding, up to its end-of-text token or so many tokens.

    A prompt that is too long loses its beginning, as in training.
    """
    room = max(1, encoder.max_length - most_tokens)
    ids = torch.tensor([encoder.prompt(prompt)[-room:]], device=next(model.parameters()).device)  # int64[1, T]
    written = cast(
        Tensor,
        cast(PeftModelForCausalLM, model).generate(  # type: ignore[no-untyped-call]  # peft's own
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=most_tokens,
            do_sample=False,
            num_beams=1,
            pad_token_id=encoder.pad,
        ),
    )
    return encoder.text(written[0, ids.shape[1] :].tolist()).strip()
