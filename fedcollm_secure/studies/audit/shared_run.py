"""A watched run in which silos share one noise, as the worst coalition that the plan bears sees it.

Of the silos in a sum `honest` keep their shares to themselves. All others are taken to be in league with the server:
whatever they sent, noise included, is taken off the sum. What a silo sends by itself is masked, so there is no point
"update" here; its share alone would be too little noise for it.
"""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np

from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure.assemble import Prepared
from fedcollm_secure.learning.vectors import Float32
from fedcollm_secure.studies.audit.canaries import Canaries
from fedcollm_secure.studies.audit.observed import Uploads, observe
from fedcollm_secure.studies.audit.planted import Planted


@dataclass(frozen=True, kw_only=True)
class SharedRun:
    """`honest`: as many silos as the plan counts on, the audited one first; `empty`: one that drew nobody, or ""."""

    uploads: Uploads
    honest: Sequence[str]
    empty: str
    seen: Mapping[str, Float32] = field(repr=False)  # at each point, float32[d], in the direction of descent


def shared_run(prepared: Prepared, silo: str, plan: SharedPlan, canaries: Canaries | None) -> SharedRun:
    """Run the job, with canaries in `silo` where units are smaller than silos."""
    names = [silo, *(name for name in prepared.silos if name != silo)]
    honest, colluding = names[: plan.honest], names[plan.honest :]
    empty = names[-1] if plan.sampling_rate < 1 else ""
    planted = Planted.of(prepared, silo, canaries, empty=empty)
    before = prepared.server_slm.read()
    with ExitStack() as stack:
        uploads = observe(stack, prepared.encoding)
        planted.run()
    seen = {"model": prepared.server_slm.read() - before}
    if canaries is not None:
        # The server descends at rate 1 along n · mean, so that what it opened is minus the change of its model.
        left = np.stack(planted.changes()).sum(axis=0, dtype=np.float64)
        for number in uploads.rounds:
            left = left + uploads.total(colluding, number) * prepared.encoding.grid
        seen = {"sum": np.asarray(left, dtype=np.float32), **seen}
    return SharedRun(uploads=uploads, honest=honest, empty=empty, seen=seen)
