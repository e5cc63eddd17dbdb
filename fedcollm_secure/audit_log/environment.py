"""What is installed: every distribution that this program needs, with its version and a digest of all its files.

    audit/environments/DIGEST.txt    a line each, by name: name==version record-sha256

A distribution's RECORD lists a hash of each of its files as they were installed. So the lines say which wheels were
installed, as a lock file does; whether files were changed since, or code came from elsewhere, they do not say. A dash
stands where a distribution has no RECORD, and for one that is installed for editing: its code is not in its files.
"""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from hashlib import sha256
from importlib import metadata
from pathlib import Path

from fedcollm_secure.audit_log import untrusted_files
from fedcollm_secure.audit_log.events import RunResumed, RunStarted
from fedcollm_secure.audit_log.log_entry import Entry
from fedcollm_secure.errors import LogError

ENVIRONMENTS = "environments"
PROGRAM = "fedcollm-secure"


def installed(found: Mapping[str, metadata.Distribution] | None = None) -> str:
    """Return the lines of what this program and all that it needs are here."""
    there = closure(PROGRAM) if found is None else found
    return "".join(f"{name}=={one.version} {record_digest(one) or '-'}\n" for name, one in sorted(there.items()))


def record_digest(distribution: metadata.Distribution) -> str:
    """Return the SHA-256 of a distribution's RECORD in hexadecimal; empty where that says nothing of its code."""
    record = distribution.read_text("RECORD")
    origin = json.loads(distribution.read_text("direct_url.json") or "{}")
    if origin.get("dir_info", {}).get("editable"):
        return ""
    return sha256(record.encode()).hexdigest() if record else ""


def closure(name: str) -> dict[str, metadata.Distribution]:
    """Return the distributions that `name` needs, with its own.

    One that only an extra or another platform needs, and that is not here, is left out.
    """
    found: dict[str, metadata.Distribution] = {}
    waiting = [name]
    while waiting:
        wanted = waiting.pop()
        if wanted in found:
            continue
        try:
            found[wanted] = metadata.distribution(wanted)
        except metadata.PackageNotFoundError:
            continue
        waiting += [_normal(need) for need in found[wanted].requires or [] if "extra ==" not in need]
    return found


def check_environments(audit: Path, entries: Sequence[Entry]) -> list[str]:
    """Hold each list against the digest that the log names; return which are missing. Raises: LogError."""
    missing: list[str] = []
    all_named: set[str] = set()
    for entry in entries:
        if isinstance(entry.event, RunStarted | RunResumed):
            named = entry.event.environment_digest
            all_named.add(f"{named}.txt")
            path = audit / ENVIRONMENTS / f"{named}.txt"
            if not untrusted_files.is_there(path):
                missing.append(f"{ENVIRONMENTS}/{path.name} is missing")
            elif sha256(untrusted_files.read_regular(path)).hexdigest() != named:
                raise LogError(f"{ENVIRONMENTS}/{path.name} was changed: it is not what the log names", entry.index)
    refuse_unnamed(audit / ENVIRONMENTS, all_named)
    return missing


def refuse_unnamed(folder: Path, named: Collection[str]) -> None:
    """Raise LogError for a file that no entry names: it would pass for evidence."""
    there = untrusted_files.names_in(folder) if untrusted_files.is_there(folder) else []
    if strange := sorted(set(there) - set(named)):
        raise LogError(f"{folder.name}/{untrusted_files.printable(strange[0])} is named by no entry of the log")


def _normal(requirement: str) -> str:
    """Return the normalised name of a requirement such as `Foo_Bar>=1; python_version < "4"` (PEP 503)."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", name[0]).lower() if name else ""
