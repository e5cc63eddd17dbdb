"""Who holds which record. Every split is drawn with the configuration's seed and is the same on every machine."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from fedcollm_secure.config.data import ByColumn, ByLabel, Dirichlet, Iid
from fedcollm_secure.errors import ConfigError

Indices = NDArray[np.int64]


def shuffled(count: int, *, seed: int, purpose: str) -> Indices:
    """Return a permutation of `count` indices; each purpose has its own stream."""
    stream = np.random.default_rng([seed, *purpose.encode()])
    return stream.permutation(count).astype(np.int64)


def split_iid(how: Iid, count: int, *, seed: int) -> dict[str, Indices]:
    """Cut a random permutation into equal parts (sizes differ by at most one)."""
    parts = np.array_split(shuffled(count, seed=seed, purpose="silos"), how.count)
    return {f"silo-{number}": part for number, part in enumerate(parts, start=1)}


def split_by_value(how: ByColumn | ByLabel, values: Sequence[str]) -> dict[str, Indices]:
    """Give each silo the records whose value is in its group, in their order.

    Raises:
        ConfigError: a value belongs to two silos.
    """
    owner: dict[str, str] = {}
    for silo, group in how.groups.items():
        for value in group:
            if value in owner:
                raise ConfigError("data.silos", f"{value!r} belongs to {owner[value]} and to {silo}; give it to one")
            owner[value] = silo
    owners = np.array([owner.get(value, "") for value in values])
    return {silo: np.flatnonzero(owners == silo).astype(np.int64) for silo in how.groups}


def split_dirichlet(how: Dirichlet, labels: Sequence[str], *, seed: int) -> dict[str, Indices]:
    """For each label, cut its shuffled records by shares from Dirichlet(α) (Hsu et al., arXiv 1909.06335)."""
    stream = np.random.default_rng([seed, *b"dirichlet"])
    names = [f"silo-{number}" for number in range(1, how.count + 1)]
    held: dict[str, list[Indices]] = {name: [] for name in names}
    column = np.array(labels)
    for label in sorted(set(labels)):
        records = stream.permutation(np.flatnonzero(column == label)).astype(np.int64)
        shares = stream.dirichlet([how.alpha] * how.count)
        cuts = np.round(np.cumsum(shares)[:-1] * len(records)).astype(np.int64)
        for name, part in zip(names, np.split(records, cuts), strict=True):
            held[name].append(part)
    return {name: np.concatenate(parts) for name, parts in held.items()}


def require_nobody_empty(sizes: Mapping[str, int]) -> None:
    """Refuse a consortium in which a silo holds nothing.

    Raises:
        ConfigError: naming the empty silos.
    """
    empty = [silo for silo, size in sizes.items() if size == 0]
    if empty:
        raise ConfigError("data.silos", f"no records for {', '.join(empty)}; change the split or drop the silo")
