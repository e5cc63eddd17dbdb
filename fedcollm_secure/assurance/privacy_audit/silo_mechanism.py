"""Test the mechanism where a whole silo is the unit: how far its update can reach into the sum.

| check | what is compared | broken by |
|---|---|---|
| sensitivity | what a silo encodes after training far beyond C, with zeros | no clipping, rounding that lengthens |

What a whole run shows of shares, repeats and steps is tested as for records (`shared_run.run_checks`); there the
configured optimiser trains.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure.assemble import Prepared
from fedcollm_secure.assurance.privacy_audit.mechanism_check import Check
from fedcollm_secure.assurance.privacy_audit.neighbouring_units import START_STD
from fedcollm_secure.assurance.privacy_audit.shared_mechanism import encoded

FAR = 4.0
"""How many times C the update is long that is to be clipped."""
RECORDS = 8


def reaches(prepared: Prepared, plan: SharedPlan) -> dict[str, float]:
    """Return, for each silo, the longest that it encodes when its training goes FAR · C, in the update's units."""
    return {name: max(_reach(prepared, name, plan, number) for number in {1, plan.rounds}) for name in prepared.silos}


def reach_checks(lengths: Mapping[str, float], plan: SharedPlan) -> list[Check]:
    """Hold each silo's reach, in the update's units, against C; and what the test can see."""
    measured = [length / plan.clip_norm for length in lengths.values()]
    low, shortest, longest = 0.98 * plan.tightened_clip_norm / plan.clip_norm, min(measured), max(measured)
    worst = longest if longest > 1.0 else shortest
    told = f"updates of {FAR:g} C are encoded with lengths of {shortest:.4f} to {longest:.4f} C"
    return [Check(name="sensitivity", measured=worst, low=low, high=1.0, told=told)]


def _reach(prepared: Prepared, silo: str, plan: SharedPlan, number: int) -> float:
    honest = prepared.learner(silo)
    settings = replace(
        honest.settings,
        optimizer="sgd",  # plain descent is linear, so that its length can be chosen
        steps=1,
        epochs=None,
        gradient_norm=None,
        batch_size=RECORDS,
        schedule="constant",
        warmup_steps=0,
        weight_decay=0.0,
    )
    learner = replace(honest, records=honest.records[:RECORDS], settings=settings, plan=None)
    noise = np.random.default_rng(prepared.config.seed).normal(0.0, START_STD, prepared.parameters)
    start = prepared.server_slm.read() + noise.astype(np.float32)
    length = float(np.linalg.norm(learner.update(start, number)))
    far = replace(settings, learning_rate=settings.learning_rate * FAR * plan.clip_norm / length)
    return float(
        np.linalg.norm(encoded(prepared, start, replace(learner, settings=far, plan=plan).update(start, number)))
    )
