"""What is installed: every distribution that this program needs, with its version and a digest of all its files.

    audit/environments/DIGEST.txt    a line each, by name: name==version record-sha256

A distribution's RECORD lists a hash of each of its files as they were installed. So the lines say which wheels were
installed, as a lock file does; whether files were changed since, or code came from elsewhere, they do not say. A dash
stands where a distribution has no RECORD, and for one that is installed for editing: its code is not in its files.
"""

import json
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from importlib import metadata
from pathlib import Path

from fedcollm_secure.audit_log import untrusted_files
from fedcollm_secure.audit_log.events import RunResumed, RunStarted
from fedcollm_secure.audit_log.log_entry import Entry
from fedcollm_secure.errors import LogError

ENVIRONMENTS = "environments"
PROGRAM = "fedcollm-secure"
_LINE = re.compile(r"([!-<>-~]+)==([!-~]+) (-|[0-9a-f]{64})")


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
    """Hold each list against the digest that the log names, and the log's versions against the list.

    Return which lists are missing. Raises: LogError.
    """
    missing: list[str] = []
    for entry in entries:
        if isinstance(entry.event, RunStarted | RunResumed):
            name = f"{entry.event.environment_digest}.txt"
            if untrusted_files.is_there(audit / ENVIRONMENTS / name):
                _check_list(audit / ENVIRONMENTS / name, entry.event, entry.index)
            else:
                missing.append(f"{ENVIRONMENTS}/{name} is missing")
    return missing


def _check_list(path: Path, event: RunStarted | RunResumed, index: int) -> None:
    data = untrusted_files.read_regular(path)
    if sha256(data).hexdigest() != event.environment_digest:
        raise LogError(f"{ENVIRONMENTS}/{path.name} was changed: it is not what the log names", index)
    lines = data.decode("ascii", errors="replace").split("\n")
    found = [_LINE.fullmatch(line) for line in lines[:-1]]
    versions = {one[1]: one[2] for one in found if one}
    if lines[-1] or len(versions) != len(lines) - 1:
        raise LogError(f"{ENVIRONMENTS}/{path.name} is no list of distributions, a line each, each once", index)
    for name, version in sorted(event.software.items()):
        if versions.get(name) != version:
            raise LogError(f"the log says {name} {version}, and what was installed {versions.get(name)}", index)


def _normal(requirement: str) -> str:
    """Return the normalised name of a requirement such as `Foo_Bar>=1; python_version < "4"` (PEP 503)."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", name[0]).lower() if name else ""
