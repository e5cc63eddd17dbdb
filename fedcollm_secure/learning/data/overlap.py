"""The same record twice: inside a silo, in several, or in the test data and a silo, where a score would be memory."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.data.holdings import Holdings
from fedcollm_secure.learning.data.tasks import Record

Key = tuple[str, str]


@dataclass(frozen=True, kw_only=True)
class Duplicates:
    """How many records stand there more than once: by silo, in several silos, and of the test data elsewhere."""

    inside: Mapping[str, int] = field(repr=False)  # records of a silo beyond the first of their kind
    across: int = field(repr=False)  # kinds of records that several silos hold
    test_in_silos: Mapping[str, int] = field(repr=False)  # test records that a silo holds too
    test_in_auxiliary: int


def duplicates(holdings: Holdings) -> Duplicates:
    """Count records of one prompt and one right answer."""
    held = {name: Counter(map(_key, records)) for name, records in holdings.held.items()}
    test = Counter(map(_key, holdings.test))
    homes = Counter(key for found in held.values() for key in found)
    auxiliary = set(map(_key, holdings.auxiliary))
    return Duplicates(
        inside={name: found.total() - len(found) for name, found in held.items()},
        across=sum(count > 1 for count in homes.values()),
        test_in_silos={name: _shared(test, set(found)) for name, found in held.items()},
        test_in_auxiliary=_shared(test, auxiliary),
    )


def require_test_apart(holdings: Holdings) -> None:
    """Refuse test records that a silo trains on.

    Raises:
        ConfigError: with how many each silo holds, and the first test rows.
    """
    found = {name: count for name, count in duplicates(holdings).test_in_silos.items() if count}
    if not found:
        return
    held = {_key(record) for name in found for record in holdings.held[name]}
    first = [record.place for record in holdings.test if _key(record) in held][:3]
    counts = ", ".join(f"{name} {count}" for name, count in found.items())
    raise ConfigError(
        "data.test",
        f"test records lie in silos too ({counts}), the first: {', '.join(first)}. A model that has seen them is "
        "scored on its memory: take them out, or say data: {overlap: allow}",
    )


def _shared(test: Counter[Key], held: set[Key]) -> int:
    return sum(count for key, count in test.items() if key in held)


def _key(record: Record) -> Key:
    return record.prompt, record.answer
