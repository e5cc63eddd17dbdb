"""Files in the log's folders that no entry names: refused, but for what a crash leaves, which a resumed run takes away.

A file is written before the line that names it, so a crash between the two leaves one that nothing names; a full disk
may leave a part, `.NAME.partial`. In a run that did not finish such a file is no evidence and no forgery:

    statements, proofs, environments   its name is the digest of its bytes
    manifests                          it is the manifest of the attempt that would begin next
    any of them, and checkpoints       its name is .NAME.partial; the last checkpoint's also after the last entry

All else is refused: it would pass for evidence.
"""

import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from pathlib import Path

from fedcollm_crypto import canonical
from fedcollm_crypto.errors import ProtocolError
from fedcollm_secure.audit_log.checkpoint_folder import FOLDER as CHECKPOINTS
from fedcollm_secure.audit_log.environment import ENVIRONMENTS
from fedcollm_secure.audit_log.events import (
    Event,
    PartyConvicted,
    RoundClosed,
    RoundStarted,
    RunFinished,
    RunResumed,
    RunStarted,
    SumDecrypted,
)
from fedcollm_secure.audit_log.logged_parties import PROOFS
from fedcollm_secure.audit_log.openings import STATEMENTS
from fedcollm_secure.audit_log.roster_and_manifests import MANIFESTS
from fedcollm_secure.audit_log.untrusted_files import names_in, read_regular
from fedcollm_secure.errors import LogError, printable

_PARTIAL = re.compile(r"\..+\.partial", re.DOTALL)
_CHECKPOINT = re.compile(r"(0|[1-9][0-9]*)\.txt", re.ASCII)


def check_unnamed(audit: Path, events: Sequence[Event]) -> list[str]:
    """Return what a crash may have left, by name. Raises: LogError for any other file that no entry names."""
    finished = bool(events) and isinstance(events[-1], RunFinished)
    left: list[str] = []
    for folder, name in _unnamed(audit, events):
        known = f"{folder}/{printable(name)}"
        if not (_is_last_partial(folder, name, len(events)) if finished else _is_left(audit / folder / name, events)):
            raise LogError(f"{known} is named by no entry of the log")
        left.append(f"{known} is named by no entry, as a crash leaves it: resume the run")
    return left


def clear_unnamed(audit: Path, events: Sequence[Event]) -> None:
    """Take away what no entry names; the caller holds the log's lock. A folder, and what may not go, stays."""
    for folder, name in _unnamed(audit, events):
        with suppress(OSError):
            (audit / folder / name).unlink()


def _unnamed(audit: Path, events: Sequence[Event]) -> list[tuple[str, str]]:
    """Return folder and name of each file that no entry names."""
    found = [
        (folder, name)
        for folder, named in _named(events).items()
        for name in names_in(audit / folder)
        if name not in named
    ]
    return found + [(CHECKPOINTS, name) for name in names_in(audit / CHECKPOINTS) if not _CHECKPOINT.fullmatch(name)]


def _named(events: Sequence[Event]) -> Mapping[str, set[str]]:
    """Return, by folder, which files the entries name."""
    named: dict[str, set[str]] = {folder: set() for folder in (ENVIRONMENTS, MANIFESTS, PROOFS, STATEMENTS)}
    for event in events:
        match event:
            case RunStarted() | RunResumed():
                named[ENVIRONMENTS].add(f"{event.environment_digest}.txt")
            case RoundStarted():
                named[MANIFESTS].add(f"{event.round}-{event.attempt}.json")
            case PartyConvicted():
                named[PROOFS].add(f"{event.proof_digest}.json")
            case SumDecrypted():
                named[STATEMENTS].add(f"{event.statement_digest}.json")
            case _:
                pass
    return named


def _is_left(path: Path, events: Sequence[Event]) -> bool:
    """Say whether a crash may have left this file."""
    if _PARTIAL.fullmatch(path.name):
        return True
    if path.parent.name == CHECKPOINTS:
        return False
    data = read_regular(path)
    if path.parent.name == MANIFESTS:
        return _is_next_manifest(path.name, data, events)
    return path.name == sha256(data).hexdigest() + (".txt" if path.parent.name == ENVIRONMENTS else ".json")


def _is_next_manifest(name: str, data: bytes, events: Sequence[Event]) -> bool:
    closed = sum(isinstance(event, RoundClosed) for event in events)
    attempts = sum(isinstance(event, RoundStarted) and event.round == closed + 1 for event in events)
    following = closed + 1, attempts + 1
    try:
        said = canonical.decode(data)
    except ProtocolError:
        return False
    told = (said.get("round"), said.get("attempt")) if isinstance(said, Mapping) else ()
    return told == following and name == "{}-{}.json".format(*following)


def _is_last_partial(folder: str, name: str, size: int) -> bool:
    """Say whether it is a part of the checkpoint that is written after the last entry."""
    return (folder, name) == (CHECKPOINTS, f".{size}.txt.partial")
