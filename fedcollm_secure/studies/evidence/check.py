"""Check a pack on another machine: files, log, signatures, proofs, versions. Nothing but the folder and a key."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

from fedcollm_crypto.checkpoint import NoteKey, open_checkpoint
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.logproof import LogProof
from fedcollm_secure.audit import verify
from fedcollm_secure.audit.digests import file_digest, summary_digest
from fedcollm_secure.audit.events import RunFinished, RunStarted
from fedcollm_secure.audit.log import KEY_NAME, LOG_NAME, Head, LogContents, read_public_key
from fedcollm_secure.audit.terms import check_manifests
from fedcollm_secure.errors import LogError

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
    index = _index(folder)
    _check_files(folder, cast(Mapping[str, str], index["files"]))
    found = verify.verify_log(folder / "audit" / LOG_NAME, public_key=public_key, held=held)
    contents, key = found.contents, public_key or read_public_key(folder / "audit" / KEY_NAME)
    if index["head"] != {"size": contents.head.size, "root": contents.head.root}:
        raise LogError(f"{INDEX_NAME} names another head than the log has")
    missing = [*found.missing, *check_manifests(folder / "audit", contents)]
    _check_config(folder, contents)
    _check_summary(folder, contents)
    proofs = [_check_proof(path, contents, key) for path in sorted((folder / "proofs").glob("*.tlog-proof"))]
    return Checked(
        entries=contents.head.size,
        root=contents.head.root,
        cosigned=found.attested.cosigned_size,
        proofs=len(proofs),
        incomplete="; ".join(missing) or None,
    )


def _index(folder: Path) -> Mapping[str, object]:
    index = _json(folder / INDEX_NAME)
    if index.get("format") != FORMAT or not isinstance(index.get("files"), dict) or "head" not in index:
        raise LogError(f"{INDEX_NAME}: expected the format {FORMAT}, with files and a head")
    return index


def _check_files(folder: Path, told: Mapping[str, str]) -> None:
    there = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {INDEX_NAME}
    if strange := sorted(there ^ told.keys()):
        raise LogError(f"files that are missing, or that {INDEX_NAME} does not name: {', '.join(strange[:5])}")
    for name, digest in told.items():
        if file_digest(folder / name) != digest:
            raise LogError(f"{name} was changed since the pack was made")


def _check_config(folder: Path, contents: LogContents) -> None:
    started = contents.entries[0].event if contents.entries else None
    if not isinstance(started, RunStarted) or file_digest(folder / "config.yaml") != started.config_digest:
        raise LogError("config.yaml is not the configuration that the run was started with", 0)
    bill = _json(folder / "sbom.json")
    component = cast(Mapping[str, Mapping[str, str]], bill["metadata"])["component"]
    parts = [component, *cast(list[Mapping[str, str]], bill["components"])]
    versions = {part["name"]: part["version"] for part in parts}
    for name, version in started.software.items():
        if versions.get(name) != version:
            raise LogError(f"sbom.json: {name} {versions.get(name)}, the run was started with {version}", 0)


def _check_summary(folder: Path, contents: LogContents) -> None:
    finished = contents.entries[-1].event
    if not isinstance(finished, RunFinished) or summary_digest(_json(folder / "summary.json")) != (
        finished.summary_digest
    ):
        raise LogError("summary.json is not the summary that the run was closed with", contents.head.size - 1)


def _check_proof(path: Path, contents: LogContents, key: NoteKey) -> int:
    """Return the index of the entry that the proof proves."""
    try:
        proof = LogProof.decode(path.read_text(encoding="utf-8"))
        head = proof.verify()
        open_checkpoint(proof.checkpoint, key, head.origin)
    except (ProtocolError, UnicodeDecodeError) as error:
        raise LogError(f"proofs/{path.name}: {error}") from error
    if head.size > contents.head.size or contents.tree.root(head.size) != head.root:
        raise LogError(f"proofs/{path.name} is of another log")
    return proof.index


def _json(path: Path) -> Mapping[str, object]:
    try:
        value: object = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise LogError(f"{path.name} cannot be read: {type(error).__name__}") from error
    if not isinstance(value, dict):
        raise LogError(f"{path.name} must hold one JSON object")
    return cast(Mapping[str, object], value)
