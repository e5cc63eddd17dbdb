"""The `verify` command: offline checks that need no private key.

Each check returns (exit code, document): 0 verified · 1 not what it should be · 3 evidence is missing. A path that is
not there is a usage error, 2, and is raised.
"""

from collections.abc import Callable, Mapping
from pathlib import Path

from fedcollm_crypto.checkpoint import NoteKey, cosigners, open_checkpoint
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.logproof import MAX_PROOF_BYTES, LogProof
from fedcollm_privacy.errors import LedgerError
from fedcollm_privacy.ledger import read_book
from fedcollm_secure.audit_log import run_verification
from fedcollm_secure.audit_log.checkpoint_folder import Witnesses
from fedcollm_secure.audit_log.environment import check_environments
from fedcollm_secure.audit_log.equivocation import Sight, compare, sight
from fedcollm_secure.audit_log.journal import JOURNAL_NAME, HeadCosigned, read_journal
from fedcollm_secure.audit_log.ledger_heads import ledger_lines
from fedcollm_secure.audit_log.log import KEY_NAME, LOG_NAME, Head, parse_public_key, read_log, read_public_key
from fedcollm_secure.audit_log.recomputed_epsilon import check_budget
from fedcollm_secure.audit_log.recomputed_round import recompute
from fedcollm_secure.audit_log.roster_and_manifests import check_manifests, read_roster_of
from fedcollm_secure.audit_log.untrusted_files import KEY_BYTES, is_there, read_text, require_plain, shown
from fedcollm_secure.config.site import SITE_NAME, load_site
from fedcollm_secure.errors import ConfigError, LogError, RunError, printable
from fedcollm_secure.operations.evidence.pack_verification import INDEX_NAME, verify_pack

Json = Mapping[str, object]
Found = tuple[int, Json]
VERIFIED, BAD, INCOMPLETE = 0, 1, 3


def verify_directory(folder: Path, held: Head | None, key: NoteKey | None) -> Found:
    """Check a run directory, or an evidence pack; `key` is the log keeper's, from another source."""
    if is_there(folder / INDEX_NAME):
        return _checked(lambda: _pack(folder, held, key))
    if is_there(folder / SITE_NAME):
        return _checked(lambda: _party(folder))
    if not is_there(folder / "audit"):
        raise ConfigError("verify", f"{shown(folder)} is not a run directory: it has no audit/")

    def check() -> Found:
        found = run_verification.verify_run(folder, held=held, public_key=key)
        document = _document(found.incomplete is None, found.entries, found.root, reason=found.incomplete or "")
        signed = {"signed": found.signed, "cosigned": found.cosigned}
        return (INCOMPLETE if found.incomplete else VERIFIED), {**document, **signed}

    return _checked(check)


def _party(folder: Path) -> Found:
    """Check what a consortium's member keeps itself: its ledger, and what it cosigned in each session."""
    site = load_site(folder)
    if site.role == "server":
        raise ConfigError("verify", f"{shown(folder)} is a coordinator's folder; name a run in it: runs/SESSION")
    journals = sorted((folder / "sessions").glob(f"*/{JOURNAL_NAME}"))
    heads = sum(isinstance(entry, HeadCosigned) for path in journals for entry in read_journal(path))
    ledger, entries = Path(site.ledger), 0
    if is_there(ledger):
        ledger_lines(ledger)
        entries = len(read_book(ledger).rows())
    reason = (
        f"the ledger ({entries} rounds) and the journals of {len(journals)} sessions ({heads} heads cosigned) are "
        "whole. The log itself lies with the coordinator: verify it there, or hold a copy of it against a journal with "
        "verify equivocation"
    )
    return VERIFIED, _document(True, reason=reason)


def _pack(folder: Path, held: Head | None, key: NoteKey | None) -> Found:
    found = verify_pack(folder, public_key=key, held=held)
    believed = "" if key else "under the key in the folder itself: compare it with one from elsewhere (--key)"
    document = _document(found.incomplete is None, found.entries, found.root, reason=found.incomplete or believed)
    return (INCOMPLETE if found.incomplete else VERIFIED), {
        **document,
        "signed": found.entries,
        "cosigned": found.cosigned,
        "proofs": found.proofs,
    }


def verify_log(file: Path, held: Head | None, key: NoteKey | None) -> Found:
    """Check one log file with all that lies beside it; without `key` the `log.pub` there is believed."""
    _require_path("verify log", file)

    def check() -> Found:
        found = run_verification.verify_log(file, public_key=key, held=held)
        head = found.contents.head
        signed = {"signed": found.attested.signed_size, "cosigned": found.attested.cosigned_size}
        missing = (
            *["the last line is torn"] * bool(found.contents.torn_bytes),
            *found.missing,
            *check_manifests(file.parent, found.contents, found.roster, found.server),
            *check_environments(file.parent, found.contents.entries),
        )
        if missing:
            return INCOMPLETE, {**_document(False, head.size, head.root, reason="; ".join(missing)), **signed}
        cut = "a tail cut off together with its checkpoints shows only against a head held elsewhere (--head)"
        return VERIFIED, {**_document(True, head.size, head.root, reason="" if held else cut), **signed}

    return _checked(check)


def verify_round(number: int, folder: Path, key: NoteKey | None) -> Found:
    """Add up an archived round once more and hold the result against the log."""
    log = folder / "audit" / LOG_NAME
    _require_path("verify round", log)

    def check() -> Found:
        require_plain(folder)
        found = run_verification.verify_log(log, public_key=key)
        entries, head = found.contents.entries, found.contents.head
        roster = read_roster_of(log.parent, entries, key or read_public_key(log.parent / KEY_NAME))
        if roster is None:
            raise RunError("roster.json is missing, and with it the keys behind the archived replies")
        again = recompute(folder, entries, roster, number)
        reason = f"round {number} added up again: over {len(again.contributors)} silos, as logged"
        return VERIFIED, {**_document(True, head.size, head.root, reason=reason), **vars(again)}

    return _checked(check)


def verify_budget(file: Path, log: Path | None) -> Found:
    """Check one ledger: its chain, ε recomputed from its plans, and what the log commits to, where a log is at hand.

    Without `log` the one of the run directory that the ledger lies in, RUN/silos/NAME/ledger.jsonl, is looked for.
    """
    _require_path("verify budget", file)
    place = file.absolute()
    beside = place.parents[2] / "audit" / LOG_NAME if len(place.parents) > 2 else file
    source = log or (beside if is_there(beside) else None)

    def check() -> Found:
        ledger_lines(file)
        book = read_book(file)
        if source is None:
            reason = "ε was recomputed; no log is at hand (--log) that commits to it"
        else:
            rounds = check_budget(file, place.parent.name, run_verification.verify_log(source).contents.entries)
            reason = f"ε was recomputed, and is what the log commits to in {rounds} rounds"
        document = _document(True, len(book.rows()), book.head, reason=reason)
        return VERIFIED, {**document, "epsilon_spent": book.epsilon_spent()}

    return _checked(check)


def verify_equivocation(one: Path, other: Path) -> Found:
    """Hold two views of a log against each other: logs, checkpoints or journals."""
    for path in (one, other):
        _require_path("verify equivocation", path / "audit" / LOG_NAME if path.is_dir() else path)

    def check() -> Found:
        views = (sight(one), sight(other))
        reason = compare(*views)
        reason = _equal(*views) or reason
        largest = max((view.contents.head for view in views if view.contents), key=lambda head: head.size, default=None)
        size, root = (largest.size, largest.root) if largest else (0, "")
        return VERIFIED, _document(True, size, root, reason=reason)

    return _checked(check)


def _equal(one: Sight, other: Sight) -> str:
    """Say plainly that two logs are the same; empty where they are not, or where either is no log."""
    logs = [view.contents for view in (one, other) if view.contents is not None]
    if len(logs) != 2 or logs[0].head != logs[1].head:
        return ""
    return f"the two logs are equal: {logs[0].head.size} entries, each the same in both"


def verify_inclusion(file: Path, run: Path | None, key: NoteKey | None) -> Found:
    """Check a `.tlog-proof`: the entry in it is in the log that the keeper signed; with a run, a quorum cosigned it."""
    _require_path("verify inclusion", file)
    if run is None and key is None:
        raise ConfigError("verify inclusion", "expected --key, or the run whose keys are to be believed")

    def check() -> Found:
        proof = LogProof.decode(read_text(file, MAX_PROOF_BYTES))
        head = proof.verify()
        audit = run / "audit" if run else None
        if run:
            require_plain(run)
        keeper = key or (read_public_key(audit / KEY_NAME) if audit else NoteKey(name="", ed25519=b""))
        open_checkpoint(proof.checkpoint, keeper, head.origin)
        document = _document(True, head.size, head.root.hex(), reason=f"entry {proof.index} is in it")
        roster = read_roster_of(audit, read_log(audit / LOG_NAME).entries, keeper) if audit else None
        witnesses = Witnesses.of(roster) if roster else None
        if witnesses is None:
            return VERIFIED, {**document, "entry": proof.entry.decode()}
        cosigned = len(cosigners(proof.checkpoint, witnesses.keys))
        if cosigned < witnesses.quorum:
            reason = f"cosigned by {cosigned} silos, {witnesses.quorum} are needed"
            return INCOMPLETE, _document(False, head.size, head.root.hex(), reason=reason)
        return VERIFIED, {**document, "entry": proof.entry.decode(), "cosigners": cosigned}

    return _checked(check)


def parse_head(text: str | None) -> Head | None:
    """Read `SIZE:ROOT` as a verified run prints it.

    Raises:
        ConfigError: another form.
    """
    if text is None:
        return None
    size, _, root = text.partition(":")
    if not size.isdecimal() or len(root) != 64:
        raise ConfigError("--head", f"expected SIZE:ROOT with 64 hexadecimal digits, got {text!r}")
    return Head(size=int(size), root=root)


def parse_key(text: str | None) -> NoteKey | None:
    """Read the keeper's public key: 64 hexadecimal digits, or a file that holds them.

    Raises:
        ConfigError: neither.
    """
    if text is None:
        return None
    try:
        digits = text if _is_hex(text) else read_text(Path(text), KEY_BYTES)
        return parse_public_key(digits)
    except (LogError, RunError, ValueError) as error:
        raise ConfigError("--key", f"expected 64 hexadecimal digits or a file with them, got {text!r}") from error


def _checked(check: Callable[[], Found]) -> Found:
    """Return what a check found, or why it failed."""
    try:
        return check()
    except LogError as error:
        return BAD, _document(False, first_bad=error.first_bad, reason=error.reason)
    except (LedgerError, ProtocolError) as error:
        return BAD, _document(False, reason=str(error))
    except (RunError, OSError) as error:
        return INCOMPLETE, _document(False, reason=str(error))


def _require_path(command: str, file: Path) -> None:
    if not is_there(file):
        raise ConfigError(command, f"no file at {shown(file)}")


def _is_hex(text: str) -> bool:
    return set(text) <= set("0123456789abcdefABCDEF \n")


def _document(verified: bool, entries: int = 0, root: str = "", *, first_bad: int | None = None, reason: str) -> Json:
    return {"verified": verified, "entries": entries, "root": root, "first_bad": first_bad, "reason": printable(reason)}


def as_text(document: Json) -> str:
    """Return a document for people."""
    head = f": {document['entries']} entries, head {document['entries']}:{document['root']}" if document["root"] else ""
    lines = [f"verified{head}" if document["verified"] else f"NOT verified{head}"]
    if "cosigned" in document:
        lines.append(f"signed up to entry {document['signed']}, cosigned by a quorum up to {document['cosigned']}")
    if document["first_bad"] is not None:
        lines.append(f"first bad entry: {document['first_bad']}, counted from 0")
    if document["reason"]:
        lines.append(str(document["reason"]))
    return "\n".join(lines)
