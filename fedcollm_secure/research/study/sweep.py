"""Which points a study has: every combination of the swept keys, and every seed, as configurations.

name: icd10-frontier
config: dp_config.yaml          # from this file's folder
seeds: 3                        # the configuration's seed, and the next ones
set: {rounds: 4}                # for every point, as --set does
sweep:                          # any key of the configuration → its values
  privacy: [{non_private: {}}, {record_dp: {…}}]
  factors: [ffa, fedavg]
control: {silo.learning_rate: 1.0e-12}   # what each point is compared with, seed by seed: here silos that teach nothing
"""

import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from fedcollm_crypto.names import check_name
from fedcollm_secure import config
from fedcollm_secure.config import Config
from fedcollm_secure.config.kinds import require_study
from fedcollm_secure.config.protection import NonPrivate
from fedcollm_secure.config.schema import tag_of
from fedcollm_secure.errors import ConfigError

KEYS = ("name", "config", "seeds", "set", "sweep", "control")
NAMED = ("privacy", "privacy.record_dp.epsilon", "factors", "aggregation")
"""Swept keys that a point names by itself; any other is named with its value."""
NO_PRIVACY = "privacy={non_private: {}}"


@dataclass(frozen=True, kw_only=True)
class Point:
    """One configuration of a study, and the folder of all points.

    `control`: what it is compared with, of the same seed and combination but without privacy; None without one.
    """

    config: Config
    others: Mapping[str, object]  # swept keys that are none of NAMED
    folder: Path
    control: "Point | None" = None

    @property
    def epsilon(self) -> float | None:
        """Return ε of the plan; None without differential privacy."""
        return None if isinstance(self.config.privacy, NonPrivate) else self.config.privacy.epsilon

    @property
    def way(self) -> str:
        """Name the combination but for ε."""
        parts = [self.config.what_travels, tag_of(self.config.aggregation)]
        return ", ".join([*parts, *(f"{key} = {json.dumps(value)}" for key, value in self.others.items())])

    @property
    def path(self) -> Path:
        """Return this configuration's own folder: a study that is changed keeps the points that it still has."""
        return self.folder / hashlib.sha256(config.resolved(self.config).encode()).hexdigest()[:16]

    @property
    def result_file(self) -> Path:
        """Return where the result lies, once there is one."""
        return self.path / "result.json"


@dataclass(frozen=True, kw_only=True)
class Sweep:
    """A study as its file tells it."""

    name: str
    base: Path
    seeds: int
    overrides: tuple[str, ...]
    axes: Mapping[str, Sequence[object]]
    control: tuple[str, ...] = ()

    @classmethod
    def load(cls, path: Path, overrides: Sequence[str] = ()) -> "Sweep":
        """Read a study; `overrides` are for every point, after the file's own.

        Raises:
            ConfigError: it is a configuration, or a key is unknown, missing or of a wrong shape.
        """
        tree = config.read_map(path)
        require_study(tree, path)
        if unknown := sorted(set(tree) - set(KEYS)):
            raise ConfigError(f"{path}: {unknown[0]}", f"unknown key; expected some of {', '.join(KEYS)}")
        seeds = tree.get("seeds", 3)
        if isinstance(seeds, bool) or not isinstance(seeds, int) or seeds < 1:
            raise ConfigError(f"{path}: seeds", f"expected a whole number from 1 up, got {seeds!r}")
        fixed, control = (_map(tree.get(key, {}), f"{path}: {key}") for key in ("set", "control"))
        return cls(
            name=_name(tree.get("name", path.stem), f"{path}: name"),
            base=path.parent / _text(tree.get("config"), f"{path}: config"),
            seeds=seeds,
            overrides=(*(_override(key, value) for key, value in fixed.items()), *overrides),
            axes={
                key: _values(values, f"{path}: sweep.{key}")
                for key, values in _map(tree.get("sweep"), f"{path}: sweep").items()
            },
            control=tuple(_override(key, value) for key, value in control.items()),
        )

    def points(self, folder: Path) -> list[Point]:
        """Return a point for each combination and seed, all of which can be read. Raises: ConfigError."""
        found: list[Point] = []
        first = config.load(self.base, self.overrides).seed
        for values in itertools.product(*self.axes.values()):
            chosen = dict(zip(self.axes, values, strict=True))
            swept = [_override(key, value) for key, value in chosen.items()]
            others = {key: value for key, value in chosen.items() if key not in NAMED}
            for seed in range(first, first + self.seeds):
                overrides = [*self.overrides, *swept, _override("seed", seed)]
                point = Point(config=config.load(self.base, overrides), others=others, folder=folder)
                found.append(replace(point, control=self._control(point, overrides)) if self.control else point)
        _require_apart(found)
        return found

    def _control(self, point: Point, overrides: Sequence[str]) -> Point:
        """Return the point without privacy, with what travels spelt out (its default hangs on privacy)."""
        same = _override("factors", point.config.what_travels)
        settings = config.load(self.base, [*overrides, NO_PRIVACY, same, *self.control])
        return replace(point, config=settings)


def _require_apart(points: Sequence[Point]) -> None:
    """Refuse points that one group would take for seeds of one another. Raises: ConfigError."""
    named = Counter((point.way, point.epsilon, point.config.seed) for point in points)
    for (way, epsilon, _), count in named.items():
        if count > 1:
            bound = "∞" if epsilon is None else f"{epsilon:g}"
            raise ConfigError(
                "sweep",
                f"expected one combination for each way and ε, got {count} for {way} at ε = {bound}: their means would "
                "be one. Sweep what tells them apart by a key of its own (privacy.record_dp.clip_norm), or give each "
                "kind of privacy a study",
            )


def _override(key: str, value: object) -> str:
    return f"{key}={json.dumps(value, ensure_ascii=False)}"  # JSON is YAML


def _map(value: object, where: str) -> Mapping[str, object]:
    if not isinstance(value, dict):
        raise ConfigError(where, f"expected a map from keys of the configuration, got {value!r}")
    return {str(key): each for key, each in cast(Mapping[object, object], value).items()}


def _values(value: object, where: str) -> Sequence[object]:
    if not isinstance(value, list) or not value:
        raise ConfigError(where, f"expected a list of values, got {value!r}")
    return cast(list[object], value)


def _name(value: object, where: str) -> str:
    """Return a text that can name a folder. Raises: ConfigError."""
    name = _text(value, where)
    try:
        check_name(name)
    except ValueError as error:
        raise ConfigError(where, str(error)) from error
    return name


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value:
        raise ConfigError(where, f"expected a text, got {value!r}")
    return value
