"""The lines of a ledger file, and the chain that binds each to all before it.

A line is a JSON object in canonical form (sorted keys, no white space, no floats) and a line feed:
`{"hash": h_n, "index": n, "kind": …, "previous": h_(n-1), …}` with h_n = SHA-256("fedcollm/v1/ledger" ‖ 0 ‖ the line
without its `hash`), h_(-1) = 64 zeros. The chain shows edits to one who holds a later head; whoever can rewrite the
whole file can rewrite its hashes, which is why heads are also published in the consortium's log.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from fedcollm_privacy.decimals import parse_decimal, to_decimal
from fedcollm_privacy.plans import Plan, read_plan

GENESIS = "0" * 64
_LABEL = b"fedcollm/v1/ledger\0"
_CHAIN = frozenset({"index", "kind", "previous", "hash"})


@dataclass(frozen=True, kw_only=True)
class Opened:
    """Entry 0: whose budget this is. `simulated` marks a ledger that does not outlive its run."""

    population: str
    epsilon: float
    delta: float
    simulated: bool


@dataclass(frozen=True, kw_only=True)
class Reserved:
    """A round that may now train; `epsilon_after` is what the population has spent with it."""

    session: str
    round: int
    plan: Plan
    epsilon_after: float


@dataclass(frozen=True, kw_only=True)
class Released:
    """An update, named by `digest`, that may now be uploaded."""

    session: str
    round: int
    digest: str


@dataclass(frozen=True, kw_only=True)
class Done:
    """A round that the consortium has closed."""

    session: str
    round: int


@dataclass(frozen=True, kw_only=True)
class Voided:
    """A reservation that its operator gave back, because nothing left under it."""

    session: str
    round: int
    reason: str


Entry: TypeAlias = Opened | Reserved | Released | Done | Voided


def encode(entry: Entry, *, index: int, previous: str) -> tuple[bytes, str]:
    """Return the line of `entry`, line feed included, and its hash."""
    body: dict[str, object] = {"index": index, "previous": previous, **_fields(entry)}
    digest = _hash(body)
    return _canonical(body | {"hash": digest}) + b"\n", digest


def decode(line: bytes, *, index: int, previous: str) -> tuple[Entry, str]:
    """Read one line without its line feed; return the entry and its hash.

    Raises:
        ValueError: anything but the canonical line that `encode` writes at this place of the chain.
    """
    body = _object(line)
    stated = body.pop("hash", None)
    if body.get("index") != index:
        raise ValueError(f"expected index {index}, got {body.get('index')!r}: a line was removed, added or moved")
    if body.get("previous") != previous:
        raise ValueError("the chain is broken: an earlier line was changed, removed or added")
    if stated != _hash(body):
        raise ValueError("the line does not match its own hash: it was changed")
    return _entry(body), str(stated)


def _fields(entry: Entry) -> dict[str, object]:
    match entry:
        case Opened():
            return {
                "kind": "open",
                "population": entry.population,
                "epsilon": to_decimal(entry.epsilon),
                "delta": to_decimal(entry.delta),
                "simulated": entry.simulated,
            }
        case Reserved():
            return _place("reserve", entry) | {
                "plan": entry.plan.as_json(),
                "epsilon_after": to_decimal(entry.epsilon_after),
            }
        case Released():
            return _place("release", entry) | {"digest": entry.digest}
        case Done():
            return _place("done", entry)
        case Voided():
            return _place("void", entry) | {"reason": entry.reason}


def _place(kind: str, entry: Reserved | Released | Done | Voided) -> dict[str, object]:
    return {"kind": kind, "session": entry.session, "round": entry.round}


def _entry(body: Mapping[str, object]) -> Entry:
    fields = {name: value for name, value in body.items() if name not in _CHAIN}
    match body.get("kind"), sorted(fields):
        case "open", ["delta", "epsilon", "population", "simulated"]:
            return Opened(
                population=_text(fields["population"]),
                epsilon=parse_decimal(fields["epsilon"]),
                delta=parse_decimal(fields["delta"]),
                simulated=_flag(fields["simulated"]),
            )
        case "reserve", ["epsilon_after", "plan", "round", "session"]:
            return Reserved(
                session=_text(fields["session"]),
                round=_whole(fields["round"]),
                plan=read_plan(_mapping(fields["plan"])),
                epsilon_after=parse_decimal(fields["epsilon_after"]),
            )
        case "release", ["digest", "round", "session"]:
            return Released(
                session=_text(fields["session"]), round=_whole(fields["round"]), digest=_text(fields["digest"])
            )
        case "done", ["round", "session"]:
            return Done(session=_text(fields["session"]), round=_whole(fields["round"]))
        case "void", ["reason", "round", "session"]:
            return Voided(
                session=_text(fields["session"]), round=_whole(fields["round"]), reason=_text(fields["reason"])
            )
        case kind, keys:
            raise ValueError(f"no entry of kind {kind!r} has exactly the keys {keys}")


def _hash(body: Mapping[str, object]) -> str:
    return hashlib.sha256(_LABEL + _canonical(body)).hexdigest()


def _canonical(body: Mapping[str, object]) -> bytes:
    # RFC 8785 for what occurs here: ASCII keys, strings, integers and booleans.
    return json.dumps(body, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def _object(line: bytes) -> dict[str, object]:
    body: object = json.loads(line)  # a JSONDecodeError is a ValueError, and so is a UnicodeDecodeError
    # Canonical form also rules out a key that is given twice, of which Python would keep the last.
    if not isinstance(body, dict) or _canonical(body) != line:
        raise ValueError("the line is not a JSON object in canonical form")
    return dict(body)


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError(f"expected a non-empty string, got {value!r}")
    return value


def _whole(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"expected an integer of at least 0, got {value!r}")
    return value


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"expected true or false, got {value!r}")
    return value


def _mapping(value: object) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, got {value!r}")
    return {str(name): each for name, each in value.items()}
