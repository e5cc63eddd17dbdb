"""A11: the server has two sums opened that differ by one silo; their difference is that silo's update.

For one model version the difference is exact. Across versions it is close where updates change slowly (So et al.,
*Securing Secure Aggregation*, arXiv 2106.03328): a silo can only limit how often it happens, or add noise.
"""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from fedcollm_crypto.aggregation import PartyId, Vector
from fedcollm_crypto.masking.policy import SiloPolicy
from fedcollm_secure.assurance.attacks.attack_consortium import (
    Consortium,
    as_update,
    equal_weights,
    is_recovered,
    largest_error,
    random_updates,
)
from fedcollm_secure.assurance.attacks.attack_outcome import Attack, Outcome
from fedcollm_secure.assurance.attacks.attack_variants import try_ways
from fedcollm_secure.assurance.attacks.malicious_server import Blocked, Mallory
from fedcollm_secure.assurance.attacks.twins.unruled_round import TwinRound, twin_silos

SILOS = 7


def against_twin() -> Outcome:
    """Open the sum over all and the sum over all but the last, of the same model, one after the other."""
    updates, encoding = random_updates(SILOS), equal_weights(SILOS)
    vectors = {name: encoding.encode(update, 1) for name, update in updates.items()}
    silos = twin_silos(tuple(updates))
    *others, victim = tuple(silos)
    difference = TwinRound(silos, vectors).open_sum(tuple(silos)) - TwinRound(silos, vectors).open_sum(others)
    error = largest_error(as_update(difference, encoding), updates[victim])
    return Outcome(
        succeeded=is_recovered(error, encoding),
        told=f"two sums of one model differ by {victim}'s update, to {error:.1e}",
        figures={"max_abs_error": error, "sums_opened": 2},
    )


def against_us() -> Outcome:
    """Ask for a second sum of one model; then, model after model, for sums that leave one silo out."""
    second = try_ways({"a second sum of one model": open_two_sums_of_one_model})
    limit = SiloPolicy().max_single_changes
    errors: list[float] = []
    code = ""
    try:
        for error in drop_one_silo_round_after_round(limit + 1):
            errors.append(error)
    except Blocked as blocked:
        code = str(blocked)
    return Outcome(
        succeeded=second.succeeded or len(errors) > limit,
        reason=", ".join(filter(None, (second.reason, code))),
        told=(
            f"{second.told}. Across models, without differential privacy, {len(errors)} sums that differ by one silo "
            f"are allowed{f', the next is refused ({code})' if code else ' WITHOUT LIMIT'}: where updates change "
            "little, those few differences still come close to one; max_single_changes: 0 forbids them"
        ),
        figures={
            "single_changes_allowed": len(errors),
            "max_abs_error_of_those": max(errors, default=0.0),
            "single_changes_refused": int(bool(code)),
        },
    )


def open_two_sums_of_one_model() -> bool:
    """Open Σ(U), and in the next round Σ(U∖{d}) for the same adapter; return whether the difference is x_d."""
    consortium = Consortium(random_updates(SILOS))
    mallory = Mallory(consortium, consortium.manifest())
    mallory.collect()
    first = mallory.open_honestly(mallory.names)
    again = Mallory(consortium, replace(mallory.manifest, round=2), silos=mallory.silos)
    again.collect()
    *others, victim = again.names
    return np.array_equal(first - again.open_honestly(others), consortium.vector(victim))


def drop_one_silo_round_after_round(changes: int, policy: SiloPolicy | None = None) -> Iterator[float]:
    """Open a sum over all, then one after another without one silo each; yield how far each difference is off.

    Updates stay as they are from round to round, the worst case. Raises: Blocked.
    """
    consortium = Consortium(random_updates(SILOS), policy=policy)
    everybody = consortium.names
    first = _sum_of_round(consortium, 1, everybody)
    for change in range(changes):
        victim = everybody[-1 - change]
        survivors = tuple(name for name in everybody if name != victim)
        difference = first - _sum_of_round(consortium, 2 + change, survivors)
        yield largest_error(as_update(difference, consortium.encoding), consortium.updates[victim])


def _sum_of_round(consortium: Consortium, number: int, survivors: tuple[PartyId, ...]) -> Vector:
    manifest = replace(consortium.manifest(), round=number, adapter_hash=f"{number:064x}")
    mallory = Mallory(consortium, manifest)
    mallory.collect()
    return mallory.open_honestly(survivors)


ATTACK = Attack(
    id="A11",
    title="cohort differencing",
    does="The server has two sums opened that differ by one silo, and subtracts",
    unprotected=against_twin,
    protected=against_us,
)
