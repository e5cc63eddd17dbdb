"""A23: the same job again, without one silo. The first adapter is public and training is deterministic.

A silo that remembers its sums by session knows of nothing; the two first sums differ by the missing silo's update.
"""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np

from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking.requests import ASK_VECTOR
from fedcollm_secure.assurance.attacks.attack_outcome import Attack, Outcome
from fedcollm_secure.assurance.attacks.attack_variants import Way, try_under_each
from fedcollm_secure.assurance.attacks.encrypted_consortium import DECRYPTOR
from fedcollm_secure.assurance.attacks.protection import CLASSICAL, Protection
from fedcollm_secure.assurance.attacks.toy_federation import Session
from fedcollm_secure.assurance.attacks.toy_region import House, Neighbourhood, version
from fedcollm_secure.assurance.attacks.twins.former_rules import rules_that_look_at_one_attempt

SILOS = 7


def against_twin() -> Outcome:
    """Attack silos that remember sums by session."""
    with rules_that_look_at_one_attempt():
        recovered = recover_in_a_second_session(smaller_roster=True)
    return Outcome(
        succeeded=recovered,
        told="the second session begins from the same public adapter with one silo less: the difference is its update",
        figures={"sessions": 2, "sums": 2},
    )


def ways(protection: Protection) -> dict[str, Way]:
    """Return a roster without the silo, the silo silent, and another first adapter."""
    recover = partial(recover_in_a_second_session, protection=protection)
    return {
        "a roster with one silo less": partial(recover, smaller_roster=True),
        "the same roster, one silo silent": partial(recover, smaller_roster=False),
        "another first adapter, three times": partial(recover, smaller_roster=True, again=3),
    }


def against_us() -> Outcome:
    """Try them under each protection."""
    return try_under_each(ways)


def recover_in_a_second_session(*, smaller_roster: bool, again: int = 0, protection: Protection = CLASSICAL) -> bool:
    """Open the first sum of a session, then of others without the last silo; return whether its update comes out.

    `again`: begin that many further sessions, each from another adapter. The policy bears with two such sums.
    """
    with tempfile.TemporaryDirectory() as folder:
        region = Neighbourhood(SILOS, Path(folder), protection=protection)
        first, adapter = Session(region), version(0)
        *others, victim = first.members
        everybody = first.attempt(first.manifest(adapter=adapter), adapter).total
        without = everybody
        for number in range(max(1, again)):
            session = Session(region, others if smaller_roster else None)
            start = version(number + 1) if again else adapter
            deaf = {} if smaller_roster else {victim: ASK_VECTOR}
            without = session.attempt(session.manifest(adapter=start), start, deaf=deaf).total
        return np.array_equal(everybody - without, region.vector(victim))


def recover_under_another_decryptor(protection: Protection) -> bool:
    """Open a second session without the last silo under a decryptor that remembers no sum; return what comes of it.

    Under CKKS the silos remember none either: this reaches its goal, and stands in no attack's list for that reason.
    """
    with tempfile.TemporaryDirectory() as folder:
        region = Neighbourhood(SILOS, Path(folder), protection=protection)
        first, adapter = Session(region), version(0)
        *others, victim = first.members
        everybody = first.attempt(first.manifest(adapter=adapter), adapter).total
        region.decryptor = House(identity=Identity.generate(DECRYPTOR, post_quantum=protection.post_quantum))
        second = Session(region, others)
        without = second.attempt(second.manifest(adapter=adapter), adapter).total
        return np.array_equal(everybody - without, region.vector(victim))


ATTACK = Attack(
    id="A23",
    title="the same job again without one silo",
    does="The server begins a second session from the same first adapter without one silo, and subtracts",
    unprotected=against_twin,
    protected=against_us,
)
