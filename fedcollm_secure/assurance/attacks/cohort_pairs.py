"""A19: cohorts that differ by two. No single change is ever seen, and one silo's update comes out exactly.

    Σ(U) − Σ(U∖{a,b}) = a + b      Σ(U) − Σ(U∖{b,c}) = b + c      Σ(U) − Σ(U∖{a,c}) = a + c      → a

With one silo in league the first difference is enough: a + b is a for whoever knows b.
"""

import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto.masking.policy import SiloPolicy
from fedcollm_crypto.masking.requests import ASK_VECTOR
from fedcollm_secure.assurance.attacks.attack_outcome import Attack, Outcome
from fedcollm_secure.assurance.attacks.attack_variants import Way, try_under_each
from fedcollm_secure.assurance.attacks.protection import CLASSICAL, Protection
from fedcollm_secure.assurance.attacks.toy_federation import Session
from fedcollm_secure.assurance.attacks.toy_region import Neighbourhood, version
from fedcollm_secure.assurance.attacks.twins.former_rules import rules_that_look_at_one_attempt

SILOS, FOR_A_TRIPLE = 7, 10
STRICT = SiloPolicy(max_single_changes=0)


def against_twin() -> Outcome:
    """Leave out pairs before silos that count single changes, and bear with none."""
    with rules_that_look_at_one_attempt():
        recovered = recover_from_pairs(STRICT)
    return Outcome(
        succeeded=recovered,
        told="max_single_changes: 0 sees no single change in four sums that differ by two silos; one update is exact",
        figures={"sums": 4, "single_changes_seen": 0},
    )


def ways(protection: Protection) -> dict[str, Way]:
    """Return pairs with nobody in league, with one, and triples against two."""
    nobody = SiloPolicy(max_single_changes=0, colluding=0)
    return {
        "three pairs": partial(recover_from_pairs, nobody, protection=protection),
        "one pair, one of it in league": partial(recover_from_pairs, STRICT, pairs=1, protection=protection),
        "a triple, two of it in league": partial(recover_from_triple, protection),
    }


def against_us() -> Outcome:
    """Try them under each protection."""
    return try_under_each(ways)


def recover_from_pairs(policy: SiloPolicy, *, pairs: int = 3, protection: Protection = CLASSICAL) -> bool:
    """Open the sum over all, then sums without a pair each; return whether the first silo's update comes out."""
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Neighbourhood(SILOS, Path(folder), policy=policy, protection=protection))
        a, b, c = session.members[:3]
        everybody, *others = sums_without(session, [(), (a, b), (b, c), (a, c)][: pairs + 1])
        if pairs == 1:
            found = (everybody - others[0]) - session.region.vector(b)
            return np.array_equal(found, session.region.vector(a))
        with_a, with_none, without = everybody - others[0], everybody - others[1], everybody - others[2]
        return np.array_equal(with_a + without - with_none, 2 * session.region.vector(a))


def recover_from_triple(protection: Protection) -> bool:
    """Leave out three silos, two of whom the server knows."""
    with tempfile.TemporaryDirectory() as folder:
        policy = SiloPolicy(max_single_changes=0, colluding=2, min_cohort=4)
        session = Session(Neighbourhood(FOR_A_TRIPLE, Path(folder), policy=policy, protection=protection))
        a, b, c = session.members[:3]
        everybody, without = sums_without(session, [(), (a, b, c)])
        known = session.region.vector(b) + session.region.vector(c)
        return np.array_equal(everybody - without - known, session.region.vector(a))


def sums_without(session: Session, left_out: Sequence[Sequence[str]]) -> list[NDArray[np.uint64]]:
    """Open one sum a round, each without some silos. Raises: Blocked."""
    sums: list[NDArray[np.uint64]] = []
    for number, missing in enumerate(left_out, start=1):
        adapter = version(number)
        manifest = session.manifest(number=number, adapter=adapter)
        total = session.attempt(manifest, adapter, deaf=dict.fromkeys(missing, ASK_VECTOR))
        session.close_round(number, total.contributors, adapter)
        sums.append(total.total)
    return sums


ATTACK = Attack(
    id="A19",
    title="cohorts that differ by two",
    does="The server has sums opened that differ by two silos each, and solves for one",
    unprotected=against_twin,
    protected=against_us,
)
