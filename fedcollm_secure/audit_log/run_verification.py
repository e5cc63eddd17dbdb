"""Check a whole run directory against its log: nothing here needs a private key or a network.

    log.jsonl ── chain, order of events
      ├─ checkpoints/           signed by the keeper, cosigned by a quorum of silos, each consistent with the entries
      ├─ roster.json            = the digest in RunStarted
      ├─ manifests/             = the digests in RoundStarted, and what it and SumAgreed say of the attempt
      ├─ proofs/                = the digests in PartyConvicted, and each convicts its silo
      ├─ statements/            = the digests in SumDecrypted, and each is the decryptor's, about that sum
      ├─ environments/          = the digests in RunStarted and RunResumed, and the versions that they name
      ├─ config.yaml            = the digest in RunStarted; its gates spoke, its rounds were run
      ├─ adapters/{slm,llm}     = the digests in the last RoundClosed
      ├─ silos/NAME/journal.jsonl  whole, and every head that the silo cosigned is one of this log's
      ├─ silos/NAME/ledger.jsonl   whole, and holding the head that the last RoundClosed commits to (of a simulation)
      └─ summary.json           = the digest in RunFinished, and naming the log's head

A file in the log's own folders that no entry names is refused, but for what a crash leaves (`unnamed_files`).

What does not fit is a `LogError`. What is missing because the run was cut short is named in `Verified.incomplete`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fedcollm_crypto.checkpoint import NoteKey
from fedcollm_crypto.roster import Roster
from fedcollm_secure.audit_log.checkpoint_folder import Attested, CheckpointFolder, Witnesses, check, check_attested
from fedcollm_secure.audit_log.environment import check_environments
from fedcollm_secure.audit_log.events import HeadAttested, RoundClosed, RunFinished, RunStarted, RunStopped
from fedcollm_secure.audit_log.file_digests import file_digest, folder_digest, summary_digest
from fedcollm_secure.audit_log.ledger_heads import check_ledgers
from fedcollm_secure.audit_log.log import KEY_NAME, LOG_NAME, Head, LogContents, origin, read_log, read_public_key
from fedcollm_secure.audit_log.log_entry import Entry
from fedcollm_secure.audit_log.logged_end import check_end
from fedcollm_secure.audit_log.logged_gates import asked_gates, check_gates
from fedcollm_secure.audit_log.logged_parties import check_convictions, check_parties
from fedcollm_secure.audit_log.logged_sums import check_sums
from fedcollm_secure.audit_log.openings import check_openings
from fedcollm_secure.audit_log.roster_and_manifests import check_manifests, keeper_of, name_of, read_roster_of
from fedcollm_secure.audit_log.unnamed_files import check_unnamed
from fedcollm_secure.audit_log.untrusted_files import is_there, read_object, read_text, require_plain
from fedcollm_secure.audit_log.witnessed_heads import check_journals
from fedcollm_secure.errors import LogError


@dataclass(frozen=True, kw_only=True)
class Verified:
    """What a run directory was found to be: `incomplete` says what is missing, or is None for a finished run.

    The first `signed` entries stand under the keeper's signature, the first `cosigned` under a quorum of silos.
    """

    entries: int
    root: str
    signed: int
    cosigned: int
    incomplete: str | None


def verify_run(folder: Path, *, public_key: NoteKey | None = None, held: Head | None = None) -> Verified:
    """Verify a run directory offline.

    `public_key` is the keeper's key from a source other than the directory; without it `audit/log.pub` is believed.
    `held` is a head seen earlier: the log must still contain it.
    Guarantee: with `public_key` given, nobody but the keeper can have changed what the checkpoints cover; with a quorum
    of cosignatures, not even the keeper, unless more than n_c silos lie.
    Raises: LogError for anything that was changed, or is no regular file; RunError where there is no log at all.
    """
    require_plain(folder)
    found = verify_log(folder / "audit" / LOG_NAME, public_key=public_key, held=held)
    contents = found.contents
    missing = [
        *_cut_short(contents),
        *found.missing,
        *check_manifests(folder / "audit", contents, found.roster, found.server),
        *check_environments(folder / "audit", contents.entries),
        *check_config(folder, contents),
        *_check_adapters(folder, contents),
        *check_journals(folder, contents),
        *_check_ledgers(folder, contents),
        *_check_summary(folder, contents),
    ]
    head = contents.head
    return Verified(
        entries=head.size,
        root=head.root,
        signed=found.attested.signed_size,
        cosigned=found.attested.cosigned_size,
        incomplete="; ".join(missing) or None,
    )


@dataclass(frozen=True, kw_only=True)
class VerifiedLog:
    """A log that verified: its entries, what its checkpoints come to, and what is missing to believe all of it."""

    contents: LogContents
    attested: Attested
    roster: Roster | None
    server: str  # the keeper's name in it, empty without one
    missing: tuple[str, ...]


def verify_log(path: Path, *, public_key: NoteKey | None = None, held: Head | None = None) -> VerifiedLog:
    """Verify one log file with what lies beside it: `log.pub` (unless a key is given), checkpoints, the roster.

    Raises: LogError for anything that was changed, or is no regular file; RunError where there is no log at all.
    """
    audit = path.parent
    require_plain(audit)
    contents = read_log(path)
    keeper = public_key or read_public_key(audit / KEY_NAME)
    _check_order(contents.entries)
    check_sums(contents.entries)
    roster = read_roster_of(audit, contents.entries, keeper)
    witnesses = Witnesses.of(roster) if roster else None
    whole = keeper_of(roster, keeper) if roster else keeper
    attested = check(contents.tree, CheckpointFolder(audit).notes(), whole, witnesses, _origin(contents))
    if roster:
        check_parties(contents.entries, roster)
        check_attested(contents.entries, attested)
    _check_held_head(contents, held)
    missing = [] if roster or not contents.entries else ["roster.json is missing, so no cosignature was checked"]
    missing += check_convictions(audit, contents.entries, roster)
    missing += check_openings(audit, contents.entries, roster)
    missing += check_unnamed(audit, [entry.event for entry in contents.entries])
    return VerifiedLog(
        contents=contents,
        attested=attested,
        roster=roster,
        server=name_of(roster, keeper) if roster else "",
        missing=(*missing, *_not_attested(contents, attested, witnesses)),
    )


def _origin(contents: LogContents) -> str | None:
    """Return the name that each checkpoint begins with, by entry 0."""
    started = contents.entries[0].event if contents.entries else None
    return origin(started.run_id) if isinstance(started, RunStarted) else None


def _not_attested(contents: LogContents, attested: Attested, witnesses: Witnesses | None) -> list[str]:
    size = len(contents.entries)
    if attested.signed_size < size:
        return [f"entries {attested.signed_size} to {size - 1} stand under no signed checkpoint yet"]
    if witnesses and attested.cosigned_size < size:
        found = f"{len(attested.cosigners)} of {len(witnesses.keys)} silos, {witnesses.quorum} are needed"
        return [f"the last head is cosigned by {found}; from entry {attested.cosigned_size} on it is the keeper's word"]
    return []


def last_closed(contents: LogContents) -> RoundClosed | None:
    """Return the last round that was closed, if any."""
    return next(reversed(_closed(contents)), None)


def _closed(contents: LogContents) -> list[RoundClosed]:
    return [entry.event for entry in contents.entries if isinstance(entry.event, RoundClosed)]


def _check_order(entries: tuple[Entry, ...]) -> None:
    closed = 0
    for entry in entries:
        if isinstance(entry.event, RoundClosed):
            if entry.event.round != closed + 1:
                raise LogError(
                    f"round {entry.event.round} is closed after round {closed}: rounds close once", entry.index
                )
            closed = entry.event.round
        if isinstance(entry.event, RunStarted) != (entry.index == 0):
            raise LogError("a log begins with run_started, and holds it once", entry.index)
        if isinstance(entry.event, HeadAttested) and entry.event.size > entry.index:
            raise LogError("a head is attested that the log does not have yet", entry.index)
        if isinstance(entry.event, RunFinished) and entry.index != len(entries) - 1:
            raise LogError("entries follow run_finished", entry.index + 1)


def _check_held_head(contents: LogContents, held: Head | None) -> None:
    if held is None:
        return
    if held.size > len(contents.entries):
        raise LogError(f"the log was cut: it has {len(contents.entries)} entries, the head you hold has {held.size}")
    if contents.head_at(held.size) != held:
        raise LogError(f"the log was rewritten: its first {held.size} entries are not those of the head you hold")


def check_config(folder: Path, contents: LogContents) -> list[str]:
    """Hold config.yaml against the log, gates and rounds against it; return it if it is missing. Raises: LogError."""
    started = contents.entries[0].event if contents.entries else None
    if not isinstance(started, RunStarted):
        return []
    config = folder / "config.yaml"
    if not is_there(config):
        return ["config.yaml is missing"]
    if file_digest(config) != started.config_digest:
        raise LogError("config.yaml is not the configuration that the run was started with", 0)
    text = read_text(config)
    check_gates(contents.entries, asked_gates(text))
    check_end(contents.entries, text)
    return []


def _check_adapters(folder: Path, contents: LogContents) -> list[str]:
    closed = _closed(contents)
    if not closed:
        return []
    paths = {name: folder / "adapters" / name for name in ("slm", "llm")}
    found = {name: _folder_digest(path) for name, path in paths.items() if is_there(path)}
    allowed = {"slm": {closed[-1].adapter_after}, "llm": {closed[-1].llm_adapter_digest}}
    if _finished(contents) is None:
        # A crash may fall between closing a round and putting its adapters in place: those of the round before still
        # lie there. Before round 1 no entry vouches for the large model's, so it passes with the small model's.
        allowed["slm"].add(closed[-1].adapter_before)
        untouched = len(closed) == 1 and found.get("slm") == closed[0].adapter_before
        allowed["llm"] |= {found.get("llm", "")} if untouched else {event.llm_adapter_digest for event in closed[-2:]}
    for name, digest in found.items():
        if digest not in allowed[name]:
            raise LogError(f"adapters/{name} is not the adapter that the last closed round left behind")
    return [f"adapters/{name} is missing" for name in paths if name not in found]


def _folder_digest(folder: Path) -> str:
    try:
        return folder_digest(folder)
    except ValueError as error:
        raise LogError(str(error)) from error


def _check_ledgers(folder: Path, contents: LogContents) -> list[str]:
    """Hold what ledgers are here against the log; a real consortium's stay with their silos, and none is missing."""
    missing = check_ledgers(folder, last_closed(contents))
    started = contents.entries[0].event if contents.entries else None
    return missing if not isinstance(started, RunStarted) or started.simulated else []


def _check_summary(folder: Path, contents: LogContents) -> list[str]:
    finished = _finished(contents)
    path = folder / "summary.json"
    if finished is None:
        return []
    if not is_there(path):
        return ["summary.json is missing"]
    summary = read_object(path)
    if digest_of_summary(summary) != finished.summary_digest:
        raise LogError("summary.json was changed after the run", contents.head.size - 1)
    if "log" not in summary:
        return ["summary.json does not name the log's head: the run died in its last step; resume it"]
    if summary.get("log") != {"size": contents.head.size, "root": contents.head.root}:
        raise LogError("summary.json names another head than the log has: the log was cut or replaced")
    return []


def digest_of_summary(summary: Mapping[str, object]) -> str:
    """Return the digest of a summary that somebody else wrote. Raises: LogError for infinity."""
    try:
        return summary_digest(summary)
    except ValueError as error:
        raise LogError(f"summary.json has no digest: {error}") from error


def _finished(contents: LogContents) -> RunFinished | None:
    last = contents.entries[-1].event if contents.entries else None
    return last if isinstance(last, RunFinished) else None


def _cut_short(contents: LogContents) -> list[str]:
    rounds = f"{len(_closed(contents))} rounds were closed"
    if contents.torn_bytes:
        return [f"the last line of the log is torn, as a crash leaves it; {rounds} before"]
    if _finished(contents):
        return []
    if contents.entries and isinstance(contents.entries[-1].event, RunStopped):
        return [f"the run was stopped ({contents.entries[-1].event.reason}) and not closed; {rounds}"]
    return [f"the run did not finish; {rounds}"]
