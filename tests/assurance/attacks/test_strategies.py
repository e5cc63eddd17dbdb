"""Every strategy of a server at small sizes, by the silos' own rule functions; and each rule is needed.

`STRATEGY_SILOS=6 pytest tests/assurance/attacks/test_strategies.py -k every_strategy` plays all three million of six.
"""

import os
from collections.abc import Callable
from contextlib import ExitStack
from unittest.mock import patch

import pytest

from fedcollm_crypto.masking import invariant, rules
from fedcollm_crypto.masking.invariant import Memory
from fedcollm_secure.assurance.attacks import strategy_region
from fedcollm_secure.assurance.attacks.strategies import Explored, explore, explore_all, rosters
from fedcollm_secure.assurance.attacks.strategy_region import Attempt, Region, World
from fedcollm_secure.assurance.attacks.twins import former_rules

SILOS = int(os.environ.get("STRATEGY_SILOS", "5"))
KNOWN = {3: 877, 4: 48_729, 5: 478_926, 6: 3_445_653}
"""How many strategies there are for up to so many silos: counted once, so that none gets lost unseen."""


def test_every_strategy_of_three_attempts_and_two_sessions_leaves_the_invariant_whole() -> None:
    found = explore_all(SILOS, attempts=3)

    assert found.broken == ()
    assert found.strategies == KNOWN[SILOS]
    assert found.sums_opened > 1000  # a world in which nothing is ever opened would show nothing


def test_an_honest_server_opens_a_sum_in_each_round_of_two_sessions() -> None:
    everybody = next(pair for pair in rosters(5) if len(pair[0]) == len(pair[1]) == 5)
    region, world = Region(5, everybody), World()
    for session, version in ((0, 0), (0, 2), (1, 0), (1, 4)):
        choice = Attempt(
            session=session, version=version, survivors=everybody[0], threshold=4, asked=everybody[0], logged=True
        )
        after = region.play(world, choice)
        assert after is not None
        world = after
    assert not region.is_broken(world)


SABOTAGES: dict[str, tuple[tuple[object, str, Callable[..., object]], ...]] = {
    "A14 t of the cohort": ((rules, "require_threshold", former_rules.threshold_of_the_cohort),),
    "A14 two sums of one version": ((invariant, "require_one_dimension", former_rules.allow),),
    "A19 single changes alone": ((invariant, "limit_exposure", former_rules.single_changes_alone),),
    "A23 memory of one session": ((Memory, "of_version", former_rules.sums_of_this_session),),
    "A23 sessions that share nobody": ((invariant, "require_overlap", former_rules.allow),),
}


@pytest.mark.parametrize("name", SABOTAGES)
def test_without_a_rule_some_strategy_breaks_the_invariant(name: str) -> None:
    with ExitStack() as stack:
        for owner, attribute, instead in SABOTAGES[name]:
            stack.enter_context(patch.object(owner, attribute, instead))
        found = _first_break(range(3, 8))

    assert found.broken, f"{name}: {found.strategies} strategies, and none breaks anything"
    assert found.strategies < 500_000


def _first_break(sizes: range) -> Explored:
    total = Explored()
    for silos in sizes:
        for pair in rosters(silos):
            found = explore(Region(silos, pair), 3)
            total.strategies += found.strategies
            if found.broken:
                total.broken = found.broken
                return total
    return total


def test_a_log_that_leaves_a_sum_out_hides_it_from_nobody_who_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the rule on unlogged sums, a server opens one that those who come later never hear of."""
    pair = next(pair for pair in rosters(4) if len(pair[0]) == len(pair[1]) == 4)
    hidden = _after_a_hidden_sum(Region(4, pair))
    monkeypatch.setattr(strategy_region, "require_logged", former_rules.allow)
    shown = _after_a_hidden_sum(Region(4, pair))

    assert (hidden, shown) == (False, True)


def _after_a_hidden_sum(region: Region) -> bool:
    """Open a sum, leave it out of the log, and open the next one; return whether it opens."""
    everybody = frozenset(region.names)
    first = Attempt(session=0, version=0, survivors=everybody, threshold=3, asked=everybody, logged=False)
    world = region.play(World(), first)
    assert world is not None
    second = Attempt(session=0, version=2, survivors=everybody, threshold=3, asked=everybody)
    return region.play(world, second) is not None
