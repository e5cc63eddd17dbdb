"""Check a pack on another machine: files, log, signatures, proofs, versions. Nothing but the folder and a key."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from fedcollm_crypto.checkpoint import NoteKey, open_checkpoint
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.logproof import MAX_PROOF_BYTES, LogProof
from fedcollm_secure.audit_log import run_verification
from fedcollm_secure.audit_log.environment import check_environments
from fedcollm_secure.audit_log.events import RunFinished, RunStarted
from fedcollm_secure.audit_log.file_digests import file_digest
from fedcollm_secure.audit_log.log import KEY_NAME, LOG_NAME, Head, LogContents, read_public_key
from fedcollm_secure.audit_log.roster_and_manifests import check_manifests
from fedcollm_secure.audit_log.untrusted_files import files_in, read_object, read_text, require_plain, shown
from fedcollm_secure.errors import LogError, printable

INDEX_NAME = "evidence.json"
FORMAT = "fedcollm-evidence/1"


@dataclass(frozen=True, kw_only=True)
class Checked:
    """What a pack was found to be; `incomplete` names what is missing, or is None."""

    entries: int
    root: str
    cosigned: int
    proofs: int
    incomplete: str | None


def verify_pack(folder: Path, *, public_key: NoteKey | None = None, held: Head | None = None) -> Checked:
    """Check everything that a pack claims.

    Guarantee: with `public_key` from elsewhere, log, configuration, summary, manifests and proofs are those of the run
    that the consortium's keeper and a quorum of its silos signed. Report, promises and bill of materials are as the
    pack's maker wrote them; the versions that the log names are checked.
    Raises: LogError for anything that was changed; RunError where there is no log at all.
    """
    require_plain(folder)
    index = _index(folder)
    _check_files(folder, cast(Mapping[str, str], index["files"]))
    found = run_verification.verify_log(folder / "audit" / LOG_NAME, public_key=public_key, held=held)
    contents, key = found.contents, public_key or read_public_key(folder / "audit" / KEY_NAME)
    if index["head"] != {"size": contents.head.size, "root": contents.head.root}:
        raise LogError(f"{INDEX_NAME} names another head than the log has")
    missing = [
        *found.missing,
        *check_manifests(folder / "audit", contents, found.roster, found.server),
        *check_environments(folder / "audit", contents.entries),
    ]
    _check_config(folder, contents)
    _check_summary(folder, contents)
    proofs = [_check_proof(path, contents, key) for path in files_in(folder / "proofs", ".tlog-proof")]
    return Checked(
        entries=contents.head.size,
        root=contents.head.root,
        cosigned=found.attested.cosigned_size,
        proofs=len(proofs),
        incomplete="; ".join(missing) or None,
    )


def _index(folder: Path) -> Mapping[str, object]:
    index = read_object(folder / INDEX_NAME)
    files = index.get("files")
    if index.get("format") != FORMAT or not isinstance(files, dict) or "head" not in index:
        raise LogError(f"{INDEX_NAME}: expected the format {FORMAT}, with files and a head")
    if not all(isinstance(digest, str) for digest in files.values()):
        raise LogError(f"{INDEX_NAME}: expected a digest for each file")
    return index


def _check_files(folder: Path, told: Mapping[str, str]) -> None:
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {INDEX_NAME}
    if strange := sorted(there ^ told.keys()):
        names = ", ".join(printable(name) for name in strange[:5])
        raise LogError(f"files that are missing, or that {INDEX_NAME} does not name: {names}")
    for name, digest in told.items():
        if file_digest(folder / name) != digest:
            raise LogError(f"{printable(name)} was changed since the pack was made")


def _check_config(folder: Path, contents: LogContents) -> None:
    started = contents.entries[0].event if contents.entries else None
    if not isinstance(started, RunStarted):
        raise LogError("the log does not begin with run_started", 0)
    if run_verification.check_config(folder, contents):
        raise LogError("config.yaml is missing", 0)
    versions = _versions(read_object(folder / "sbom.json"))
    for name, version in started.software.items():
        if versions.get(name) != version:
            raise LogError(f"sbom.json: {name} {versions.get(name)}, the run was started with {version}", 0)


def _versions(bill: Mapping[str, object]) -> Mapping[object, object]:
    """Return what a bill of materials lists, by name; what has another form lists nothing."""
    metadata, listed = bill.get("metadata"), bill.get("components")
    component = metadata.get("component") if isinstance(metadata, dict) else None
    parts = [part for part in (component, *(listed if isinstance(listed, list) else [])) if isinstance(part, dict)]
    return {str(part.get("name")): part.get("version") for part in parts}


def _check_summary(folder: Path, contents: LogContents) -> None:
    finished = contents.entries[-1].event if contents.entries else None
    summary = read_object(folder / "summary.json")
    if not isinstance(finished, RunFinished) or run_verification.digest_of_summary(summary) != finished.summary_digest:
        raise LogError("summary.json is not the summary that the run was closed with", contents.head.size - 1)


def _check_proof(path: Path, contents: LogContents, key: NoteKey) -> int:
    """Return the index of the entry that the proof proves."""
    try:
        proof = LogProof.decode(read_text(path, MAX_PROOF_BYTES))
        head = proof.verify()
        open_checkpoint(proof.checkpoint, key, head.origin)
    except ProtocolError as error:
        raise LogError(f"{shown(path)}: {error}") from error
    if head.size > contents.head.size or contents.tree.root(head.size) != head.root:
        raise LogError(f"{shown(path)} is of another log")
    return proof.index
