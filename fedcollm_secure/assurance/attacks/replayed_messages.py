"""A5: the server plays old messages again: a manifest, hellos or uploads of a round that is over, or of another cohort.

What an old hello is worth: in earlier rounds the server reported each peer lost once, and lawfully learned that
round's mask key. A silo that masks towards those old keys hides its update from nobody.
"""

from dataclasses import replace

import numpy as np

from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.masking.manifest import RoundManifest
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
from fedcollm_secure.assurance.attacks.malicious_server import Mallory, added_up
from fedcollm_secure.assurance.attacks.twins.unruled_round import TwinRound, twin_silos, without
from fedcollm_secure.assurance.attacks.twins.unruled_silo import TwinHello, twin_pair_masks, twin_self_mask

SILOS = 5


def against_twin() -> Outcome:
    """Learn every peer's key of some round, then show the victim those rounds' hellos, all with valid signatures."""
    updates, encoding = random_updates(SILOS), equal_weights(SILOS)
    vectors = {name: encoding.encode(update, 1) for name, update in updates.items()}
    silos = twin_silos(tuple(updates), signed=True)
    victim, *peers = tuple(silos)
    old: dict[PartyId, TwinHello] = {}
    known: dict[PartyId, bytes] = {}
    for peer in peers:
        earlier = TwinRound(silos, vectors)
        shares = earlier.ask([name for name in silos if name != peer], [peer])
        old[peer], known[peer] = earlier.hellos[peer], earlier.private_key(peer, shares)
    now = TwinRound(silos, vectors, {victim: old})
    plus, minus = [twin_self_mask(now.seed(victim, now.ask(now.names, [])))], list[bytes]()
    for peer in peers:
        added, subtracted = twin_pair_masks(peer, known[peer], {victim: now.hellos[victim]})
        plus, minus = plus + subtracted, minus + added  # the victim's side of it
    error = largest_error(as_update(without(now.words[victim], plus, minus), encoding), updates[victim])
    return Outcome(
        succeeded=is_recovered(error, encoding),
        told=f"{len(peers)} old hellos with valid signatures; {victim}'s next update lies open, to {error:.1e}",
        figures={"max_abs_error": error, "rounds_recorded": len(peers), "hellos_replayed": len(old)},
    )


def against_us() -> Outcome:
    """Play each kind of message again, across rounds, restarts and cohorts."""
    return try_ways(
        {
            "an old manifest": replay_the_manifest,
            "old hellos": replay_the_hellos,
            "hellos of another cohort": replay_across_cohorts,
            "an old upload": replay_an_upload,
        }
    )


def replay_the_manifest() -> bool:
    """Restart all silos after their uploads, and play the same round again; return whether its sum opens."""
    mallory = _fresh()
    mallory.collect()
    again = Mallory(mallory.consortium, mallory.manifest)
    again.collect()
    expected = added_up([again.consortium.vector(party) for party in again.names])
    return np.array_equal(again.open_honestly(again.names), expected)


def replay_the_hellos() -> bool:
    """Show a silo, in round 2, everybody else's hellos of round 1; return whether it deals shares to those keys."""
    first = _fresh()
    first.meet()
    return _deals_among(first, replace(first.manifest, round=2, adapter_hash="cc" * 32))


def replay_across_cohorts() -> bool:
    """The same within one round: hellos that silos sent to a cohort with one more member."""
    first = _fresh()
    first.meet()
    return _deals_among(first, replace(first.manifest, attempt=1, cohort=first.names[:4]))


def _deals_among(first: Mallory, manifest: RoundManifest) -> bool:
    victim = manifest.cohort[0]
    silos = {party: first.consortium.silo(party, manifest) for party in manifest.cohort}
    second = Mallory(first.consortium, manifest, silos=silos)
    second.know({party: first.hellos[party] for party in manifest.cohort} | {victim: second.greet(victim)})
    second.deal([victim])
    return victim in second.parcels


def replay_an_upload() -> bool:
    """Put a silo's upload of attempt 0 among those of attempt 1; return whether the others agree to that sum."""
    first = _fresh()
    first.collect()
    second = Mallory(first.consortium, replace(first.manifest, attempt=1), silos=first.silos)
    second.collect()
    late, *others = second.names
    second.uploads[late], second.words[late] = first.uploads[late], first.words[late]
    for party in others:
        second.consent(party, second.names)
    return True


def _fresh() -> Mallory:
    consortium = Consortium(random_updates(SILOS))
    return Mallory(consortium, consortium.manifest())


ATTACK = Attack(
    id="A5",
    title="replay",
    does="The server plays old manifests, hellos and uploads again, across rounds, restarts and cohorts",
    unprotected=against_twin,
    protected=against_us,
)
