"""What is one party's own: its folder's `site.yaml`, with paths, addresses and the device. Nobody else ever reads it.

Relative paths start at the folder. A hospital's site names its records and its small model; a coordinator's neither.
"""

import re
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import TypeAdapter

from fedcollm_secure.config.load import parse_as, read_map
from fedcollm_secure.config.models import ModelSource
from fedcollm_secure.config.require import require
from fedcollm_secure.config.setting import ONE_OF, Setting, Text
from fedcollm_secure.config.source import FileSource

SITE_NAME = "site.yaml"
Records = FileSource
"""Where a silo's records may come from."""


@dataclass(frozen=True, kw_only=True)
class Waits(Setting):
    """How long a party waits, in seconds.

    `alive_s`: for any sign of life of the other end. `answer_s`: for a whole answer, which may take hours of training.
    `quorum_s`: until enough silos can be reached, before an attempt is spent.
    """

    alive_s: float = 60.0
    answer_s: float = 86_400.0
    quorum_s: float = 900.0

    def __post_init__(self) -> None:
        """Refuse no patience at all."""
        for name in ("alive_s", "answer_s", "quorum_s"):
            value = getattr(self, name)
            require(0 < value < float("inf"), f"{name}: expected a positive number, got {value}")


@dataclass(frozen=True, kw_only=True)
class Site(Setting):
    """One party's folder. `address` is the coordinator's, HOST:PORT: it listens there, the others dial it.

    `ledger`: that of the data set, beside which the silo keeps what it ever helped to open; it outlives every plan, and
    one data set has one.
    """

    name: Text
    consortium: Text
    role: Literal["server", "silo", "decryptor"]
    address: Text
    data: Annotated[Records, ONE_OF] | None = None
    slm: ModelSource | None = None
    ledger: Text = "ledger.jsonl"
    device: Literal["auto", "cpu", "cuda"] = "auto"
    waits: Waits = Waits()

    def __post_init__(self) -> None:
        """Refuse an address without a port."""
        require(
            re.fullmatch(r"[^\s:]+:[0-9]{1,5}|\[[0-9a-fA-F:]+\]:[0-9]{1,5}", self.address) is not None,
            f"address: expected HOST:PORT, got {self.address!r}",
        )

    @property
    def host(self) -> str:
        """Return the address without its port."""
        return self.address.rpartition(":")[0].strip("[]")

    @property
    def port(self) -> int:
        """Return the address's port."""
        return int(self.address.rpartition(":")[2])


def load_site(folder: Path) -> Site:
    """Read a folder's `site.yaml`; its paths become absolute. Raises: ConfigError."""
    site = parse_as(Site, _reader(), read_map(folder / SITE_NAME))
    place = folder.resolve()
    data = replace(site.data, path=str(place / site.data.path)) if site.data is not None else None
    slm = site.slm
    if slm is not None and (place / slm.source).is_dir():
        slm = replace(slm, source=str(place / slm.source))
    return replace(site, data=data, slm=slm, ledger=str(place / site.ledger))


@cache
def _reader() -> TypeAdapter[Site]:
    return TypeAdapter(Site)
