"""A file's state at the end of a round, kept beside it, so that a round that died midway can begin from it again.

`optimizer_state: kept` writes an optimiser's state before the round it belongs to is closed. A resumed round that began
from that state would take each step twice.
"""

import os
import shutil
from pathlib import Path


def keep_as(source: Path, target: Path) -> None:
    """Let `target` be what `source` is now; nothing where there is no source. Neither is ever written in place."""
    if not source.is_file():
        return
    partial = target.with_name(f"{target.name}.partial")
    partial.unlink(missing_ok=True)
    try:
        os.link(source, partial)
    except OSError:  # a file system without links
        shutil.copyfile(source, partial)
    partial.replace(target)
    partial.unlink(missing_ok=True)  # where both were one file already, rename does nothing and leaves it


def restore(target: Path, kept: Path) -> None:
    """Let `target` be what was kept; gone where nothing was, since then no round was closed with it."""
    if kept.is_file():
        keep_as(kept, target)
    else:
        target.unlink(missing_ok=True)
