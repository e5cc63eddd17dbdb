"""Every choice that a server has, at small sizes, played to its end: silos decide by their own rule functions.

    a strategy   up to k attempts; each: which session, which model version, over whom (U3), what t, whom to
                 ask for shares, and whether the log that others are shown later names the sum
    the silos    answer as `strategy_region` has it, and all sums are checked

Cryptography is left out: it decides who can read what, and the rules decide what is asked. A server gains most by
asking as few as it needs for shares, since whoever reveals remembers the sum; so exactly t do. What a refused attempt
leaves behind is nothing, so such a strategy ends there. The first attempt is looked at up to a renaming of the honest
silos.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.masking.exposure import Silos
from fedcollm_secure.assurance.attacks.attack_consortium import silo_names
from fedcollm_secure.assurance.attacks.strategy_region import Attempt, Region, World

LEAST = 3
"""Silos in the smallest session."""


@dataclass(kw_only=True)
class Explored:
    """How many strategies were played to their end, how many sums they opened, and the first that broke something."""

    strategies: int = 0
    sums_opened: int = 0
    broken: tuple[Attempt, ...] = ()


def explore(region: Region, attempts: int) -> Explored:
    """Play every strategy of at most this many attempts; stop at the first that breaks the invariant."""
    found = Explored()

    def follow(world: World, left: int) -> bool:
        found.strategies += 1
        if not left:
            return False
        for choice in _first(region, world) if not world.opened else region.choices(world):
            after = region.play(world, choice)
            if after is None:
                found.strategies += 1
                continue
            found.sums_opened += 1
            if region.is_broken(after):
                found.broken = after.opened
                return True
            if follow(after, left - 1):
                return True
        return False

    follow(World(), attempts)
    return found


def explore_all(silos: int, attempts: int) -> Explored:
    """Play every strategy of two sessions over up to this many silos, one of them in league with the server."""
    found = Explored()
    for count in range(LEAST, silos + 1):
        for pair in rosters(count):
            one = explore(Region(count, pair), attempts)
            found.strategies += one.strategies
            found.sums_opened += one.sums_opened
            found.broken = found.broken or one.broken
            if found.broken:
                return found
    return found


def rosters(silos: int, *, colluding: int = 1) -> Iterator[tuple[Silos, Silos]]:
    """Yield the rosters of two sessions over all these silos, one for each that differs by more than honest names."""
    names = silo_names(silos)
    honest, in_league = names[: silos - colluding], frozenset(names[silos - colluding :])
    leagues = [frozenset[PartyId](), in_league] if colluding else [in_league]
    for only_first, only_second in itertools.product(range(len(honest) + 1), repeat=2):
        first, second = frozenset(honest[: len(honest) - only_second]), frozenset(honest[only_first:])
        for one, other in itertools.product(leagues, repeat=2):
            pair = first | one, second | other
            if min(map(len, pair)) >= LEAST and pair[0] | pair[1] == frozenset(names):
                yield pair


def _first(region: Region, world: World) -> Iterator[Attempt]:
    """Yield the first attempts, one for each that differs from the others by more than honest silos' names."""
    seen: set[tuple[object, ...]] = set()
    first, second = (frozenset(roster.of_role("silo")) for roster in region.rosters)
    for choice in region.choices(world):
        kind = tuple(
            sorted(
                (name in first, name in second, name in choice.survivors, name in choice.asked)
                for name in region.honest
            )
        )
        form = (choice.session, choice.logged, kind, choice.survivors & region.in_league)
        if form not in seen:
            seen.add(form)
            yield choice
