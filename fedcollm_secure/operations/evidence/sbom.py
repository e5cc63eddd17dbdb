"""A software bill of materials: what is installed that this program needs, as CycloneDX 1.5 JSON."""

import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata

from fedcollm_secure.audit_log.environment import PROGRAM, closure, record_digest

Json = dict[str, object]


def bill_of_materials(installed: Mapping[str, metadata.Distribution] | None = None) -> Json:
    """Return the document over this program and all that it needs, directly or not, as far as it is installed.

    `fedcollm:record-sha256` is the SHA-256 of a distribution's RECORD, which lists a hash of each of its files.
    """
    found = closure(PROGRAM) if installed is None else dict(installed)
    program = found.pop(PROGRAM)
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "serialNumber": f"urn:uuid:{uuid.uuid4()}",
        "version": 1,
        "metadata": {
            "timestamp": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": {**_component(PROGRAM, program), "type": "application"},
        },
        "components": [_component(name, one) for name, one in sorted(found.items())],
    }


def _component(name: str, distribution: metadata.Distribution) -> Json:
    component: Json = {
        "type": "library",
        "bom-ref": f"pkg:pypi/{name}@{distribution.version}",
        "name": name,
        "version": distribution.version,
        "purl": f"pkg:pypi/{name}@{distribution.version}",
    }
    if digest := record_digest(distribution):
        component["properties"] = [{"name": "fedcollm:record-sha256", "value": digest}]
    licence = distribution.metadata["License-Expression"] or distribution.metadata["License"]
    if licence and "\n" not in licence:
        component["licenses"] = [{"license": {"name": licence}}]
    return component
