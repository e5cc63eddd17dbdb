"""The roster and the manifests that a log names and does not hold itself, held against its digests."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from fedcollm_crypto import canonical
from fedcollm_crypto.checkpoint import Checkpoint, NoteKey
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.roster import Roster, read_roster
from fedcollm_secure.audit_log import untrusted_files
from fedcollm_secure.audit_log.events import RoundStarted, RunStarted, SumAgreed
from fedcollm_secure.audit_log.log import LogContents, origin
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


def name_of(roster: Roster, keeper: NoteKey) -> str:
    """Return the keeper's name in the roster that `read_roster_of` returned."""
    return next(member.id for member in roster.members if member.ed25519 == keeper.ed25519)


def _mldsa44_of(data: bytes, keeper: NoteKey) -> bytes:
    """Return the keeper's ML-DSA-44 key: as given, else as the roster lists it."""
    if keeper.mldsa44:
        return keeper.mldsa44
    body = canonical.decode(data)
    if not isinstance(body, dict) or "roster" not in body:
        return b""
    return keeper_of(Roster.from_body(body["roster"]), keeper).mldsa44


def check_manifests(audit: Path, contents: LogContents, roster: Roster | None, server: str) -> list[str]:
    """Hold each attempt's manifest against its digest in the log, and the log's lines against it; return the missing.

    `server` is the keeper's name in the roster. Without a roster nothing is held to it.
    Raises: LogError for another manifest, for a line that says otherwise than it, for one of another run, roster, base
    model or privacy plan than the others, or for one whose head of the log is not a head of this log's past.
    """
    missing: list[str] = []
    closed = averages(contents.entries)
    asked: dict[tuple[int, int], RoundManifest] = {}
    for entry in contents.entries:
        match entry.event:
            case RoundStarted() as one:
                path = audit / MANIFESTS / f"{one.round}-{one.attempt}.json"
                if untrusted_files.is_there(path):
                    manifest = _check_manifest(path, one, entry.index, contents, closed)
                    first = next(iter(asked.values()), manifest)
                    _check_run(manifest, first, _started(contents), entry.index)
                    if roster:
                        _check_roster(manifest, roster, server, entry.index)
                    asked[one.round, one.attempt] = manifest
                else:
                    missing.append(f"{MANIFESTS}/{path.name} is missing")
            case SumAgreed() as one if (one.round, one.attempt) in asked:
                _check_agreed(asked[one.round, one.attempt], one, entry.index)
            case _:
                pass
    return missing


def _check_manifest(
    path: Path, event: RoundStarted, index: int, contents: LogContents, closed: Mapping[int, str]
) -> RoundManifest:
    manifest = read_manifest(path)
    name = f"{MANIFESTS}/{path.name}"
    if manifest.hash.hex() != event.manifest_digest:
        raise LogError(f"{name} is not the manifest that the log names", index)
    told = (event.round, event.attempt, event.cohort, event.adapter_digest, event.plan_digest)
    asked = (manifest.round, manifest.attempt, manifest.cohort, manifest.adapter_hash, manifest.train_cfg_hash)
    if told != asked or manifest.roster_hash != _started(contents).roster_digest:
        raise LogError(f"{name}: the log says of this attempt what its manifest does not", index)
    try:
        head = Checkpoint.of(manifest.log_checkpoint)
    except ProtocolError as error:
        raise LogError(f"{name}: {error}", index) from error
    if manifest.prev_result_hash and manifest.prev_result_hash != closed.get(event.round - 1):
        raise LogError(f"{name}: its reference is not the average that closed the round before", index)
    if (
        head.origin != origin(_started(contents).run_id)
        or head.size > index
        or contents.tree.root(head.size) != head.root
    ):
        raise LogError(f"{name}: the silos were shown another log than this one", index)
    return manifest


def _check_agreed(manifest: RoundManifest, agreed: SumAgreed, index: int) -> None:
    told = f"silos agreed to a sum of round {agreed.round}, attempt {agreed.attempt}"
    if agreed.linear_pass != manifest.linear_pass:
        raise LogError(f"{told}, of another pass than its manifest asks for", index)
    if len(agreed.survivors) < manifest.floor:
        raise LogError(f"{told} over {len(agreed.survivors)} silos, its manifest asks for {manifest.floor}", index)


def _check_run(manifest: RoundManifest, first: RoundManifest, started: RunStarted, index: int) -> None:
    """Hold a manifest against entry 0 and the first manifest: one base model and one plan make a run."""
    told = f"the manifest of round {manifest.round}, attempt {manifest.attempt}"
    if manifest.session_id != started.run_id:
        raise LogError(f"{told} is of another run", index)
    if (not manifest.dp_plan_hash) != (started.privacy == "non_private"):
        raise LogError(f"{told} has a privacy plan, or none, otherwise than run_started says", index)
    if (manifest.base_model_hash, manifest.dp_plan_hash) != (first.base_model_hash, first.dp_plan_hash):
        raise LogError(f"{told} is of another base model or privacy plan than the first", index)


def _check_roster(manifest: RoundManifest, roster: Roster, server: str, index: int) -> None:
    asked = (manifest.consortium_id, manifest.epoch, manifest.policy_hash, manifest.server)
    if asked != (roster.consortium_id, roster.epoch, roster.policy_hash, server):
        told = f"the manifest of round {manifest.round}, attempt {manifest.attempt}"
        raise LogError(f"{told} names another consortium, epoch, policy or server than the roster", index)


def _started(contents: LogContents) -> RunStarted:
    started = contents.entries[0].event
    if not isinstance(started, RunStarted):
        raise LogError("a log begins with run_started, and holds it once", 0)
    return started


def read_manifest(path: Path) -> RoundManifest:
    """Read a manifest from a file. Raises: LogError."""
    try:
        return RoundManifest.from_body(canonical.decode(untrusted_files.read_regular(path)))
    except ProtocolError as error:
        raise LogError(f"{untrusted_files.shown(path)}: {error}") from error
