"""A6: the server, with one silo in league, tries every seed of the one mask that is left on an upload.

It lawfully learns the victim's own mask, and its friend the mask that they share. In a cohort of three one pairwise
mask remains. Folded to 32 bits, as in practice, its seed is found in minutes to hours; here 20 bits make it a toy.
"""

import secrets
import time
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto.stream import KEY_BYTES
from fedcollm_secure.assurance.attacks.attack_consortium import Consortium, largest_error, random_updates
from fedcollm_secure.assurance.attacks.attack_outcome import Attack, Outcome
from fedcollm_secure.assurance.attacks.colluding_silo import Puppet
from fedcollm_secure.assurance.attacks.malicious_server import Mallory, unmasked
from fedcollm_secure.assurance.attacks.twins.weak_generator import twister, weak_stream

TOY_BITS = 20
PRACTICE_BITS = 32
SILOS = 3
_BLOCK = 1 << 14
_WORDS = 8
"""Words that must all come out small: a wrong seed passes with probability 2^-64."""

Words = NDArray[np.uint32]


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a search found: the seed, or None; how many were tried; how long it took."""

    seed: int | None
    tried: int
    seconds: float


def search_seed(words: Words, largest: int, bits: int) -> Search:
    """Look for the seed under which the first words become integers of at most this magnitude."""
    begun = time.perf_counter()
    for start in range(0, 1 << bits, _BLOCK):
        seeds = np.arange(start, start + _BLOCK, dtype=np.uint32)
        small = _magnitude(words[0] - first_words(seeds)) <= largest
        for seed in seeds[small]:
            if (_magnitude(words[:_WORDS] - twister(int(seed), _WORDS)) <= largest).all():
                return Search(seed=int(seed), tried=int(seed) + 1, seconds=time.perf_counter() - begun)
    return Search(seed=None, tried=1 << bits, seconds=time.perf_counter() - begun)


def first_words(seeds: Words) -> Words:
    """Return the first output of MT19937 for each seed (Matsumoto and Nishimura 1998), all at once."""
    state = seeds.copy()
    second = state
    for index in range(1, 398):
        state = (state ^ (state >> np.uint32(30))) * np.uint32(1812433253) + np.uint32(index)
        second = state if index == 1 else second
    mixed = (seeds & np.uint32(0x80000000)) | (second & np.uint32(0x7FFFFFFF))
    word: Words = state ^ (mixed >> np.uint32(1)) ^ ((mixed & np.uint32(1)) * np.uint32(0x9908B0DF))
    word ^= word >> np.uint32(11)
    word ^= (word << np.uint32(7)) & np.uint32(0x9D2C5680)
    word ^= (word << np.uint32(15)) & np.uint32(0xEFC60000)
    word ^= word >> np.uint32(18)
    return word


def _magnitude(words: Words) -> NDArray[np.int64]:
    return np.abs(words.view(np.int32).astype(np.int64))


def against_twin() -> Outcome:
    """Search the seed of a mask made by the twin's generator, and take the mask off."""
    consortium = Consortium(random_updates(SILOS))
    victim = consortium.names[0]
    vector, key = consortium.vector(victim).astype(np.uint32), secrets.token_bytes(KEY_BYTES)
    upload = vector + weak_stream(key, len(vector), TOY_BITS)
    found = search_seed(upload, consortium.encoding.levels, TOY_BITS)
    if found.seed is None:
        return Outcome(succeeded=False, reason="not_found", told="no seed fits", figures={"seeds_tried": found.tried})
    opened = (upload - twister(found.seed, len(upload)))[:-2].view(np.int32).astype(np.float64)
    error = largest_error(opened * consortium.encoding.grid, consortium.updates[victim])
    hours = found.seconds / found.tried * 2**PRACTICE_BITS / 3600
    return Outcome(
        succeeded=error <= consortium.encoding.grid,
        told=(
            f"seed {found.seed} found after {found.tried:,} tries in {found.seconds:.1f} s on one core; the update "
            f"lies open, to {error:.1e}. All 2^32 seeds of practice would take {hours:.1f} h"
        ),
        figures={
            "max_abs_error": error,
            "seeds_tried": found.tried,
            "seed_bits": TOY_BITS,
            "seconds": found.seconds,
            "hours_for_32_bits": hours,
        },
    )


def against_us() -> Outcome:
    """Run the same search on what is left of a real upload."""
    consortium = Consortium(random_updates(SILOS))
    left = what_is_left(consortium)
    found = search_seed(left.astype(np.uint32), consortium.encoding.levels, TOY_BITS)
    return Outcome(
        succeeded=found.seed is not None,
        reason="no_seed_fits" if found.seed is None else "",
        told=(
            f"none of {found.tried:,} seeds fits: masks are AES-256 in counter mode under {8 * KEY_BYTES}-bit keys out "
            "of HKDF-SHA256, nothing is folded"
        ),
        figures={"seeds_tried": found.tried, "seed_bits": 8 * KEY_BYTES},
    )


def what_is_left(consortium: Consortium) -> NDArray[np.uint64]:
    """Return the victim's upload under one pairwise mask alone: what the server and its friend cannot take off."""
    manifest = consortium.manifest()
    victim, other, friend = manifest.cohort
    puppet = Puppet(signer=consortium.identities[friend], vector=consortium.vector(friend))
    mallory = Mallory(consortium, manifest, puppets={friend: puppet})
    mallory.collect()
    consents = [mallory.consent(party, mallory.names) for party in mallory.names]
    shares = {party: mallory.reveal(party, consents).seed_shares[victim] for party in (victim, other)}
    seed = mallory.combine(shares | {friend: mallory.opened_by(friend, victim).seed_share})
    added, subtracted = mallory.pair_masks(friend, puppet.secrets.mask.private_bytes_raw(), [victim])
    return unmasked(mallory.words[victim], [mallory.self_mask(victim, seed), *subtracted], added)


ATTACK = Attack(
    id="A6",
    title="mask search",
    does="The server, with one silo of three in league, tries all seeds of the one mask left on an upload",
    unprotected=against_twin,
    protected=against_us,
)
