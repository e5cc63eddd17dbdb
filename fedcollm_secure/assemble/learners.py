"""From one party's records to what trains on them: tokens, persons, and whether records can share a forward pass."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fedcollm_privacy.dpsgd import Gradients
from fedcollm_privacy.subjects import group_by_subject
from fedcollm_secure.assemble.common import Common
from fedcollm_secure.config import Config
from fedcollm_secure.config.data import FreeText
from fedcollm_secure.config.protection import PerSubject, RecordDP
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.batches import Encoder, Tokens, length_order
from fedcollm_secure.learning.data import Record
from fedcollm_secure.learning.models import Base
from fedcollm_secure.learning.probe import why_apart
from fedcollm_secure.learning.training import Learner


def make_learner(
    common: Common,
    silo: str,
    records: Sequence[Record],
    *,
    adapter: Adapter,
    encoder: Encoder,
    apart: str,
    optimizer_file: Path | None = None,
) -> Learner:
    """Return a silo's training on its records; without a file its optimiser begins afresh each round."""
    config, tokens = common.config, tokens_of(encoder, records)
    order = length_order(tokens)
    place = {index: position for position, index in enumerate(order)}
    subjects = subjects_of(config, records)
    return Learner(
        adapter=adapter,
        encoder=encoder,
        records=[tokens[index] for index in order],
        subjects=subjects and tuple(tuple(place[index] for index in indices) for indices in subjects),
        settings=config.silo,
        rounds=config.rounds,
        seed=config.seed,
        name=silo,
        plan=common.plan,
        trains=common.rule.trained,
        gradients=_gradients(config, apart),
        optimizer_file=optimizer_file,
    )


def _gradients(config: Config, apart: str) -> Gradients:
    if apart:
        return "one_by_one"
    return config.privacy.gradients if isinstance(config.privacy, RecordDP) else "linear"


def subjects_of(config: Config, records: Sequence[Record]) -> tuple[tuple[int, ...], ...] | None:
    """Return each person's first records, as indices of a silo's; None where records are protected."""
    privacy = config.privacy
    if not isinstance(privacy, RecordDP) or not isinstance(privacy.unit, PerSubject):
        return None
    names = [record.subject for record in records]
    return tuple(map(tuple, group_by_subject(names, most_records=privacy.records_per_subject)))


def tokens_of(encoder: Encoder, records: Sequence[Record]) -> list[Tokens]:
    """Return each record with its right answer, tokenised. Raises: ConfigError with the file and row."""
    return encoder.encode(
        [(record.prompt, record.answer) for record in records], [record.place or "data.task" for record in records]
    )


def apart_of(learner: Learner, vocabulary: int) -> str:
    """Return why records cannot share a forward pass; empty where they can, or where no record has its own gradient.

    Raises:
        ConfigError: the model cannot be trained with what `lora` names.
    """
    if learner.plan is None or learner.plan.unit == "silo":
        why_apart(replace(learner, plan=None, settings=replace(learner.settings, microbatch=1)), vocabulary)
        return ""
    return why_apart(learner, vocabulary)


def make_encoder(config: Config, slm: Base, longest: int) -> Encoder:
    """Return how all parties turn records into tokens; `longest` is the shorter of the two models' contexts.

    Raises:
        ConfigError: `data.max_tokens` is more than that.
    """
    most = config.data.max_tokens
    if most is not None and most > longest:
        raise ConfigError("data.max_tokens", f"expected at most {longest}, which is what both models take, got {most}")
    longest = longest if most is None else most
    return Encoder(slm.tokenizer, longest, end_answers=isinstance(config.data.task, FreeText))


def make_encoders(config: Config, llm: Base, slm: Base, longest: int) -> tuple[Encoder, Encoder]:
    """Return how the LLM and how the SLM read records: one encoder twice, unless `distill.align: tokens`.

    Raises: ConfigError, as `make_encoder`.
    """
    encoder = make_encoder(config, slm, longest)
    return (encoder if config.distill.align == "same" else make_encoder(config, llm, longest)), encoder
