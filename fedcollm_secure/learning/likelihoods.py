"""Answers' log-likelihoods under a model, each prompt read once, whatever the number and length of its answers.

    prompt ──one pass──▶ first token of every answer, and the prompt's keys and values
                         └──shared by all answers of several tokens──▶ one short pass for the tokens that follow

Answers that differ in their last token alone are one reading: classification by one-token labels costs a pass a
record. A prompt with a single such reading is read together with it. Passes are filled up to a number of padded tokens,
and to a number of logits, which at a large vocabulary take more memory than all else.

A model whose past is more than keys and values (linear attention, state spaces) reads each answer with its prompt.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import cast

import torch
from torch import Tensor, nn
from transformers import DynamicCache, PretrainedConfig
from transformers.cache_utils import DynamicLayer

from fedcollm_secure.learning.batches import Encoder, Tokens, answer_logits, filled
from fedcollm_secure.learning.merged import merged

MOST_LOGITS = 1 << 24
"""Logits of a pass, 64 MiB of float32; a single sequence may have more."""
PAST_PER_TOKEN = 2
"""Positions that a short pass may look back on, for each token that a pass may hold: their copies are what it costs."""


@dataclass(frozen=True, kw_only=True)
class Likelihood:
    """Of one answer: natural log-likelihood, whether it is the greedy continuation, and its tokens."""

    log: float
    greedy: bool
    tokens: int = field(default=0)


@dataclass(frozen=True, kw_only=True)
class Pass:
    """A forward pass before it is made: rows × width tokens, of which `real` are no padding; the head scores `keep`."""

    rows: int
    width: int
    keep: int
    real: int

    @classmethod
    def over(cls, lengths: Sequence[int], *, width: int, keep: int) -> "Pass":
        """Return the pass over sequences of these lengths."""
        return cls(rows=len(lengths), width=width, keep=keep, real=sum(lengths))

    @property
    def padded(self) -> int:
        """Return the tokens that the model reads, padding included."""
        return self.rows * self.width


@dataclass(frozen=True, kw_only=True)
class _Reading:
    """Answers that differ in their last token alone: what is read after the prompt, and the last tokens."""

    read: tuple[int, ...]  # the answers without their last token
    answers: list[Tokens]


@torch.no_grad()
def log_likelihoods(
    model: nn.Module, encoder: Encoder, sequences: Sequence[Tokens], *, tokens_per_batch: int
) -> list[Likelihood]:
    """Return each sequence's answer likelihood, in order; a pass holds at most so many padded tokens, or one sequence.

    Where the answer begins is part of what is compared: of another record's split of the same tokens nothing depends.
    """
    was_training = model.training
    model.eval()
    alone, shared = _sorted_out(model, sequences)
    found: dict[Tokens, Likelihood] = {}
    scorer = _Scorer(model=model, encoder=encoder, budget=tokens_per_batch)
    with merged(model):
        found.update(scorer.read_whole(alone))
        found.update(scorer.read_apart(shared))
    model.train(was_training)
    return [found[sequence] for sequence in sequences]


def scoring_passes(model: nn.Module, sequences: Sequence[Tokens], *, tokens_per_batch: int) -> Iterator[Pass]:
    """Yield the passes that `log_likelihoods` would make, without making any."""
    alone, shared = _sorted_out(model, sequences)
    positions, prompts = _positions(model), list(shared)
    lengths = [len(prompt) + len(reading.read) for prompt, reading in alone]
    kept = [len(reading.read) + 1 for _, reading in alone]
    for part in filled(lengths, tokens_per_batch, also=(kept, positions)):
        yield Pass.over(
            [lengths[i] for i in part], width=max(lengths[i] for i in part), keep=max(kept[i] for i in part)
        )
    for part in filled([len(prompt) for prompt in prompts], tokens_per_batch, also=([1] * len(prompts), positions)):
        chosen = [prompts[index] for index in part]
        width = max(map(len, chosen))
        yield Pass.over([len(prompt) for prompt in chosen], width=width, keep=1)
        further = [len(reading.read) for prompt in chosen for reading in shared[prompt] if reading.read]
        for following in _further(further, width, tokens_per_batch, positions):
            lasting = [further[index] for index in following]
            yield Pass.over(lasting, width=max(lasting), keep=max(lasting))


def _further(lengths: Sequence[int], width: int, budget: int, positions: int) -> Iterator[list[int]]:
    """Yield batches of what is read on after prompts of `width`; the head scores every token of it."""
    back = [width + length for length in lengths]
    yield from filled(lengths, min(budget, positions), also=(back, PAST_PER_TOKEN * budget))


@dataclass(frozen=True, kw_only=True)
class _Scorer:
    """A model at work, `budget` padded tokens at a time."""

    model: nn.Module
    encoder: Encoder
    budget: int

    def read_whole(self, items: Sequence[tuple[tuple[int, ...], _Reading]]) -> Iterator[tuple[Tokens, Likelihood]]:
        """Read prompts together with the one reading that each has."""
        lengths = [len(prompt) + len(reading.read) for prompt, reading in items]
        kept = [len(reading.read) + 1 for _, reading in items]
        for part in filled(lengths, self.budget, also=(kept, self._positions)):
            chosen = [items[index] for index in part]
            batch = self.encoder.collate([reading.answers[0] for _, reading in chosen], self._device)
            logits = answer_logits(self.model, batch)  # [B, K, V]
            for row, (_, reading) in zip(logits, chosen, strict=True):
                asked = len(reading.read) + 1
                yield from _judge(reading, row[len(row) - asked :])

    def read_apart(self, prompts: Mapping[tuple[int, ...], Sequence[_Reading]]) -> Iterator[tuple[Tokens, Likelihood]]:
        """Read prompts once, and after each its several readings."""
        listed = list(prompts)
        ones = [1] * len(listed)
        for part in filled([len(prompt) for prompt in listed], self.budget, also=(ones, self._positions)):
            yield from self._read_prompts([(listed[index], prompts[listed[index]]) for index in part])

    def _read_prompts(
        self, items: Sequence[tuple[tuple[int, ...], Sequence[_Reading]]]
    ) -> Iterator[tuple[Tokens, Likelihood]]:
        ids, mask = self._padded([prompt for prompt, _ in items], left=True)
        past = DynamicCache()
        first = self._logits(ids, mask, mask, past, keep=1)  # [B, 1, V]
        longer: list[tuple[int, _Reading]] = []
        for row, (_, readings) in enumerate(items):
            for reading in readings:
                if reading.read:
                    longer.append((row, reading))
                else:
                    yield from _judge(reading, first[row])
        lengths = [len(reading.read) for _, reading in longer]
        for part in _further(lengths, ids.shape[1], self.budget, self._positions):
            yield from self._read_on([longer[index] for index in part], mask, past, first)

    def _read_on(
        self, chosen: Sequence[tuple[int, _Reading]], mask: Tensor, past: DynamicCache, first: Tensor
    ) -> Iterator[tuple[Tokens, Likelihood]]:
        """Read the tokens that follow the first, with the prompts' keys and values of the rows concerned."""
        rows = torch.tensor([row for row, _ in chosen], device=self._device)
        ids, here = self._padded([reading.read for _, reading in chosen], left=False)
        seen = torch.cat([mask[rows], here], dim=1)
        copied = DynamicCache([(keys[rows], values[rows]) for keys, values in _layers(past)])
        logits = self._logits(ids, seen, here, copied, keep=ids.shape[1])  # [b, L, V]
        for (row, reading), following in zip(chosen, logits, strict=True):
            yield from _judge(reading, torch.cat([first[row], following[: len(reading.read)]]))

    def _logits(self, ids: Tensor, seen: Tensor, here: Tensor, past: DynamicCache, *, keep: int) -> Tensor:
        """Return float32[B, keep, V] of a pass over `ids`; `seen` is the mask of all keys, `here` that of the ids."""
        positions = (seen.cumsum(dim=1) - 1).clamp(min=0)[:, -here.shape[1] :]
        output = self.model(
            input_ids=ids,
            attention_mask=seen,
            position_ids=positions,
            past_key_values=past,
            use_cache=True,
            logits_to_keep=keep,
        )
        return output.logits.float()  # type: ignore[no-any-return] # transformers' output is untyped

    def _padded(self, texts: Sequence[tuple[int, ...]], *, left: bool) -> tuple[Tensor, Tensor]:
        """Return ids int64[B, T] and their mask."""
        width = max(map(len, texts))
        ids = torch.full((len(texts), width), self.encoder.pad, dtype=torch.int64)
        mask = torch.zeros((len(texts), width), dtype=torch.int64)
        for row, text in enumerate(texts):
            place = slice(width - len(text), width) if left else slice(0, len(text))
            ids[row, place], mask[row, place] = torch.tensor(text), 1
        return ids.to(self._device), mask.to(self._device)

    @property
    def _device(self) -> torch.device:
        return next(self.model.parameters()).device

    @property
    def _positions(self) -> int:
        return _positions(self.model)


def _positions(model: nn.Module) -> int:
    """Return at how many positions the head may score at once."""
    settings = cast(PretrainedConfig, model.config)
    return max(1, MOST_LOGITS // int(settings.get_text_config().vocab_size))


def _sorted_out(
    model: nn.Module, sequences: Sequence[Tokens]
) -> tuple[list[tuple[tuple[int, ...], _Reading]], dict[tuple[int, ...], list[_Reading]]]:
    """Return the readings that go with their prompts, and those that share one."""
    readings = _readings(sequences)
    shares = _keeps_keys_and_values(model)
    shared = {prompt: several for prompt, several in readings.items() if shares and len(several) > 1}
    return [(prompt, one) for prompt, several in readings.items() if prompt not in shared for one in several], shared


def _readings(sequences: Sequence[Tokens]) -> dict[tuple[int, ...], list[_Reading]]:
    """Return, by prompt, what is to be read after it."""
    found: dict[tuple[int, ...], dict[tuple[int, ...], _Reading]] = {}
    for sequence in dict.fromkeys(sequences):
        read = sequence.answer[:-1]
        of_prompt = found.setdefault(sequence.prompt, {})
        of_prompt.setdefault(read, _Reading(read=read, answers=[])).answers.append(sequence)
    return {prompt: list(readings.values()) for prompt, readings in found.items()}


def _judge(reading: _Reading, logits: Tensor) -> Iterator[tuple[Tokens, Likelihood]]:
    """Yield the answers with their likelihoods; `logits` float32[K, V] where their K tokens are predicted."""
    sums = logits.logsumexp(dim=1)  # [K]
    best = logits.argmax(dim=1).tolist()
    told = list(reading.read)
    places = torch.arange(len(told), device=logits.device)
    read = torch.tensor(told, dtype=torch.int64, device=logits.device)
    before = float((logits[places, read] - sums[:-1]).sum())
    lasts = [sequence.answer[-1] for sequence in reading.answers]
    logs = (logits[-1, lasts] - sums[-1]).tolist()
    followed = best[:-1] == told
    for sequence, last, log in zip(reading.answers, lasts, logs, strict=True):
        yield sequence, Likelihood(log=before + log, greedy=followed and last == best[-1], tokens=len(sequence.answer))


def _keeps_keys_and_values(model: nn.Module) -> bool:
    """Return whether a prompt's keys and values are all that a later token needs of it."""
    settings = getattr(model, "config", None)
    if not isinstance(settings, PretrainedConfig):
        return False
    return all(isinstance(layer, DynamicLayer) for layer in DynamicCache(config=settings).layers)


def _layers(past: DynamicCache) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the keys and values of each layer, float[B, heads, T, width]."""
    for layer in past.layers:
        if not isinstance(layer, DynamicLayer) or layer.keys is None or layer.values is None:
            raise TypeError(f"expected keys and values in each layer, got {type(layer).__name__}")
        yield layer.keys, layer.values
