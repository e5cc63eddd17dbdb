"""The `examples` command: write the configurations that the package ships, for whoever has no checkout.

In a wheel they lie in the package (`pyproject.toml`, force-include); in a checkout beside it, in `examples/`.
"""

from collections.abc import Mapping
from pathlib import Path

import fedcollm_secure
from fedcollm_crypto import durable
from fedcollm_secure.errors import NotStarted, RunError

NAMES = (
    "dp_config.yaml",
    "homomorphic.yaml",
    "compare.yaml",
    "frontier.yaml",
    "joint_noise.yaml",
    "rules.yaml",
    "bank_intents.yaml",
    "hospital_notes.yaml",
)
FOLDERS = ("paper", "synthetic")
"""What two of them need, and the paper's own experiment."""


def examples(folder: Path) -> Mapping[str, object]:
    """Write every example into `folder`, and return what was written.

    Raises: NotStarted where one of them is there already: nothing is written over, and nothing was written.
    """
    texts = {name: _shipped(name).read_bytes() for name in NAMES}
    for name in FOLDERS:
        place = _shipped(name)
        texts |= {str(Path(name) / file.relative_to(place)): file.read_bytes() for file in _files(place)}
    if taken := [str(folder / name) for name in texts if (folder / name).exists()]:
        raise NotStarted(f"{', '.join(taken)}: already there, and never written over; name another folder")
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        durable.write_new(folder / name, text)
    return {"examples": [str(folder / name) for name in texts]}


def examples_words(found: Mapping[str, object], folder: Path) -> str:
    """Say what was written and what to type next."""
    written = found["examples"]
    lines = [str(path) for path in written] if isinstance(written, list) else []
    return "\n".join([*lines, f"Begin with: fedcollm-secure run {folder / NAMES[0]}"])


def _files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.rglob("*") if path.is_file())


def _shipped(name: str) -> Path:
    package = Path(fedcollm_secure.__file__).parent
    for folder in (package / "examples", package.parent / "examples"):
        if (folder / name).exists():
            return folder / name
    raise RunError(f"{name} is missing from this installation; install the package again")
