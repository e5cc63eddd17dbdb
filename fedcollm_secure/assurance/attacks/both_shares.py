"""A3: the server wants both secrets of one silo: it asks about two sets of survivors, or one silo in both lists.

With b alone an upload stays hidden behind pairwise masks, with s alone behind its own; with both it lies open.
"""

from dataclasses import replace

import numpy as np

from fedcollm_crypto.aggregation import PartyId, Vector
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
from fedcollm_secure.assurance.attacks.colluding_silo import Puppet
from fedcollm_secure.assurance.attacks.malicious_server import Mallory, added_up
from fedcollm_secure.assurance.attacks.twins.unruled_round import TwinRound, twin_silos, without
from fedcollm_secure.assurance.attacks.twins.unruled_silo import twin_pair_masks, twin_self_mask


def against_twin() -> Outcome:
    """Name the victim both active and dead in one request."""
    updates, encoding = random_updates(5), equal_weights(5)
    played = TwinRound(twin_silos(tuple(updates)), {n: encoding.encode(update, 1) for n, update in updates.items()})
    victim = played.names[0]
    shares = played.ask(active=played.names, dead=[victim])
    others = {name: played.hellos[name] for name in played.names if name != victim}
    plus, minus = twin_pair_masks(victim, played.private_key(victim, shares), others)
    opened = without(played.words[victim], [twin_self_mask(played.seed(victim, shares)), *plus], minus)
    error = largest_error(as_update(opened, encoding), updates[victim])
    return Outcome(
        succeeded=is_recovered(error, encoding),
        told=f"one request names {victim} active and dead; its update lies open, to {error:.1e}",
        figures={"max_abs_error": error, "requests_a_silo": 1},
    )


def against_us() -> Outcome:
    """Try the ways that are left: who is active and who is dead follows from a silo's record, not from the request."""
    return try_ways(
        {
            "a second set for the same silos": ask_each_silo_about_two_sets,
            "two halves, two sets": ask_two_halves_about_two_sets,
            "a set for each silo": show_everybody_another_set,
        }
    )


def ask_each_silo_about_two_sets() -> bool:
    """Get consents to the sum with the victim and to the sum without it, from the same silos; then open both."""
    mallory = _fresh(7)
    mallory.collect()
    victim, *others = mallory.names
    with_victim = [mallory.consent(party, mallory.names) for party in mallory.names]
    without_victim = [mallory.consent(party, others) for party in others]
    dead = {party: mallory.reveal(party, without_victim) for party in others}
    alive = {party: mallory.reveal(party, with_victim) for party in mallory.names}
    opened = mallory.open_one(victim, mallory.seed(victim, alive), mallory.private_key(victim, dead), others)
    return _is_update_of(mallory, victim, opened)


def ask_two_halves_about_two_sets() -> bool:
    """With t = 4 of 7 and one silo in league: one half of the others opens the victim's b, the other half its s."""
    consortium = Consortium(random_updates(7))
    manifest = replace(consortium.manifest(), adversary="semi_honest", threshold=4)
    victim, friend = manifest.cohort[0], manifest.cohort[6]
    puppet = Puppet(signer=consortium.identities[friend], vector=consortium.vector(friend))
    mallory = Mallory(consortium, manifest, puppets={friend: puppet})
    mallory.collect()
    own = mallory.opened_by(friend, victim)
    seeds, keys = {friend: own.seed_share}, {friend: own.key_share}
    for half, survivors in ((mallory.names[:3], mallory.names), (mallory.names[3:6], mallory.names[1:])):
        consents = [mallory.consent(party, survivors) for party in (*half, friend)]
        for party in half:
            reveal = mallory.reveal(party, consents)
            if victim in survivors:
                seeds[party] = reveal.seed_shares[victim]
            else:
                keys[party] = reveal.key_shares[victim]
    opened = mallory.open_one(victim, mallory.combine(seeds), mallory.combine(keys), mallory.names[1:])
    return _is_update_of(mallory, victim, opened)


def show_everybody_another_set() -> bool:
    """Of ten silos each leaves out three, but not the same ones: seven leave out each of four. A sum of six opens."""
    mallory = _fresh(10)
    mallory.collect()
    inside, outside = mallory.names[:6], mallory.names[6:]
    left_out = {party: [q for q in outside if q != outside[i % 4]] for i, party in enumerate(inside)}
    left_out |= {party: [q for q in outside if q != party] for party in outside}
    consents = {p: mallory.consent(p, [q for q in mallory.names if q not in left_out[p]]) for p in mallory.names}
    reveals = {party: mallory.reveal(party, [consents[party]]) for party in mallory.names}
    opened = mallory.open_sum(inside, reveals)
    expected = added_up([mallory.consortium.vector(party) for party in inside])
    return len(inside) < mallory.manifest.floor and np.array_equal(opened, expected)


def _fresh(silos: int) -> Mallory:
    consortium = Consortium(random_updates(silos))
    return Mallory(consortium, consortium.manifest())


def _is_update_of(mallory: Mallory, victim: PartyId, opened: Vector) -> bool:
    return np.array_equal(opened, mallory.consortium.vector(victim))


ATTACK = Attack(
    id="A3",
    title="both secrets of one silo",
    does="The server asks for unmasking with two sets of survivors, or with the victim among the active and the dead",
    unprotected=against_twin,
    protected=against_us,
)
