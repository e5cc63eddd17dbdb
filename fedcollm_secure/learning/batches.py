"""Records → token ids → padded batches, split into prompt and answer exactly as lm-evaluation-harness does.

A text begins with what the tokenizer itself puts before one: a beginning-of-text token for Llama, Gemma and OPT,
nothing for GPT-2. What a tokenizer would append is left out: a prompt that ended with an end-of-text token would have
its answer after the end (the harness then cuts in the wrong place).

Sequences are padded on the left: answers then end at the same place, and the model's head runs on the last few
positions alone (`logits_to_keep`), which for short answers saves most of the work of a large vocabulary.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate
from typing import cast

import torch
from torch import Tensor, nn
from transformers import PreTrainedTokenizerBase

from fedcollm_secure.errors import ConfigError

WIDTH_STEP, KEEP_STEP = 8, 4
SOME_TEXT = "text"
TOKENS_PER_PASS = 4096  # padded tokens in memory at once while training
MOST_PADDING = 1.1  # padded tokens of a batch for each real one
FEW_TOKENS = 32  # of a batch that takes on more padding rather than leave a pass nearly empty


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """One tokenised record: never packed with another, so that one record is one unit of privacy."""

    prompt: tuple[int, ...] = field(repr=False)
    answer: tuple[int, ...] = field(repr=False)

    @property
    def width(self) -> int:
        """Return how many positions a model reads: the answer's last token is predicted, not read."""
        return len(self.prompt) + len(self.answer) - 1


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Left-padded sequences; `targets` holds the answer's ids at the last `keep` positions and -100 before it."""

    ids: Tensor = field(repr=False)  # int64[B, T]
    mask: Tensor = field(repr=False)  # int64[B, T]
    targets: Tensor = field(repr=False)  # int64[B, keep]

    @property
    def keep(self) -> int:
        """Return how many positions the head must score."""
        return int(self.targets.shape[1])


@dataclass(frozen=True, kw_only=True)
class Shape:
    """Of a forward pass: `width` positions, of which the head scores the last `keep`."""

    width: int
    keep: int

    @classmethod
    def covering(cls, shapes: Sequence["Shape"]) -> "Shape":
        """Return the smallest shape that all of these fit in."""
        return cls(width=max(shape.width for shape in shapes), keep=max(shape.keep for shape in shapes))


SMALLEST = Shape(width=1, keep=1)


class Encoder:
    """Tokenise (prompt, answer) pairs for one model family."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase, max_length: int, *, end_answers: bool) -> None:
        """Keep at most `max_length` tokens; `end_answers` adds the end-of-text token (free text)."""
        self._tokenizer = tokenizer
        self.max_length = max_length
        end = cast(int | None, tokenizer.eos_token_id)
        self._end = [end] if end_answers and end is not None else []
        self.pad = cast(int | None, tokenizer.pad_token_id) or 0
        self._before = beginning(tokenizer)
        self._first = self._first_token()
        self._written = cast(str, tokenizer.decode([self._first]))

    def encode(self, pairs: Sequence[tuple[str, str]], places: Sequence[str] = ()) -> list[Tokens]:
        """Tokenise prompt and answer together and cut where the prompt's own tokens end.

        Blanks at the prompt's end go to the answer; a prompt that is too long loses its beginning.

        Raises:
            ConfigError: an answer is empty, or too long for the model; with its entry in `places`, if given.
        """
        named = places or ["data.task"] * len(pairs)
        return [self._fit(*self._parted(*texts), place) for texts, place in zip(self._both(pairs), named, strict=True)]

    def spans(self, pairs: Sequence[tuple[str, str]]) -> list[list[tuple[int, int]]]:
        """Return for each answer token that `encode` gives the characters before it and up to its end, without blanks.

        Only tokenizers that are fast, as transformers calls them, can say.
        """
        moved = [_move_blanks(prompt, answer) for prompt, answer in pairs]
        texts = [prompt + answer for prompt, answer in moved]
        if not texts:
            return []
        told = self._tokenizer(texts, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        lengths = [len(tokens.answer) - len(self._end) for tokens in self.encode(pairs)]
        return [
            _without_blanks(text, list(offsets)[len(offsets) - length :], len(self._end))
            for text, offsets, length in zip(texts, cast(list[list[tuple[int, int]]], told), lengths, strict=True)
        ]

    def prompt(self, text: str) -> list[int]:
        """Return the tokens of a prompt that a model is to go on from."""
        return self._ids([text.rstrip()])[0] or [self._first]

    def text(self, ids: Sequence[int]) -> str:
        """Return what tokens stand for, without special ones."""
        return cast(str, self._tokenizer.decode(list(ids), skip_special_tokens=True))

    def measure(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[int, bool]]:
        """Return each record's tokens, and whether it loses some of them since there are more than the model takes."""
        parted = [self._parted(*texts) for texts in self._both(pairs)]
        return [(len(prompt) + len(answer), len(prompt) > self._room(answer)) for prompt, answer in parted]

    def _both(self, pairs: Sequence[tuple[str, str]]) -> list[tuple[list[int], list[int]]]:
        """Return the tokens of each prompt, and of prompt and answer together."""
        moved = [_move_blanks(prompt, answer) for prompt, answer in pairs]
        asked = list(dict.fromkeys(prompt for prompt, _ in moved))  # a prompt with many answers is tokenised once
        tokens = dict(zip(asked, self._ids(asked), strict=True))
        wholes = self._ids([prompt + answer for prompt, answer in moved])
        return [(tokens[prompt], whole) for (prompt, _), whole in zip(moved, wholes, strict=True)]

    def _ids(self, texts: list[str]) -> list[list[int]]:
        """Return each text's tokens; one that begins with the written-out token gets no second one (as the harness)."""
        if not texts:
            return []
        found = self._tokenizer(texts, add_special_tokens=False)["input_ids"]
        return [
            list(ids) if text.startswith(self._written) else [*self._before, *ids]
            for text, ids in zip(texts, found, strict=True)
        ]

    def _parted(self, prompt: list[int], whole: list[int]) -> tuple[list[int], list[int]]:
        """Return the prompt's tokens and the answer's, with what ends it."""
        answer = whole[len(prompt) :] + self._end
        if not prompt:
            answer = answer[1:] if answer[:1] == [self._first] else answer
            prompt = [self._first]
        return prompt, answer

    def _fit(self, prompt: list[int], answer: list[int], place: str) -> Tokens:
        if not answer or len(answer) > self.max_length:
            raise ConfigError(
                place,
                f"expected an answer of 1 to {self.max_length} tokens, got one of {len(answer)}; shorten it, or take "
                "models with a longer context",
            )
        return Tokens(prompt=tuple(prompt[-self._room(answer) :]), answer=tuple(answer))

    def _room(self, answer: list[int]) -> int:
        """Return how many of the prompt's tokens fit: the answer's last one is predicted, not read."""
        return self.max_length + 1 - len(answer)

    def _first_token(self) -> int:
        tokens = cast(tuple[int | None, ...], (self._tokenizer.bos_token_id, self._tokenizer.eos_token_id))
        return next((token for token in tokens if token is not None), self.pad)

    def shape(self, record: Tokens) -> Shape:
        """Return a record's own lengths, rounded up so that few shapes serve all records."""
        width = max(record.width, min(_rounded_up(record.width, WIDTH_STEP), self.max_length))
        return Shape(width=width, keep=min(_rounded_up(len(record.answer), KEEP_STEP), width))

    def collate(self, sequences: Sequence[Tokens], device: torch.device, least: Shape = SMALLEST) -> Batch:
        """Pad to the longest, and to `least` at least; an empty list gives tensors with B = 0."""
        rows = [(*sequence.prompt, *sequence.answer[:-1]) for sequence in sequences]
        width = max((len(row) for row in rows), default=1)
        keep = max((len(sequence.answer) for sequence in sequences), default=1)
        shape = Shape.covering([least, Shape(width=width, keep=keep)])
        ids = torch.full((len(rows), shape.width), self.pad, dtype=torch.int64)
        mask = torch.zeros((len(rows), shape.width), dtype=torch.int64)
        targets = torch.full((len(rows), shape.keep), -100, dtype=torch.int64)
        for number, (row, sequence) in enumerate(zip(rows, sequences, strict=True)):
            ids[number, shape.width - len(row) :] = torch.tensor(row)
            mask[number, shape.width - len(row) :] = 1
            targets[number, shape.keep - len(sequence.answer) :] = torch.tensor(sequence.answer)
        return Batch(ids=ids.to(device), mask=mask.to(device), targets=targets.to(device))


def _rounded_up(length: int, step: int) -> int:
    return -(-length // step) * step


def beginning(tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """Return the tokens that a tokenizer puts before every text of its own accord."""
    bare, dressed = (
        cast(list[int], tokenizer(SOME_TEXT, add_special_tokens=special)["input_ids"]) for special in (False, True)
    )
    places = range(len(dressed) - len(bare) + 1)
    return list(dressed[: next((place for place in places if dressed[place : place + len(bare)] == bare), 0)])


def filled(
    lengths: Sequence[int], budget: int, *, also: tuple[Sequence[int], int] | None = None
) -> Iterator[list[int]]:
    """Yield the indices of sequences in batches of at most `budget` padded tokens each, the shortest first.

    `also` is a second measure of each sequence with a budget of its own: a batch times the largest stays within it. A
    batch ends early where one more sequence would make it padding by more than `MOST_PADDING`, unless it has hardly
    any tokens yet: a pass of few costs as much as a pass of some. It holds one sequence at least.
    """
    measures, budgets = (lengths, *([also[0]] if also else [])), (budget, *([also[1]] if also else []))
    batch: list[int] = []
    largest = [0] * len(measures)
    real = 0
    for index in sorted(range(len(lengths)), key=lambda each: lengths[each]):
        grown = [max(most, measure[index]) for most, measure in zip(largest, measures, strict=True)]
        padded = (len(batch) + 1) * grown[0]
        full = any((len(batch) + 1) * most > limit for most, limit in zip(grown, budgets, strict=True))
        idle = real >= FEW_TOKENS and padded > MOST_PADDING * (real + lengths[index])
        if batch and (full or idle):
            yield batch
            batch, grown, real = [], [measure[index] for measure in measures], 0
        batch.append(index)
        largest, real = grown, real + lengths[index]
    if batch:
        yield batch


def length_order(sequences: Sequence[Tokens]) -> list[int]:
    """Return the indices in order of length, so that neighbours pad each other little."""
    return sorted(range(len(sequences)), key=lambda index: sequences[index].width)


def answer_logits(model: nn.Module, batch: Batch) -> Tensor:
    """Return float32[B, keep, V]: the model's logits where `batch.targets` stand."""
    positions = (batch.mask.cumsum(dim=1) - 1).clamp(min=0)  # a left pad must not move the positions
    output = model(
        input_ids=batch.ids,
        attention_mask=batch.mask,
        position_ids=positions,
        logits_to_keep=batch.keep,
        use_cache=False,
    )
    return output.logits.float()  # type: ignore[no-any-return] # transformers' output is untyped


def max_length(model: nn.Module) -> int:
    """Return the longest sequence that the model takes."""
    return longest_sequence(model.config)


def longest_sequence(settings: object) -> int:
    """Return the same from a model's configuration."""
    for name in ("max_position_embeddings", "n_positions"):
        if isinstance(length := getattr(settings, name, None), int):
            return length
    return 1024


def _without_blanks(text: str, offsets: Sequence[tuple[int, int]], ends: int) -> list[tuple[int, int]]:
    """Return the same places, counted in characters that are no blanks; tokens that end a text stand at its end."""
    seen = [0, *accumulate(not letter.isspace() for letter in text)]
    return [*((seen[start], seen[end]) for start, end in offsets), *[(seen[-1], seen[-1])] * ends]


def _move_blanks(prompt: str, answer: str) -> tuple[str, str]:
    stripped = prompt.rstrip()
    return stripped, prompt[len(stripped) :] + answer
