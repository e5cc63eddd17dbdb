"""What the server does with both models: co-tuning, and scoring of the test."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fedcollm_secure.assemble.learners import tokens_of
from fedcollm_secure.assemble.server_side import ServerSide
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.data import Record
from fedcollm_secure.learning.distill import CoTuning
from fedcollm_secure.learning.evaluate import Evaluation
from fedcollm_secure.learning.two_tokenizers import Aligned, align, shared_vocabulary


def make_co_tuning(
    side: ServerSide, records: Sequence[Record] | None = None, *, optimizer_folder: Path | None = None
) -> CoTuning:
    """Return the server's steps on `records`, by default the auxiliary ones.

    Raises:
        ConfigError: two tokenizers cut no answer alike anywhere.
    """
    config = side.common.config
    chosen = side.auxiliary if records is None else records
    found = CoTuning(
        llm=side.server_llm,
        slm=side.server_slm,
        encoder=side.encoder,
        records=tokens_of(side.encoder, chosen),
        settings=config.distill,
        rounds=config.rounds,
        seed=config.seed,
        optimizer_folder=optimizer_folder,
    )
    return found if config.distill.align == "same" else replace(found, aligned=make_aligned(side, chosen))


def make_aligned(side: ServerSide, records: Sequence[Record]) -> Aligned:
    """Return the records as both models read them. Raises: ConfigError: nothing could be compared."""
    texts = [(record.prompt, record.answer) for record in records]
    vocabulary = shared_vocabulary(side.llm.tokenizer, side.slm.tokenizer)
    found = align(texts, side.llm_encoder, side.encoder, vocabulary)
    if found.share == 0:
        raise ConfigError(
            "distill.align",
            f"no token of any auxiliary answer is one for both tokenizers, which share {len(vocabulary.slm):,} tokens, "
            "so that neither model could teach the other; choose models whose tokenizers are nearer",
        )
    return found


def make_evaluations(side: ServerSide) -> Mapping[str, Evaluation]:
    """Return the scoring of the test by each model, which both share where their tokenizer is one."""
    test, budget = side.test, side.common.config.evaluate.tokens_per_batch
    slm = Evaluation(test, side.encoder, tokens_per_batch=budget)
    if side.llm_encoder is side.encoder:
        return {"llm": slm, "slm": slm}
    return {"llm": Evaluation(test, side.llm_encoder, tokens_per_batch=budget), "slm": slm}
