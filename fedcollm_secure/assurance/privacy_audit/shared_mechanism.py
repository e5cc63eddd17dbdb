"""Test the mechanism where silos share one noise: what a silo encodes before any share is added.

The claim is against whoever sees sums, n_c silos among them; so the noise that counts is that of the `honest` silos
which every sum surely holds. All figures are taken from the integers that are about to be masked.

| check | what is compared | broken by |
|---|---|---|
| sensitivity | the integers of one step with and without a unit | clipping, coupled records, bad rounding |
| record | the integers of one step with and without a record of the data set | records held twice |
| sampling rate, batch sizes | how many are drawn over many steps of the learner | another rate, or a fixed size |
| draws of each | who is drawn over many steps | always the same ones, or everybody in turn |

What needs a whole run is in `shared_run`.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np
import torch
from torch import Tensor, nn

from fedcollm_crypto.fixedpoint import EXTRA_COORDINATES, signed_words
from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure.assemble import Prepared
from fedcollm_secure.assurance.privacy_audit.mechanism_check import Check
from fedcollm_secure.assurance.privacy_audit.neighbouring_units import Company, Float64
from fedcollm_secure.assurance.privacy_audit.optimiser_watch import Watch
from fedcollm_secure.assurance.privacy_audit.record_influence import Sums
from fedcollm_secure.assurance.privacy_audit.training_mechanism import DRAWS, POPULATION, sampling_counts
from fedcollm_secure.assurance.privacy_audit.watched_learners import ChosenBatches, WatchedLearner
from fedcollm_secure.learning.factors import Pass
from fedcollm_secure.learning.training import Learner
from fedcollm_secure.learning.vectors import Float32

PLENTY = 1e3
"""z of plans under which only the gradient without its noise is looked at."""


def joint_checks(prepared: Prepared, silo: str, plan: SharedPlan) -> list[Check]:
    """Test one silo's gradients; what needs a whole run is in `run_checks`."""
    company = Company.of(prepared, silo)
    sensitivity = _sensitivity(prepared, company, plan)
    return [sensitivity, *company.contribution(prepared), *_sampling(company.learner, plan)]


def noise_std(prepared: Prepared, plan: SharedPlan) -> float:
    """Return zS in steps of the grid: what the honest silos' noise has to be. Derived here, not asked of the plan."""
    return plan.noise_multiplier * plan.clip_norm / plan.batch_size / prepared.encoding.grid


def encoded(prepared: Prepared, start: Float32, change: Float32) -> Float64:
    """Return float64[k]: what a silo encodes of a change before noise, back in the update's units."""
    share = prepared.rule.share(start, change, Pass(round=1))
    words = signed_words(prepared.encoding.encode(share, 1), prepared.encoding.ring_bits)
    found: Float64 = words[:-EXTRA_COORDINATES].astype(np.float64) * prepared.encoding.grid
    return found


def share_variance(prepared: Prepared, plan: SharedPlan) -> int:
    """Return v, the variance of one share in steps of the grid. Derived here, not asked of the plan."""
    return max(9, math.ceil(noise_std(prepared, plan) ** 2 / plan.honest))


def encoded_by_silo(prepared: Prepared, plan: SharedPlan) -> Sums:
    """Return how to ask a silo what it encodes of a step over everybody, in units of C."""

    def sums(learner: Learner, start: Float32, number: int, loudness: Sequence[float]) -> Float64:
        everybody = range(len(learner.records if learner.subjects is None else learner.subjects))
        return _encoded(prepared, learner, plan, start, number, everybody, loudness) / plan.sensitivity

    return sums


def _encoded(
    prepared: Prepared,
    learner: Learner,
    plan: SharedPlan,
    start: Float32,
    number: int,
    batch: Sequence[int],
    loudness: Sequence[float],
) -> Float64:
    """Return what a silo encodes of a batch."""
    quiet = replace(plan, sampling_rate=0.5, noise_multiplier=PLENTY, rounds=1)
    watched = WatchedLearner.of(replace(learner, plan=quiet), Watch(), loudness=loudness)
    random = ChosenBatches(watched.population, [batch])
    return encoded(prepared, start, replace(watched, random=random).update(start, number))


def _sensitivity(prepared: Prepared, company: Company, plan: SharedPlan) -> Check:
    """Measure the most that one unit changes what is encoded, in units of S = C / batch_size."""
    first = WatchedLearner.of(company.learner, Watch(), loudness=company.loudness)
    lone = float(np.linalg.norm(first.gradient(company.units[company.short][0], company.start)))
    loudness = [each * 2 * plan.clip_norm / lone for each in company.loudness]

    def sums(batch: Sequence[int]) -> Float64:
        return _encoded(prepared, company.learner, plan, company.start, 1, batch, loudness)

    measured = company.worst_change(sums) / plan.sensitivity
    return Check(
        name="sensitivity",
        measured=measured,
        low=0.98 * plan.tightened_clip_norm / plan.clip_norm,
        high=1.0,
        told=f"one {plan.unit} changes what a silo encodes by at most {measured:.4f} C",
    )


def _sampling(learner: Learner, plan: SharedPlan) -> list[Check]:
    drawn = list[set[int]]()
    parts = {each.name: getattr(learner, each.name) for each in fields(Learner)}
    each = 2 if plan.unit == "subject" else 1
    parts["records"] = [learner.records[0]] * (each * POPULATION)
    parts["subjects"] = [range(each * unit, each * (unit + 1)) for unit in range(POPULATION)] if each > 1 else None
    parts["settings"] = replace(learner.settings, microbatch=each * POPULATION)
    counting = CountingLearner(**parts, each=each, drawn=drawn)
    start = learner.adapter.read()
    for _ in range(DRAWS):
        counting.drawn.append(set())
        counting.update(start, 1)
    return sampling_counts(drawn, plan.sampling_rate)


@dataclass(frozen=True, kw_only=True)
class CountingLearner(Learner):
    """A learner that notes which units its last batch held, and whose losses cost nothing."""

    each: int  # records of a unit
    drawn: list[set[int]] = field(repr=False)

    def _losses(self, indices: Sequence[int]) -> Tensor:
        self.drawn[-1] |= {index // self.each for index in indices}  # a step may take several passes
        total = torch.zeros(len(indices))
        for layer in layers_of(self.adapter.model, self.adapter.parameters):
            total = total + layer(torch.zeros(len(indices), layer.in_features).to(layer.weight)).sum(dim=1).cpu()
        return total


def layers_of(model: nn.Module, parameters: Sequence[nn.Parameter]) -> list[nn.Linear]:
    """Return the linear layers that own these parameters."""
    wanted = {id(parameter) for parameter in parameters}
    return [module for module in model.modules() if isinstance(module, nn.Linear) and id(module.weight) in wanted]
