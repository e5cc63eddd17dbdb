"""Several ways to one goal: each is tried, and the outcome says of each what came of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from fedcollm_secure.assurance.attacks.attack_outcome import Outcome
from fedcollm_secure.assurance.attacks.malicious_server import Blocked
from fedcollm_secure.assurance.attacks.protection import Protection, each_protection

NO_MEANING = "has no meaning here"

Way = Callable[[], bool]
"""Return whether the goal was reached. Raises: Blocked."""
WaysUnder = Callable[[Protection], Mapping[str, Way]]
"""Return the ways to try on silos under this protection: the same under each, or none where it has no meaning."""


@dataclass(frozen=True, kw_only=True)
class Tried:
    """What came of one way: `code` is the refusal's, or empty where nobody refused."""

    reached: bool
    code: str = ""

    @property
    def reason(self) -> str:
        """Return the code of what stopped it; empty where nothing did."""
        return "" if self.reached else self.code or "gains_nothing"

    @property
    def words(self) -> str:
        """Say it to a person."""
        return f"refused ({self.code})" if self.code else "REACHES ITS GOAL" if self.reached else "gains nothing"


def try_way(way: Way) -> Tried:
    """Try one."""
    try:
        return Tried(reached=way())
    except Blocked as blocked:
        return Tried(reached=False, code=str(blocked))


def try_ways(ways: Mapping[str, Way]) -> Outcome:
    """Try each way; the attack succeeds when one does."""
    tried = {name: try_way(way) for name, way in ways.items()}
    reached = sum(one.reached for one in tried.values())
    return Outcome(
        succeeded=reached > 0,
        reason=", ".join(one.reason for one in tried.values() if not one.reached),
        told="; ".join(f"{name}: {one.words}" for name, one in tried.items()),
        figures={"ways_tried": len(ways), "ways_refused": len(ways) - reached},
    )


def try_under_each(ways_under: WaysUnder) -> Outcome:
    """Try the same ways under each protection; the attack succeeds when one does anywhere."""
    with each_protection() as protections:
        tried = {one.name: {name: try_way(way) for name, way in ways_under(one).items()} for one in protections}
    first, *_ = tried.values()
    found = [one for ways in tried.values() for one in ways.values()]
    reached = sum(one.reached for one in found)
    figures = {
        "protections": sum(map(bool, tried.values())),
        "ways_tried": len(found),
        "ways_refused": len(found) - reached,
    }
    for name, ways in tried.items():
        figures |= {f"{name}_ways": len(ways), f"{name}_refused": sum(not one.reached for one in ways.values())}
    rows = [(name, *(ways[name].words if ways else NO_MEANING for ways in tried.values())) for name in first]
    under = [name for name, ways in tried.items() if ways]
    return Outcome(
        succeeded=reached > 0,
        reason=", ".join(dict.fromkeys(one.reason for one in found if not one.reached)),
        told=f"{len(first)} ways under each of {', '.join(map(_spaced, under))}: {reached or 'none'} reaches the goal",
        figures=figures,
        table=[("way", *map(_spaced, tried)), *rows],
    )


def _spaced(name: str) -> str:
    return name.replace("_", " ")
