"""What the server does with both models, made from a prepared configuration: co-tuning, and scoring of the test."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fedcollm_secure.assemble.prepare import Prepared
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.data import Record
from fedcollm_secure.learning.distill import CoTuning
from fedcollm_secure.learning.evaluate import Evaluation
from fedcollm_secure.learning.two_tokenizers import Aligned, align, shared_vocabulary


def make_co_tuning(
    prepared: Prepared, records: Sequence[Record] | None = None, *, optimizer_folder: Path | None = None
) -> CoTuning:
    """Return the server's steps on `records`, by default the auxiliary ones.

    Raises:
        ConfigError: two tokenizers cut no answer alike anywhere.
    """
    config = prepared.config
    chosen = prepared.holdings.auxiliary if records is None else records
    found = CoTuning(
        llm=prepared.server_llm,
        slm=prepared.server_slm,
        encoder=prepared.encoder,
        records=prepared.tokens(chosen),
        settings=config.distill,
        rounds=config.rounds,
        seed=config.seed,
        optimizer_folder=optimizer_folder,
    )
    return found if config.distill.align == "same" else replace(found, aligned=make_aligned(prepared, chosen))


def make_aligned(prepared: Prepared, records: Sequence[Record]) -> Aligned:
    """Return the records as both models read them. Raises: ConfigError: nothing could be compared."""
    texts = [(record.prompt, record.answer) for record in records]
    vocabulary = shared_vocabulary(prepared.llm.tokenizer, prepared.slm.tokenizer)
    found = align(texts, prepared.llm_encoder, prepared.encoder, vocabulary)
    if found.share == 0:
        raise ConfigError(
            "distill.align",
            f"no token of any auxiliary answer is one for both tokenizers, which share {len(vocabulary.slm):,} tokens, "
            "so that neither model could teach the other; choose models whose tokenizers are nearer",
        )
    return found


def make_evaluations(prepared: Prepared) -> Mapping[str, Evaluation]:
    """Return the scoring of the test by each model, which both share where their tokenizer is one."""
    test, budget = prepared.holdings.test, prepared.config.evaluate.tokens_per_batch
    slm = Evaluation(test, prepared.encoder, tokens_per_batch=budget)
    if prepared.llm_encoder is prepared.encoder:
        return {"llm": slm, "slm": slm}
    return {"llm": Evaluation(test, prepared.llm_encoder, tokens_per_batch=budget), "slm": slm}
