"""The roster and the manifests that a log names and does not hold itself, held against its digests."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from fedcollm_crypto import canonical
from fedcollm_crypto.checkpoint import Checkpoint, NoteKey
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.roster import Roster, read_roster
from fedcollm_secure.audit_log import untrusted_files
from fedcollm_secure.audit_log.events import RoundStarted, RunStarted
from fedcollm_secure.audit_log.log import LogContents
from fedcollm_secure.audit_log.log_entry import Entry
from fedcollm_secure.audit_log.logged_sums import averages
from fedcollm_secure.errors import LogError

ROSTER_NAME = "roster.json"
MANIFESTS = "manifests"


def read_roster_of(audit: Path, entries: Sequence[Entry], keeper: NoteKey) -> Roster | None:
    """Return the roster that the log was begun under, or None where it is not at hand.

    In a simulated consortium the keeper is the roster's root too.
    Raises: LogError for another roster than the one that entry 0 names (a stale epoch, a member more or fewer, another
    key), for one that too few members signed or in which one did not prove that it has its key, or for a keeper who is
    not in it.
    """
    path, started = audit / ROSTER_NAME, entries[0].event if entries else None
    if not untrusted_files.is_there(path) or not isinstance(started, RunStarted):
        return None
    data = untrusted_files.read_regular(path)
    try:
        roster = read_roster(data, keeper.ed25519, root_mldsa44=_mldsa44_of(data, keeper))
        if started.simulated:  # one program held all keys: each silo signed
            roster = read_roster(data, keeper.ed25519, len(roster.of_role("silo")), _mldsa44_of(data, keeper))
    except ProtocolError as error:
        raise LogError(f"{ROSTER_NAME}: {error}") from error
    if roster.hash != started.roster_digest:
        raise LogError(
            f"{ROSTER_NAME} is not the roster that the run was started under: it is stale or was replaced", 0
        )
    if keeper.ed25519 not in {member.ed25519 for member in roster.members if member.role == "server"}:
        raise LogError(f"{ROSTER_NAME}: the log's keeper is not the server that the roster lists")
    return roster


def keeper_of(roster: Roster, keeper: NoteKey) -> NoteKey:
    """Return the keeper's keys with the ML-DSA-44 key that the roster lists, where none was given."""
    listed = next((member.mldsa44 for member in roster.members if member.ed25519 == keeper.ed25519), b"")
    return keeper if keeper.mldsa44 else replace(keeper, mldsa44=listed)


def _mldsa44_of(data: bytes, keeper: NoteKey) -> bytes:
    """Return the keeper's ML-DSA-44 key: as given, else as the roster lists it."""
    if keeper.mldsa44:
        return keeper.mldsa44
    body = canonical.decode(data)
    if not isinstance(body, dict) or "roster" not in body:
        return b""
    return keeper_of(Roster.from_body(body["roster"]), keeper).mldsa44


def check_manifests(audit: Path, contents: LogContents) -> list[str]:
    """Hold each attempt's manifest against its digest in the log; return which are missing.

    Raises: LogError for another manifest, or one whose head of the log is not a head of this log's past.
    """
    started = [entry for entry in contents.entries if isinstance(entry.event, RoundStarted)]
    return [f"{MANIFESTS}/{name} is missing" for entry in started if (name := _check_manifest(audit, entry, contents))]


def _check_manifest(audit: Path, entry: Entry, contents: LogContents) -> str:
    """Return the name of a manifest that is not there, or nothing."""
    event = entry.event
    if not isinstance(event, RoundStarted):
        return ""
    name = f"{event.round}-{event.attempt}.json"
    path = audit / MANIFESTS / name
    if not untrusted_files.is_there(path):
        return name
    manifest = read_manifest(path)
    if manifest.hash.hex() != event.manifest_digest:
        raise LogError(f"{MANIFESTS}/{name} is not the manifest that the log names", entry.index)
    try:
        head = Checkpoint.of(manifest.log_checkpoint)
    except ProtocolError as error:
        raise LogError(f"{MANIFESTS}/{name}: {error}", entry.index) from error
    if manifest.prev_result_hash and manifest.prev_result_hash != averages(contents.entries).get(event.round - 1):
        raise LogError(
            f"{MANIFESTS}/{name}: its reference is not the average that closed the round before", entry.index
        )
    if head.size > entry.index or contents.tree.root(head.size) != head.root:
        raise LogError(f"{MANIFESTS}/{name}: the silos were shown another log than this one", entry.index)
    return ""


def read_manifest(path: Path) -> RoundManifest:
    """Read a manifest from a file. Raises: LogError."""
    try:
        return RoundManifest.from_body(canonical.decode(untrusted_files.read_regular(path)))
    except ProtocolError as error:
        raise LogError(f"{untrusted_files.shown(path)}: {error}") from error
