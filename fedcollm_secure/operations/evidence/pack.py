"""Write the pack of a run: report, log, checkpoints, proofs, configuration, promises, bill of materials.

    README.md            what this is and how to check it     promises.md     the run's row of the threat model
    report.html          the run for people                   sbom.json       CycloneDX: the software that made it
    config.yaml          the configuration                    proofs/         one entry each, C2SP tlog-proof
    summary.json  metrics.jsonl                               verify.mjs      a second verifier, for Node.js
    audit/               log, checkpoints, roster, manifests  evidence.json   every file's SHA-256, and the log's head

Nothing of a silo's own is in it: no ledger, no journal, no adapter, no record.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from fedcollm_crypto.logproof import LogProof
from fedcollm_secure.audit_log import run_verification
from fedcollm_secure.audit_log.checkpoint_folder import CheckpointFolder
from fedcollm_secure.audit_log.events import GateRejected, RoundClosed, RunFinished, RunStarted
from fedcollm_secure.audit_log.file_digests import file_digest
from fedcollm_secure.audit_log.log import KEY_NAME, LOG_NAME, LogContents
from fedcollm_secure.audit_log.untrusted_files import LINES_BYTES, read_object, read_regular
from fedcollm_secure.errors import NotStarted, RunError
from fedcollm_secure.operations.evidence.pack_verification import INDEX_NAME
from fedcollm_secure.operations.evidence.sbom import bill_of_materials
from fedcollm_secure.operations.report import write_report
from fedcollm_secure.operations.report.run_record import read_record

PROVEN = (RunStarted, RoundClosed, GateRejected, RunFinished)
SECOND_VERIFIER = Path(run_verification.__file__).parent / "verifier" / "verify.mjs"
README = """# Evidence of the run {run_id}

Written by fedcollm-secure {version}. Check it on any machine, offline and without any private key:

    fedcollm-secure verify THIS_FOLDER --key {key}

The key is the log keeper's. **Compare it with the one that the consortium gave you**: a folder proves nothing under a
key that came with it. A head that a silo or you noted at the time serves as well: --head {size}:{root}

What the command checks: every file against evidence.json; the log's chain, its Merkle root, the keeper's signatures,
the silos' cosignatures and their quorum; the roster, each round's manifest, the configuration and the summary against
the digests in the log; each proof under proofs/; the versions in sbom.json against those that the log names.

With Node.js alone, without our program: `node verify.mjs THIS_FOLDER --key {key}`

It does not show that the silos trained as they should, that the models are good, or that the cryptography is free of
faults: nobody independent has audited it. promises.md says what was promised, and to whom.
"""


def write_pack(run: Path, out: Path) -> Path:
    """Write the pack of a run that verifies, and return its folder.

    Raises:
        LogError: the run does not verify. RunError: it is not finished. NotStarted: `out` is not empty.
    """
    found = run_verification.verify_run(run)
    if found.incomplete:
        raise RunError(f"{run} is no evidence yet: {found.incomplete}")
    if out.exists() and any(out.iterdir()):
        raise NotStarted(f"{out} is not empty; choose another folder")
    read_record(run)  # for its errors alone, before anything is written
    copied = {name: read_regular(run / name, LINES_BYTES) for name in ("config.yaml", "summary.json", "metrics.jsonl")}
    out.mkdir(parents=True, exist_ok=True)
    contents = run_verification.verify_log(run / "audit" / LOG_NAME).contents
    shutil.copytree(run / "audit", out / "audit")
    for name, data in copied.items():
        (out / name).write_bytes(data)
    shutil.copyfile(SECOND_VERIFIER, out / "verify.mjs")
    write_report(run, out / "report.html")
    _write_proofs(out, contents)
    summary = read_object(run / "summary.json")
    _write(out / "promises.md", "".join(f"{line}\n" for line in _promises(summary)))
    bill = bill_of_materials()
    _write(out / "sbom.json", json.dumps(bill, indent=1) + "\n")
    _write(out / "README.md", _readme(out, contents, str(summary["run_id"])))
    _write_index(out, contents)
    return out


def _write_proofs(out: Path, contents: LogContents) -> None:
    note = CheckpointFolder(out / "audit").last()
    if note is None:
        raise RunError("the log has no checkpoint to prove anything against")
    (out / "proofs").mkdir()
    lines = (out / "audit" / LOG_NAME).read_bytes().split(b"\n")
    for entry in contents.entries:
        if isinstance(entry.event, PROVEN):
            path = contents.tree.inclusion_proof(entry.index, len(contents.entries))
            proof = LogProof(entry=lines[entry.index], index=entry.index, path=tuple(path), checkpoint=note)
            _write(out / "proofs" / f"{entry.index}.tlog-proof", proof.encode())


def _promises(summary: Mapping[str, object]) -> Iterator[str]:
    rows = cast(Sequence[Mapping[str, object]], summary["guarantees"])
    yield "# What this run promised, and what not"
    yield ""
    yield f"Aggregation: {summary['aggregation']}. Privacy: {summary['privacy']}."
    yield ""
    yield "| property | holds | why, or how far |"
    yield "|---|---|---|"
    yield from (f"| {row['property']} | {_held(row)} | {row['why']} |" for row in rows)
    yield ""
    yield "Who could see what:"
    yield ""
    yield from (f"* {who}: {what}" for who, what in cast(Mapping[str, str], summary["visible_to"]).items())
    warnings = cast(Sequence[str], summary.get("warnings", ()))
    if warnings:
        yield ""
        yield "The run itself warned:"
        yield ""
        yield from (f"* {warning}" for warning in warnings)


def _held(row: Mapping[str, object]) -> str:
    if row.get("applies") is False:
        return "not applicable"
    return "yes" if row["holds"] else "no"


def _readme(out: Path, contents: LogContents, run_id: str) -> str:
    started = contents.entries[0].event
    version = started.software.get("fedcollm-secure", "") if isinstance(started, RunStarted) else ""
    key = (out / "audit" / KEY_NAME).read_text(encoding="ascii").split()[0]
    head = contents.head
    return README.format(run_id=run_id, version=version, key=key, size=head.size, root=head.root)


def _write_index(out: Path, contents: LogContents) -> None:
    files = sorted(path for path in out.rglob("*") if path.is_file())
    index = {
        "format": "fedcollm-evidence/1",
        "head": {"size": contents.head.size, "root": contents.head.root},
        "files": {path.relative_to(out).as_posix(): file_digest(path) for path in files},
    }
    _write(out / INDEX_NAME, json.dumps(index, indent=1, ensure_ascii=False) + "\n")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
