"""A14: two sums of one model version, without any accomplice: the server asks other silos each time.

Of ten silos it asks seven for their shares, and tells the three others that the attempt died. Attempt 2 is over those
three. Each silo answers once; the two sums together split the ten.
"""

import tempfile
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from fedcollm_crypto.masking.requests import ASK_CONSENT
from fedcollm_secure.assurance.attacks.attack_outcome import Attack, Outcome
from fedcollm_secure.assurance.attacks.attack_variants import Way, try_under_each
from fedcollm_secure.assurance.attacks.protection import CLASSICAL, Protection
from fedcollm_secure.assurance.attacks.strategies import explore_all
from fedcollm_secure.assurance.attacks.toy_federation import Session
from fedcollm_secure.assurance.attacks.toy_region import Neighbourhood, version
from fedcollm_secure.assurance.attacks.twins.former_rules import rules_that_look_at_one_attempt

SILOS = 10
ENUMERATED, ATTEMPTS = 4, 3


def against_twin() -> Outcome:
    """Attack silos that take t from the cohort of the attempt."""
    with rules_that_look_at_one_attempt():
        split = split_into_two_sums(3)
    return Outcome(
        succeeded=split,
        told="seven of ten silos open the sum over all, the three others the sum over themselves: both sums are out",
        figures={"silos": SILOS, "sums_of_one_version": 2, "smallest_group": 3},
    )


def ways(protection: Protection) -> dict[str, Way]:
    """Return every size of the second cohort, and the same within one session's later round."""
    split = partial(split_into_two_sums, protection=protection)
    sizes: dict[str, Way] = {f"a second sum over {left} silos": partial(split, left) for left in (3, 4, 7, 9)}
    return {**sizes, "the same adapter in a later round": partial(split, 3, number=2)}


def against_us() -> Outcome:
    """Try them under each protection, and every strategy of a few silos against the rules that are common to all."""
    tried, explored = try_under_each(ways), explore_all(ENUMERATED, ATTEMPTS)
    return replace(
        tried,
        succeeded=tried.succeeded or bool(explored.broken),
        told=f"{tried.told}. Of all {explored.strategies} strategies for up to {ENUMERATED} silos with one in league, "
        f"{ATTEMPTS} attempts and two sessions, {'SOME BREAK' if explored.broken else 'none breaks'} the invariant",
        figures={**tried.figures, "strategies": explored.strategies, "sums_opened_in_them": explored.sums_opened},
    )


def split_into_two_sums(left: int, *, number: int = 1, protection: Protection = CLASSICAL) -> bool:
    """Open the sum over all silos with some, then the sum over the last `left`; return whether both are right."""
    with tempfile.TemporaryDirectory() as folder:
        session = Session(Neighbourhood(SILOS, Path(folder), protection=protection))
        names, adapter = session.members, version(0)
        asleep = dict.fromkeys(names[-3:], ASK_CONSENT)
        first = session.attempt(session.manifest(adapter=adapter), adapter, deaf=asleep)
        if number > 1:
            session.close_round(1, first.contributors, adapter)
        cohort = names[-left:]
        t = max(2, 2 * left // 3 + 1)
        again = session.manifest(number=number, attempt=2, adapter=adapter, cohort=cohort, threshold=t)
        second = session.attempt(again, adapter)
        return np.array_equal(first.total - second.total, session.total(names[:-left]))


ATTACK = Attack(
    id="A14",
    title="two sums of one model version",
    does="The server asks seven of ten silos to open a sum, tells the others that it died, and has those open another",
    unprotected=against_twin,
    protected=against_us,
)
