"""One silo's small model and held-out records, ready to score an adapter: no server, no other party."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from fedcollm_secure.assemble.learners import make_encoder
from fedcollm_secure.assemble.prepare import gather_for
from fedcollm_secure.config import Config
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.batches import max_length
from fedcollm_secure.learning.data import Record
from fedcollm_secure.learning.evaluate import Evaluation
from fedcollm_secure.learning.models import choose_device, context_length, load_base, with_lora


@dataclass(frozen=True, kw_only=True)
class OwnScoring:
    """A silo's small model with the adapter that every run of its configuration begins from, and its own evaluation."""

    base_digest: str
    adapter: Adapter
    evaluation: Evaluation
    records: Sequence[Record] = field(repr=False)


def own_scoring(config: Config, silo: str, *, one_by_one: bool) -> OwnScoring:
    """Prepare what `gain` scores.

    `one_by_one` reads each record alone: in a batch its padding, and with it the last bits of its logits, would depend
    on the other records, and one record more could turn another's answer.

    Raises:
        ConfigError: data or model cannot be read.
        KeyError: there is no such silo.
    """
    kept = gather_for(config).own[silo]
    slm = load_base(config.models.slm, "models.slm", choose_device(config.device))
    longest = min(context_length(config.models.llm, "models.llm"), max_length(slm.model))
    evaluation = Evaluation(
        kept,
        make_encoder(config, slm, longest),
        tokens_per_batch=1 if one_by_one else config.evaluate.tokens_per_batch,
    )
    adapter = Adapter(with_lora(slm, config.lora, seed=config.seed), config.what_travels)
    return OwnScoring(base_digest=slm.digest, adapter=adapter, evaluation=evaluation, records=kept)
