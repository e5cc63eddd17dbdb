"""Whether a record was trained on, told from the model: the two sides of attack A13.

The public base model is the reference: a record whose likelihood rose more than others' was learned by heart. That
needs two forward passes a record and no shadow models, and is the strongest cheap attack on LoRA (arXiv 2507.18302).
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.assurance.attacks.attack_outcome import Outcome
from fedcollm_secure.assurance.attacks.membership_rates import Rate, area, true_positives
from fedcollm_secure.config.models import Lora, ModelSource
from fedcollm_secure.config.source import PackageSource
from fedcollm_secure.config.training import LocalTraining
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.batches import Encoder, Tokens, max_length
from fedcollm_secure.learning.data.partition import shuffled
from fedcollm_secure.learning.data.sources import own_parts
from fedcollm_secure.learning.likelihoods import log_likelihoods
from fedcollm_secure.learning.models import load_base, quiet, with_lora
from fedcollm_secure.learning.training import Learner

MEMBERS, OTHERS = 60, 2000
BATCH, STEPS, LEARNING_RATE, RANK = 10, 120, 5e-3, 16
EPSILON, DELTA = 8.0, 1e-5
FALSE_POSITIVES = (0.01, 0.001)
SUCCESS = 0.2
"""The attack succeeds if it finds more than this share at 1 % false positives: twenty times a blind guess."""
Float64 = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Found:
    """How one score tells members from others: the area, and true positives at 1 % and 0.1 % false ones."""

    score: str
    area: Rate
    at_1_percent: Rate
    at_1_permille: Rate

    @classmethod
    def of(cls, score: str, values: Float64) -> "Found":
        """Judge float64[MEMBERS + OTHERS], members first; a member should score high."""
        members, others = values[:MEMBERS].tolist(), values[MEMBERS:].tolist()
        at_1_percent, at_1_permille = (true_positives(members, others, false_positives=fp) for fp in FALSE_POSITIVES)
        return cls(score=score, area=area(members, others), at_1_percent=at_1_percent, at_1_permille=at_1_permille)

    @property
    def succeeds(self) -> bool:
        """Whether the interval of true positives at 1 % false ones lies above SUCCESS."""
        return self.at_1_percent.low > SUCCESS

    def as_row(self) -> tuple[str, ...]:
        """Return a line of the table."""
        return self.score, *(rate.in_words() for rate in (self.area, self.at_1_percent, self.at_1_permille))


HEADER = ("score", "area under the curve", "found at 1 % false alarms", "at 0.1 %")


def without_privacy() -> Outcome:
    """Attack a model that learned a silo's records without differential privacy."""
    return _outcome(trained(None), "not_found")


def with_privacy() -> Outcome:
    """Attack one that took as many steps on as many records by DP-SGD."""
    plan = RecordPlan.calibrated(
        epsilon=EPSILON,
        delta=DELTA,
        clip_norm=1.0,
        sampling_rate=BATCH / MEMBERS,
        steps_per_round=STEPS,
        rounds=1,
        batch_size=BATCH,
    )
    return _outcome(trained(plan), "noised")


def trained(plan: RecordPlan | None) -> tuple[Found, Found]:
    """Train on the members and score everyone: against the base model, and by the loss alone."""
    quiet()
    base = load_base(ModelSource(source="embedded:slm"), "models.slm", torch.device("cpu"))
    encoder = Encoder(base.tokenizer, max_length(base.model), end_answers=False)
    records = _records(encoder)
    adapter = Adapter(with_lora(base, Lora(rank=RANK, alpha=2 * RANK), seed=1), "fedavg")
    before = _likelihoods(adapter, encoder, records)
    learner = Learner(
        adapter=adapter,
        encoder=encoder,
        records=records[:MEMBERS],
        settings=LocalTraining(steps=STEPS, batch_size=BATCH, learning_rate=LEARNING_RATE),
        rounds=1,
        seed=1,
        name="silo",
        plan=plan,
    )
    learner.update(adapter.read(), 1)  # the adapter is left where training ended
    after = _likelihoods(adapter, encoder, records)
    return Found.of("likelihood gained over the base model", after - before), Found.of("likelihood alone", after)


def _records(encoder: Encoder) -> list[Tokens]:
    """Return diagnoses as clinicians write them, as free text; members and others are one shuffled distribution."""
    terms = sorted(
        {row.text("term") for row in own_parts(PackageSource(name="icd10cm"), "data.source")["private"].rows}
    )
    order = shuffled(len(terms), seed=13, purpose="membership")[: MEMBERS + OTHERS]
    return encoder.encode([("Diagnosis:", f" {terms[place]}") for place in order.tolist()])


def _likelihoods(adapter: Adapter, encoder: Encoder, records: list[Tokens]) -> Float64:
    """Return float64[N]: log-likelihood a token."""
    found = log_likelihoods(adapter.model, encoder, records, tokens_per_batch=4096)
    return np.array([each.log / each.tokens for each in found])


def _outcome(found: tuple[Found, Found], reason: str) -> Outcome:
    best = max(found, key=lambda each: each.at_1_percent.value)
    succeeded = any(each.succeeds for each in found)
    return Outcome(
        succeeded=succeeded,
        reason="" if succeeded else reason,
        told=(
            f"of {MEMBERS} records {100 * best.at_1_percent.value:.0f} % are found at 1 % false alarms, which a blind "
            f"guess puts at 1 %; area under the curve {best.area.value:.2f}, where 0.50 is blind"
        ),
        figures={
            "area": best.area.value,
            "area_low": best.area.low,
            "area_high": best.area.high,
            "true_positives_at_1_percent": best.at_1_percent.value,
            "true_positives_at_0.1_percent": best.at_1_permille.value,
        },
        table=(HEADER, *(each.as_row() for each in found)),
    )
