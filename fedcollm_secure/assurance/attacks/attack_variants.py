"""Several ways to one goal: each is tried, and the outcome says of each what came of it."""

from collections.abc import Callable, Mapping

from fedcollm_secure.assurance.attacks.attack_outcome import Outcome
from fedcollm_secure.assurance.attacks.malicious_server import Blocked

Way = Callable[[], bool]
"""Return whether the goal was reached. Raises: Blocked."""


def try_ways(ways: Mapping[str, Way]) -> Outcome:
    """Try each way; the attack succeeds when one does."""
    codes, said, reached = list[str](), list[str](), 0
    for name, way in ways.items():
        try:
            done = way()
            reached += done
            said.append(f"{name}: {'REACHES ITS GOAL' if done else 'gains nothing'}")
            codes += [] if done else ["gains_nothing"]
        except Blocked as blocked:
            codes.append(str(blocked))
            said.append(f"{name}: refused ({blocked})")
    return Outcome(
        succeeded=reached > 0,
        reason=", ".join(codes),
        told="; ".join(said),
        figures={"ways_tried": len(ways), "ways_refused": len(ways) - reached},
    )
