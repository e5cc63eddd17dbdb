"""Pre-train the embedded pair from public text: ``python examples/models/pretrain.py --out fedcollm_secure/embedded``.

Takes some minutes on two idle cores. One tokenizer, then two causal language models of different size and different
reading; each learns to continue "Wet lung syndrome. Specialty:" with its specialty. Only public text is read (see
`public_text`); the test terms serve for the one figure that the model card states.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import torch
import torch.nn.functional as F
from model_card import model_card
from public_text import PROMPT, Line, pocket_edition, whole_catalogue
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from fedcollm_secure.learning.icd10cm import SPECIALTIES, Term, split, terms

VOCABULARY: Final = 4_096
PAD, EOS, UNKNOWN = "<pad>", "<eos>", "<unk>"
LONGEST: Final = 40  # tokens of one title; the tail of a longer one adds time, and little else
BUCKET: Final = 8  # batches sorted by length together, so that little is padding


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Say how one model is built and trained; `weight_of_short` repeats titles near the top of the catalogue."""

    name: str
    lines: tuple[Line, ...]
    layers: int
    hidden: int
    intermediate: int
    steps: int
    batch_size: int = 64
    learning_rate: float
    heads: int = 4
    weight_of_short: float = 3.0
    weight_decay: float = 0.1
    word_dropout: float = 0.1
    seed: int = 0


def recipes() -> tuple[Recipe, Recipe]:
    """Return the two recipes; the SLM reads a pocket edition, so that the LLM has something to teach it."""
    return (
        Recipe(
            name="slm",
            lines=pocket_edition(),
            layers=3,
            hidden=128,
            intermediate=344,
            steps=300,
            learning_rate=2e-3,
        ),
        Recipe(
            name="llm",
            lines=whole_catalogue(),
            layers=4,
            hidden=256,
            intermediate=688,
            steps=1_600,
            batch_size=32,
            learning_rate=1e-3,
        ),
    )


def main() -> None:
    """Train the tokenizer and both models, and write each into its own folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="folder that gets slm/ and llm/")
    out: Path = parser.parse_args().out
    torch.set_num_threads(2)
    tokenizer = train_tokenizer(whole_catalogue())
    for recipe in recipes():
        folder = out / recipe.name
        save(train(recipe, tokenizer), tokenizer, folder)
        accuracy = zero_shot_accuracy(folder, split(terms()).test)
        card = model_card(folder, len(recipe.lines), len(terms()), accuracy)
        (folder / "README.md").write_text(card, encoding="utf-8")
        say(f"{recipe.name}: {accuracy:.1%} zero-shot, in {folder}")


def train_tokenizer(lines: Sequence[Line]) -> Tokenizer:
    """Return a byte-level BPE that ignores case and accents, and holds each specialty in one token.

    A word at the start of a title is the same token as inside one: small models have few examples of each.
    """
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.NFKD(), normalizers.StripAccents(), normalizers.Lowercase()]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, EOS, UNKNOWN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator((f"{PROMPT.format(term=line.text)} {line.specialty}" for line in lines), trainer)
    return tokenizer


def train(recipe: Recipe, tokenizer: Tokenizer) -> LlamaForCausalLM:
    """Return a model trained with AdamW, a short warm-up and a cosine; the loss is on the specialty alone."""
    torch.manual_seed(recipe.seed)
    model = LlamaForCausalLM(configuration(recipe))
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay, betas=(0.9, 0.98)
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: _rate(step / recipe.steps))
    model.train()
    for step, (tokens, present) in enumerate(batches(recipe, tokenizer), start=1):
        logits = answer_logits(model, tokens[:, :-1], present[:, :-1])  # [B, V]
        loss = F.cross_entropy(logits, tokens[:, -1])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call] # torch's own annotation
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0:
            say(f"{recipe.name}: step {step} of {recipe.steps}, loss {loss.item():.3f}")
    model.train(False)
    return model


def configuration(recipe: Recipe) -> LlamaConfig:
    """Return a Llama of the recipe's size with tied embeddings."""
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=recipe.hidden,
        intermediate_size=recipe.intermediate,
        num_hidden_layers=recipe.layers,
        num_attention_heads=recipe.heads,
        num_key_value_heads=recipe.heads,
        max_position_embeddings=512,
        initializer_range=0.05,  # 0.02, the default, needs twice the steps at this size
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=1,
    )


def _rate(progress: float) -> float:
    return min(1.0, progress / 0.06) * (0.05 + 0.95 * 0.5 * (1 + math.cos(math.pi * progress)))


def batches(recipe: Recipe, tokenizer: Tokenizer) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield `steps` pairs of tokens int64[B, T] and their presence int64[B, T], padded on the left."""
    generator = torch.Generator().manual_seed(recipe.seed)
    titles = [encoding.ids[:LONGEST] for encoding in tokenizer.encode_batch([line.text for line in recipe.lines])]
    suffix = tokenizer.encode(PROMPT.format(term="x")).ids[1:]
    answers = [tokenizer.encode(f" {line.specialty}").ids[0] for line in recipe.lines]
    weights = line_weights(recipe)
    for _ in range(math.ceil(recipe.steps / BUCKET)):
        drawn = torch.multinomial(weights, BUCKET * recipe.batch_size, replacement=True, generator=generator)
        indices: list[int] = drawn.tolist()
        by_length = sorted(indices, key=lambda index: len(titles[index]))
        for batch in torch.randperm(BUCKET, generator=generator).tolist():
            chosen = by_length[batch * recipe.batch_size : (batch + 1) * recipe.batch_size]
            yield pad_left(
                [[*_thin(titles[index], recipe.word_dropout, generator), *suffix, answers[index]] for index in chosen]
            )


def line_weights(recipe: Recipe) -> Tensor:
    """Return float[N]: rare specialties and short codes are drawn more often than their share."""
    counts = Counter(line.specialty for line in recipe.lines)
    return torch.tensor(
        [counts[line.specialty] ** -0.5 * (recipe.weight_of_short if line.depth <= 5 else 1.0) for line in recipe.lines]
    )


def _thin(title: list[int], dropout: float, generator: torch.Generator) -> list[int]:
    rate = 2 * dropout * torch.rand((), generator=generator)
    kept = torch.rand(len(title), generator=generator) >= rate
    return [token for token, keep in zip(title, kept.tolist(), strict=True) if keep] or title


def pad_left(sequences: Sequence[list[int]]) -> tuple[Tensor, Tensor]:
    """Return tokens and presence, both int64[B, T]: the last position of every row is its last token."""
    width = max(len(sequence) for sequence in sequences)
    tokens = torch.tensor([[0] * (width - len(sequence)) + sequence for sequence in sequences])
    present = torch.tensor([[0] * (width - len(sequence)) + [1] * len(sequence) for sequence in sequences])
    return tokens, present


def answer_logits(model: LlamaForCausalLM, tokens: Tensor, present: Tensor) -> Tensor:
    """Return the logits [B, V] of the token after the last."""
    positions = (present.cumsum(1) - 1).clamp(min=0)
    output = model(input_ids=tokens, attention_mask=present, position_ids=positions, logits_to_keep=1)
    logits: Tensor = output.logits[:, -1]
    return logits


def save(model: LlamaForCausalLM, tokenizer: Tokenizer, folder: Path) -> None:
    """Write weights in half precision, to be loaded in single precision, and the tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.half() for name, tensor in model.state_dict().items() if name != "lm_head.weight"}
    model.save_pretrained(folder, state_dict=weights)  # the head is tied to the embedding
    (folder / "model.safetensors").chmod(0o644)
    shipped = PreTrainedTokenizerFast(  # type: ignore[no-untyped-call] # transformers' own annotation
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=EOS,
        unk_token=UNKNOWN,
        padding_side="left",
        model_max_length=512,
        clean_up_tokenization_spaces=False,
    )
    shipped.save_pretrained(folder)


@torch.inference_mode()
def zero_shot_accuracy(folder: Path, test: Sequence[Term]) -> float:
    """Return the share of test terms whose likeliest specialty is right, by the saved model."""
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    model = LlamaForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.train(False)
    answers = torch.tensor([tokenizer.encode(f" {specialty}").ids[0] for specialty in SPECIALTIES])
    correct = 0
    for start in range(0, len(test), 250):
        batch = test[start : start + 250]
        prompts = [tokenizer.encode(PROMPT.format(term=term.term)).ids for term in batch]
        guesses = answer_logits(model, *pad_left(prompts))[:, answers].argmax(1).tolist()
        pairs = zip(guesses, batch, strict=True)
        correct += sum(SPECIALTIES[guess] == term.specialty for guess, term in pairs)
    return correct / len(test)


def say(line: str) -> None:
    """Write progress to stderr at once."""
    sys.stderr.write(f"{line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    main()
