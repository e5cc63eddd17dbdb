"""Test the mechanism where silos share one noise: what a silo encodes, and what every silo drew in a run.

The claim is against whoever sees sums, n_c silos among them; so the noise that counts is that of the `honest` silos
which every sum surely holds. All figures are taken from the integers that are about to be masked.

| check | what is compared | broken by |
|---|---|---|
| sensitivity | the integers of one step with and without a unit | no clipping, coupled records, bad rounding |
| share | each silo's noise in the run, with v of the plan | no noise, or too small a share |
| noise | the honest silos' shares together, of one round against another's | shares that are correlated or repeat |
| empty batches | the share of a silo that draws nobody | a silo that draws nobody and adds nothing |
| second look | what a silo sends when it is asked for one round again | noise that is drawn afresh |
| sampling rate, batch sizes | how many are drawn over many steps of the learner | another rate, or a fixed size |
| draws of each | who is drawn over many steps | always the same ones, or everybody in turn |
| steps | how many sums a silo enters | one more than is charged |
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
from fedcollm_secure.learning.factors import Pass
from fedcollm_secure.learning.training import Learner
from fedcollm_secure.learning.vectors import Float32
from fedcollm_secure.studies.audit.check import Check
from fedcollm_secure.studies.audit.mechanism import DRAWS, POPULATION, SIX_SIGMA, ChosenBatches, sampling_counts
from fedcollm_secure.studies.audit.neighbours import Company, Float64
from fedcollm_secure.studies.audit.observed import Uploads

PLENTY = 1e3
"""z of plans under which only the gradient without its noise is looked at."""


def joint_checks(prepared: Prepared, silo: str, plan: SharedPlan) -> list[Check]:
    """Test one silo's gradients; what needs a whole run is in `run_checks`."""
    company = Company.of(prepared, silo)
    sensitivity = _sensitivity(prepared, company, plan)
    return [sensitivity, *company.contribution(prepared), *_sampling(company.learner, plan)]


def run_checks(
    prepared: Prepared, plan: SharedPlan, uploads: Uploads, honest: Sequence[str], empty: str
) -> list[Check]:
    """Test every silo's shares in a run; `honest` names as many silos as the plan counts on, `empty` drew nobody."""
    std = noise_std(prepared, plan) / math.sqrt(plan.honest)  # of one share, in steps of the grid
    everything = [uploads.share(name, number) for name in prepared.silos for number in uploads.rounds]
    checks = [_spread("share", np.concatenate(everything) / std, "a silo's share of the noise is {:.3f} √v")]
    checks.append(_together(prepared, plan, uploads, honest))
    if empty:
        nobodys = np.concatenate([uploads.share(empty, number) for number in uploads.rounds]) / std
        checks.append(_spread("empty batches", nobodys, "a silo that draws nobody adds noise of {:.3f} √v"))
    again = max(len(vectors) for vectors in uploads.sent.values())
    looks = uploads.most_distinct if again > 1 else math.nan
    told = f"asked {again} times for one round, a silo sends {looks} different vector{'s' * (looks != 1)}"
    checks.append(Check(name="second look", measured=looks, low=1, high=1, told=told))
    taken = max(sum(name == silo for name, _ in uploads.sent) for silo in prepared.silos)
    told = f"a silo enters {taken} sums of {plan.rounds} that are priced"
    return [*checks, Check(name="steps", measured=taken, low=plan.rounds, high=plan.rounds, told=told)]


def noise_std(prepared: Prepared, plan: SharedPlan) -> float:
    """Return zS in steps of the grid: what the honest silos' noise has to be. Derived here, not asked of the plan."""
    return plan.noise_multiplier * plan.clip_norm / plan.batch_size / prepared.encoding.grid


def encoded(prepared: Prepared, start: Float32, change: Float32) -> Float64:
    """Return float64[k]: what a silo encodes of a change before noise, back in the update's units."""
    share = prepared.rule.share(start, change, Pass(round=1))
    words = signed_words(prepared.encoding.encode(share, 1), prepared.encoding.ring_bits)
    found: Float64 = words[:-EXTRA_COORDINATES].astype(np.float64) * prepared.encoding.grid
    return found


def _sensitivity(prepared: Prepared, company: Company, plan: SharedPlan) -> Check:
    """Measure the most that one unit changes what is encoded, in units of S = C / batch_size."""
    quiet = replace(plan, sampling_rate=0.5, noise_multiplier=PLENTY, rounds=1)
    first = LoudLearner.of(company.learner, loudness=1.0)

    def sums(learner: Learner, batch: Sequence[int], chosen: SharedPlan) -> Float64:
        learner = replace(learner, plan=chosen, random=ChosenBatches(len(company.units), [batch]))
        return encoded(prepared, company.start, learner.update(company.start, 1))

    lone = float(np.linalg.norm(first.gradient(company.units[company.short][0], company.start)))
    loud = replace(first, loudness=2 * plan.clip_norm / lone)
    measured = company.worst_change(lambda batch: sums(loud, batch, quiet)) / plan.sensitivity
    return Check(
        name="sensitivity",
        measured=measured,
        low=0.98 * plan.tightened_clip_norm / plan.clip_norm,
        high=1.0,
        told=f"one {plan.unit} changes what a silo encodes by at most {measured:.4f} C",
    )


@dataclass(frozen=True, kw_only=True)
class LoudLearner(Learner):
    """A learner whose losses are multiplied, so that the plan's own clip norm bites as the audit needs it to."""

    loudness: float

    @classmethod
    def of(cls, learner: Learner, *, loudness: float) -> "LoudLearner":
        """Take a learner's parts."""
        return cls(**{each.name: getattr(learner, each.name) for each in fields(Learner)}, loudness=loudness)

    def gradient(self, record: int, start: Float32) -> Float32:
        """Return float32[d], one record's gradient as it is before clipping."""
        self.adapter.write(start)
        self.adapter.choose(self.trains(1))
        parts = torch.autograd.grad(self._losses([record])[0], self.adapter.parameters)
        found: Float32 = torch.cat([part.reshape(-1).cpu() for part in parts]).numpy()
        return found

    def _losses(self, indices: Sequence[int]) -> Tensor:
        return super()._losses(indices) * self.loudness


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


def _together(prepared: Prepared, plan: SharedPlan, uploads: Uploads, honest: Sequence[str]) -> Check:
    """Compare the honest silos' noise of two rounds (of one, where there is but one) with zS."""
    first, *later = [uploads.noise(honest, number) / noise_std(prepared, plan) for number in uploads.rounds]
    fresh = (first - later[0]) / math.sqrt(2) if later and later[0].shape == first.shape else first
    return _spread("noise", fresh, f"the shares of {len(honest)} honest silos add up to noise of {{:.3f}} zS")


def _spread(name: str, values: Float64, told: str) -> Check:
    """Compare the root mean square of values that should be standard normal with 1."""
    measured = float(np.sqrt(np.mean(values**2)))
    tolerance = SIX_SIGMA / math.sqrt(2 * len(values)) + 1e-3
    return Check(name=name, measured=measured, low=1 - tolerance, high=1 + tolerance, told=told.format(measured))
