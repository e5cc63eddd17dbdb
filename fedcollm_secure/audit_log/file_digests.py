"""Digests of the files of a run, so that the log can vouch for what is not in it.

A folder's digest can be repeated with coreutils alone, inside the folder:

    find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum
"""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path

from fedcollm_secure.audit_log.untrusted_files import VECTOR_BYTES, open_regular, require_plain


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's bytes, in hexadecimal. Raises: LogError, RunError; see `open_regular`."""
    with open_regular(path, VECTOR_BYTES) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_digest(folder: Path) -> str:
    """Return one digest over every file in `folder`, its name and its bytes; order and file times do not matter.

    Raises: ValueError for a name that could forge a line of the list; LogError for a link that leads elsewhere, or
    anything else that is neither file nor folder.
    """
    require_plain(folder)
    listing = hashlib.sha256()
    for name, path in sorted(_files(folder)):
        listing.update(file_digest(path).encode() + b"  " + name + b"\n")
    return listing.hexdigest()


def summary_digest(summary: Mapping[str, object]) -> str:
    """Return the digest of a summary without its `log` key.

    `log` holds the head of the log that ends with this very digest, so it cannot be part of it.
    Raises: ValueError for NaN or infinity, which JSON does not know.
    """
    signed = {key: value for key, value in summary.items() if key != "log"}
    text = json.dumps(signed, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _files(folder: Path) -> list[tuple[bytes, Path]]:
    found: list[tuple[bytes, Path]] = []
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if "\n" in name or "\\" in name:
            raise ValueError(f"{name!r} in {folder} cannot be listed: its name holds a newline or a backslash")
        if path.is_file():
            found.append((os.fsencode(name), path))
    return found
