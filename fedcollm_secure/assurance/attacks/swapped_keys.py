"""A4: the server puts its own keys in place of everybody else's, or made-up silos into the cohort.

It then holds every key that the victim agrees on: it opens the boxes, and with them the victim's upload.
"""

from collections.abc import Mapping
from dataclasses import replace

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedcollm_crypto import sealing, shamir
from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.roster import Roster
from fedcollm_secure.assurance.attacks.attack_consortium import (
    SERVER,
    Consortium,
    as_member,
    as_update,
    equal_weights,
    is_recovered,
    largest_error,
    random_updates,
)
from fedcollm_secure.assurance.attacks.attack_outcome import Attack, Outcome
from fedcollm_secure.assurance.attacks.attack_variants import try_ways
from fedcollm_secure.assurance.attacks.colluding_silo import Puppet
from fedcollm_secure.assurance.attacks.malicious_server import Mallory
from fedcollm_secure.assurance.attacks.twins.unruled_round import TwinRound, twin_silos, without
from fedcollm_secure.assurance.attacks.twins.unruled_silo import TwinHello, box_key, twin_pair_masks, twin_self_mask

SILOS = 5


def against_twin() -> Outcome:
    """Answer the victim with hellos of the server's making; nobody signed them and nobody looks."""
    updates, encoding = random_updates(SILOS), equal_weights(SILOS)
    victim, *others = tuple(updates)
    channels = {name: X25519PrivateKey.generate() for name in others}
    fakes = {name: _twin_hello(name, channels[name]) for name in others}
    vectors = {name: encoding.encode(update, 1) for name, update in updates.items()}
    played = TwinRound(twin_silos(tuple(updates)), vectors, {victim: fakes})
    seed, private = _open_boxes(played, victim, channels)
    plus, minus = twin_pair_masks(victim, private, fakes)
    opened = without(played.words[victim], [twin_self_mask(seed), *plus], minus)
    error = largest_error(as_update(opened, encoding), updates[victim])
    return Outcome(
        succeeded=is_recovered(error, encoding),
        told=f"{victim} agrees on all its keys with the server; its update lies open, to {error:.1e}",
        figures={"max_abs_error": error, "keys_swapped": 2 * len(others)},
    )


def _twin_hello(name: PartyId, private: X25519PrivateKey) -> TwinHello:
    public = private.public_key().public_bytes_raw()
    return TwinHello(sender=name, channel_key=public, mask_key=public, signature=b"")


def _open_boxes(
    played: TwinRound, victim: PartyId, channels: Mapping[PartyId, X25519PrivateKey]
) -> tuple[bytes, bytes]:
    """Return b and s of the victim out of the boxes that it dealt to the server's keys."""
    seeds: dict[int, bytes] = {}
    keys: dict[int, bytes] = {}
    for name, private in channels.items():
        key = box_key(private, played.hellos[victim].channel_key, victim, name)
        # A box's key names its sender and recipient, and the X25519 secret is the same from both ends.
        opened = sealing.unseal(key, played.boxes[victim][name], b"")
        point = played.names.index(name) + 1
        seeds[point], keys[point] = opened[: shamir.SHARE_BYTES], opened[shamir.SHARE_BYTES :]
    threshold = len(channels)  # all that there are: as many as needed, or more
    return shamir.combine(seeds, threshold), shamir.combine(keys, threshold)


def against_us() -> Outcome:
    """Forge the hellos, then try a roster with made-up silos."""
    return try_ways(
        {"hellos in others' names": pretend_to_be_everybody_else, "a roster with made-up silos": smuggle_in_silos}
    )


def pretend_to_be_everybody_else() -> bool:
    """Put keys of one's own into everybody else's hello; then open all boxes of the victim, and its upload."""
    consortium = Consortium(random_updates(SILOS))
    manifest = consortium.manifest()
    victim, *fakes = manifest.cohort
    key = consortium.identities[SERVER]
    puppets = {name: Puppet(signer=replace(key, party=name), vector=consortium.vector(name)) for name in fakes}
    mallory = Mallory(consortium, manifest, puppets=puppets)
    mallory.meet()
    mallory.deal()
    mallory.upload(victim)
    opened = {name: mallory.opened_by(name, victim) for name in fakes}
    seed = mallory.combine({name: each.seed_share for name, each in opened.items()})
    private = mallory.combine({name: each.key_share for name, each in opened.items()})
    recovered = as_update(mallory.open_one(victim, seed, private, fakes), consortium.encoding)
    return is_recovered(largest_error(recovered, consortium.updates[victim]), consortium.encoding)


def smuggle_in_silos() -> bool:
    """Propose a round whose roster and cohort hold two honest silos and three of the server's making."""
    consortium = Consortium(random_updates(SILOS))
    victim, other, *_ = consortium.names
    made_up = {f"sybil-{number}": Identity.generate(f"sybil-{number}") for number in range(3)}
    members = tuple(m for m in consortium.roster.members if m.id in (victim, other, SERVER))
    members += tuple(as_member(key, "silo") for key in made_up.values())
    roster = Roster(consortium_id="attacked", epoch=1, members=members, policy={})
    cohort = tuple(sorted((victim, other, *made_up)))
    manifest = replace(consortium.manifest(), cohort=cohort, roster_hash=roster.hash)
    Mallory(consortium, manifest, silos={victim: consortium.silo(victim, manifest)}).greet(victim)
    return True


ATTACK = Attack(
    id="A4",
    title="swapped keys and made-up silos",
    does="The server gives one silo its own keys for everybody else's, or fills the cohort with silos of its making",
    unprotected=against_twin,
    protected=against_us,
)
