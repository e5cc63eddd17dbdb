"""An honest log's lines with one thing changed, as a keeper would who signs anything."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from fedcollm_secure.audit_log.events import Event, RoundSummed
from tests.witnessed_log import summed


def bent(lines: Iterable[Event], kind: type[Event], which: int = 0, **changes: Any) -> list[Event]:
    """Return the lines with one of a kind changed; `which` counts them."""
    found = list(lines)
    place = [place for place, line in enumerate(found) if isinstance(line, kind)][which]
    found[place] = replace(found[place], **changes)
    return found


def without(lines: Iterable[Event], kind: type[Event], which: int = 0) -> list[Event]:
    """Return the lines without one of a kind."""
    found = list(lines)
    del found[[place for place, line in enumerate(found) if isinstance(line, kind)][which]]
    return found


def summed_again(lines: list[Event]) -> list[Event]:
    """Return the lines with digests of all replies that fit the stages that are left: the keeper writes both."""
    return [replace(line, replies=summed(lines).replies) if isinstance(line, RoundSummed) else line for line in lines]
