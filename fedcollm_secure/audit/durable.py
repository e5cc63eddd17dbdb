"""Files that survive a crash: written whole or not at all, and durable, name included, before anybody acts on them."""

import os
from pathlib import Path


def write_new(path: Path, data: bytes) -> None:
    """Write a file that must not exist yet. Raises: FileExistsError."""
    with path.open("xb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    sync_folder(path.parent)


def replace(path: Path, data: bytes, *, private: bool = False) -> None:
    """Write a file whole, in the place of an older one if there is one; a `private` one its owner alone can read."""
    partial = path.with_name(f".{path.name}.partial")
    partial.unlink(missing_ok=True)  # of a crash; what else could lie there is not written through
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600 if private else 0o666)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable: fsync of a file does not."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
