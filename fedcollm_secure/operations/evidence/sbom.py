"""A software bill of materials: what is installed that this program needs, as CycloneDX 1.5 JSON."""

import hashlib
import re
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata

Json = dict[str, object]
ROOT = "fedcollm-secure"


def bill_of_materials(installed: Mapping[str, metadata.Distribution] | None = None) -> Json:
    """Return the document over this program and all that it needs, directly or not, as far as it is installed.

    `fedcollm:record-sha256` is the SHA-256 of a distribution's RECORD, which lists a hash of each of its files.
    """
    found = closure(ROOT) if installed is None else dict(installed)
    program = found.pop(ROOT)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {**_component(ROOT, program), "type": "application"},
        },
        "components": [_component(name, one) for name, one in sorted(found.items())],
    }


def closure(name: str) -> dict[str, metadata.Distribution]:
    """Return the distributions that `name` needs, with its own; one that only an extra or another platform needs and
    that is not here is left out."""
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


def _component(name: str, distribution: metadata.Distribution) -> Json:
    component: Json = {
        "type": "library",
        "bom-ref": f"pkg:pypi/{name}@{distribution.version}",
        "name": name,
        "version": distribution.version,
        "purl": f"pkg:pypi/{name}@{distribution.version}",
    }
    record = distribution.read_text("RECORD")
    if record:
        digest = hashlib.sha256(record.encode()).hexdigest()
        component["properties"] = [{"name": "fedcollm:record-sha256", "value": digest}]
    licence = distribution.metadata["License-Expression"] or distribution.metadata["License"]
    if licence and "\n" not in licence:
        component["licenses"] = [{"license": {"name": licence}}]
    return component


def _normal(requirement: str) -> str:
    """Return the normalised name of a requirement such as `Foo_Bar>=1; python_version < "4"` (PEP 503)."""
    name = re.match(r"[A-Za-z0-9._-]+", requirement)
    return re.sub(r"[-_.]+", "-", name[0]).lower() if name else ""
