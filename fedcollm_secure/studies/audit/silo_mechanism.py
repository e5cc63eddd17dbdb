"""Test the mechanism where a whole silo is the unit: how far its update can reach into the sum.

| check | what is compared | broken by |
|---|---|---|
| sensitivity | what a silo encodes after training far beyond C, with zeros | no clipping, rounding that lengthens |

What a whole run shows of shares, repeats and steps is tested as for records (`shared_mechanism.run_checks`).
"""

from dataclasses import replace

import numpy as np

from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure.assemble import Prepared
from fedcollm_secure.studies.audit.check import Check
from fedcollm_secure.studies.audit.neighbours import START_STD
from fedcollm_secure.studies.audit.shared_mechanism import encoded

FAR = 4.0
"""How many times C the update is long that is to be clipped."""
RECORDS = 8


def reach(prepared: Prepared, silo: str, plan: SharedPlan) -> float:
    """Return the length of what the silo encodes when its training goes FAR · C, in the update's units."""
    honest = prepared.learner(silo)
    step = replace(honest.settings, steps=1, epochs=None, gradient_norm=None, batch_size=RECORDS)
    learner = replace(honest, records=honest.records[:RECORDS], settings=step, plan=None)
    noise = np.random.default_rng(prepared.config.seed).normal(0.0, START_STD, prepared.parameters)
    start = prepared.server_slm.read() + noise.astype(np.float32)
    length = float(np.linalg.norm(learner.update(start, 1)))
    far = replace(step, learning_rate=step.learning_rate * FAR * plan.clip_norm / length)  # plain descent is linear
    return float(np.linalg.norm(encoded(prepared, start, replace(learner, settings=far, plan=plan).update(start, 1))))


def reach_check(length: float, plan: SharedPlan) -> Check:
    """Hold the reach, in the update's units, against C."""
    measured = length / plan.clip_norm
    return Check(
        name="sensitivity",
        measured=measured,
        low=0.98 * plan.tightened_clip_norm / plan.clip_norm,
        high=1.0,
        told=f"an update of {FAR:g} C is encoded with a length of {measured:.4f} C",
    )
