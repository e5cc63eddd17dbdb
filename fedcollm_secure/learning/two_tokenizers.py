"""LLM and SLM with tokenizers of their own: which tokens they share, and where an answer has one token for both.

    answer " cardiology ward"      llm |cardiology|ward|      slm |cardio|logy|ward|      both read |ward|

Two tokens are one where they cover the same characters of one record and stand for the same text. There both models
predict the next token after the same text, and their distributions are compared over the tokens that both vocabularies
have. FedMKT (arXiv 2406.02224) aligns by edit distances between all pairs of tokens and along each answer; here places
are numbers of characters, blanks apart, which tokenizers count to one or the other side.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, cast

import torch
from torch import Tensor
from torch.nn import functional as F
from transformers import PreTrainedTokenizerBase

from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.batches import SOME_TEXT, Batch, Encoder, Tokens
from fedcollm_secure.learning.losses import distillation

Span = tuple[int, int]
"""Characters before a token and up to its end, blanks not counted."""
_UNKNOWN = "\ufffd"  # what a tokenizer writes for a token that is a part of a character


@dataclass(frozen=True, kw_only=True)
class SharedVocabulary:
    """Tokens of both vocabularies that stand for one text: `llm` and `slm` int64[K], in the same order."""

    llm: Tensor = field(repr=False)
    slm: Tensor = field(repr=False)

    @property
    def slm_to_llm(self) -> Mapping[int, int]:
        """Return the LLM's token for each token of the SLM that has one."""
        return dict(zip(self.slm.tolist(), self.llm.tolist(), strict=True))


def shared_vocabulary(llm: PreTrainedTokenizerBase, slm: PreTrainedTokenizerBase) -> SharedVocabulary:
    """Return the tokens that both have: of one part in a text (its end), of the same text, or of the same name."""
    found: dict[int, int] = {}
    taken: set[int] = set()
    special = _special(llm), _special(slm)
    names = {name: token for name, token in llm.get_vocab().items() if token not in special[0].values()}
    own = {name: token for name, token in slm.get_vocab().items() if token not in special[1].values()}
    for here, there in (
        (special[1], special[0]),
        (_texts(slm, own), _texts(llm, names)),
        (own, names),
    ):
        for what, token in here.items():
            other = there.get(what)
            if other is not None and token not in found and other not in taken:
                found[token] = other
                taken.add(other)
    order = sorted(found)
    return SharedVocabulary(llm=torch.tensor([found[token] for token in order]), slm=torch.tensor(order))


def _special(tokenizer: PreTrainedTokenizerBase) -> dict[str, int]:
    """Return the tokens that end and begin a text and stand for nothing, by what they do."""
    does = {"end": tokenizer.eos_token_id, "begin": tokenizer.bos_token_id, "pad": tokenizer.pad_token_id}
    does["unknown"] = tokenizer.unk_token_id
    first: dict[int, str] = {}
    for what, token in does.items():
        if isinstance(token, int):
            first.setdefault(token, what)  # one that does several is named by the first
    return {what: token for token, what in first.items()}


def _texts(tokenizer: PreTrainedTokenizerBase, vocabulary: Mapping[str, int]) -> dict[str, int]:
    """Return tokens by what they add to a text before them, blanks included; parts of characters are left out."""
    before = cast(list[int], tokenizer(SOME_TEXT, add_special_tokens=False)["input_ids"])
    tokens = sorted(vocabulary.values())
    written = tokenizer.batch_decode([[*before, token] for token in tokens], clean_up_tokenization_spaces=False)
    bare = cast(str, tokenizer.decode(before, clean_up_tokenization_spaces=False))
    found: dict[str, int] = {}
    for token, text in zip(tokens, written, strict=True):
        added = text.removeprefix(bare)
        if added and _UNKNOWN not in added:
            found.setdefault(added, token)
    return found


def require_offsets(tokenizer: PreTrainedTokenizerBase, where: str) -> None:
    """Refuse a tokenizer that cannot say which characters a token covers. Raises: ConfigError."""
    if not tokenizer.is_fast:
        raise ConfigError(
            where,
            "distill.align: tokens needs a tokenizer that says which characters a token covers (a tokenizer.json, as "
            "transformers' fast ones have); this one does not",
        )


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """The auxiliary records as both models read them; `places[i]` are the answer tokens of record i that are one."""

    llm_encoder: Encoder
    llm_records: Sequence[Tokens] = field(repr=False)
    places: Sequence[tuple[tuple[int, int], ...]] = field(repr=False)  # (place in the LLM's answer, in the SLM's)
    vocabulary: SharedVocabulary

    @property
    def share(self) -> float:
        """Return how many of the LLM's answer tokens are also the SLM's."""
        return sum(map(len, self.places)) / sum(len(record.answer) for record in self.llm_records)


def align(texts: Sequence[tuple[str, str]], llm: Encoder, slm: Encoder, vocabulary: SharedVocabulary) -> Aligned:
    """Return (prompt, answer) `texts` read by the LLM, and where it agrees with the SLM on what a token is."""
    llm_records, slm_records = llm.encode(texts), slm.encode(texts)
    counterpart = vocabulary.slm_to_llm
    places = [
        _same(one.answer, one_spans, [counterpart.get(token, -1) for token in other.answer], other_spans)
        for one, one_spans, other, other_spans in zip(
            llm_records, llm.spans(texts), slm_records, slm.spans(texts), strict=True
        )
    ]
    return Aligned(llm_encoder=llm, llm_records=llm_records, places=places, vocabulary=vocabulary)


def _same(
    llm: Sequence[int], llm_spans: Sequence[Span], slm: Sequence[int], slm_spans: Sequence[Span]
) -> tuple[tuple[int, int], ...]:
    """Return the places of equal tokens over equal characters; of several at one place each goes with its own."""
    waiting: dict[tuple[int, Span], list[int]] = {}
    for place, key in enumerate(zip(llm, llm_spans, strict=True)):
        waiting.setdefault(key, []).append(place)
    found: list[tuple[int, int]] = []
    for place, key in enumerate(zip(slm, slm_spans, strict=True)):
        if queue := waiting.get(key):
            found.append((queue.pop(0), place))
    return tuple(found)


@dataclass(frozen=True, kw_only=True)
class Both:
    """One batch as each model reads it; `at` says where they are compared, None where tokenizer and batch are one."""

    llm: Batch
    slm: Batch
    at: "Places | None" = None

    def divergence(self, name: Literal["llm", "slm"], student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
        """Return float32[B]: T²·KL(teacher ‖ student) over the answer; the student is `name`, the teacher detached."""
        if self.at is None:
            shared = min(student.shape[-1], teacher.shape[-1])  # rows past the vocabulary pad the matrix; no token
            return distillation(student[..., :shared], teacher[..., :shared], self.slm.targets, temperature)
        own = self.at.chosen(student, name)
        other = self.at.chosen(teacher.detach(), "slm" if name == "llm" else "llm")
        log_own, log_other = (F.log_softmax(each / temperature, dim=-1) for each in (own, other))
        return temperature**2 * _mean_divergence(log_own, log_other, self.at.rows, len(student))


@dataclass(frozen=True, kw_only=True)
class Places:
    """P tokens of a batch that are one for both: `rows` int64[P], and the positions of each among the logits kept."""

    rows: Tensor
    llm: Tensor
    slm: Tensor
    vocabulary: SharedVocabulary

    def chosen(self, logits: Tensor, name: Literal["llm", "slm"]) -> Tensor:
        """Return float32[P, K] of one model's `logits` float32[B, keep, V]: at these places, of shared tokens."""
        of_llm = name == "llm"
        positions, tokens = (self.llm, self.vocabulary.llm) if of_llm else (self.slm, self.vocabulary.slm)
        return logits[self.rows, positions][:, tokens.to(logits.device)]


def both(
    aligned: Aligned, slm_records: Sequence[Tokens], slm: Encoder, indices: Sequence[int], device: torch.device
) -> Both:
    """Return the batch of these records for both models."""
    ours = slm.collate([slm_records[index] for index in indices], device)
    theirs = aligned.llm_encoder.collate([aligned.llm_records[index] for index in indices], device)
    rows: list[int] = []
    at: tuple[list[int], list[int]] = ([], [])
    for row, index in enumerate(indices):
        for one, other in aligned.places[index]:
            rows.append(row)
            at[0].append(theirs.keep - len(aligned.llm_records[index].answer) + one)
            at[1].append(ours.keep - len(slm_records[index].answer) + other)
    as_tensor = [torch.tensor(each, dtype=torch.int64, device=device) for each in (rows, *at)]
    places = Places(rows=as_tensor[0], llm=as_tensor[1], slm=as_tensor[2], vocabulary=aligned.vocabulary)
    return Both(llm=theirs, slm=ours, at=places)


def _mean_divergence(student: Tensor, teacher: Tensor, rows: Tensor, records: int) -> Tensor:
    """Return float32[B]: the mean over a record's P rows of KL; 0, without a gradient, where it has none."""
    each = F.kl_div(student, teacher, log_target=True, reduction="none").sum(dim=-1)  # [P]
    counts = torch.bincount(rows, minlength=records).clamp(min=1)
    return torch.zeros(records, device=each.device).index_add(0, rows, each) / counts
