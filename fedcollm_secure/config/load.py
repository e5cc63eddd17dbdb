"""Strict YAML → `Config`. An unknown key, a wrong type, a double key or a missing value is an error with its path."""

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import TypeVar, cast

from pydantic import TypeAdapter, ValidationError

from fedcollm_secure.config.data import Files
from fedcollm_secure.config.faults import config_error
from fedcollm_secure.config.kinds import require_configuration, require_settings
from fedcollm_secure.config.models import ModelSource
from fedcollm_secure.config.schema import Config
from fedcollm_secure.config.setting import Setting, Tree
from fedcollm_secure.config.source import FileSource
from fedcollm_secure.config.yaml12 import read_yaml, write_yaml
from fedcollm_secure.errors import ConfigError

T = TypeVar("T")
MOST_BYTES = 2**22
"""Of a configuration: a hand-written file is a thousandth of it, and a file of records is found out sooner."""


def load(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Read a configuration file; each override is `a.b=value`, the value in YAML.

    Raises:
        ConfigError: the file is missing, not YAML or a study, or a key is unknown, missing, of a wrong type or out of
            range.
    """
    tree = read_map(path)
    require_configuration(tree, path)
    for override in overrides:
        _override(tree, override)
    return _anchored(parse(tree), path.resolve().parent)


def read_map(path: Path) -> dict[str, object]:
    """Read a YAML file that holds a map of settings, strictly: YAML 1.2 scalars, no key twice.

    Raises:
        ConfigError: it is none. What is in it is not shown: it may be a file of records.
    """
    require_settings(path)
    try:
        with path.open("rb") as file:
            content = file.read(MOST_BYTES + 1)
        text = content.decode("utf-8-sig")
    except OSError as error:
        raise ConfigError(
            str(path), f"cannot be read ({error.strerror}); give the path of a YAML configuration"
        ) from error
    except UnicodeDecodeError:
        raise ConfigError(str(path), "is not UTF-8 text, where a YAML configuration is expected") from None
    if len(content) > MOST_BYTES:
        raise ConfigError(str(path), f"is longer than {MOST_BYTES >> 20} MiB, where a YAML configuration is expected")
    tree = read_yaml(text, str(path))
    if not isinstance(tree, dict):
        raise ConfigError(str(path), "expected a map of settings, and it holds none; give a YAML configuration")
    return {str(key): value for key, value in cast(Mapping[object, object], tree).items()}


def parse(tree: Tree) -> Config:
    """Turn a parsed tree into a `Config` (see `load`)."""
    return parse_as(Config, reader(), tree)


def parse_as(kind: type[T], read: TypeAdapter[T], tree: Tree) -> T:
    """Turn a parsed tree into settings of a kind, by what reads it. Raises: ConfigError, as `load` does."""
    try:
        return read.validate_python(tree)
    except ValidationError as error:
        raise config_error(error, kind) from None


@cache
def reader() -> TypeAdapter[Config]:
    """Return what reads a tree and describes it."""
    return TypeAdapter(Config)


def resolved(config: Setting) -> str:
    """Return YAML with every default written out; `load` reads a `Config` back that is equal."""
    return write_yaml(_plain(config))


def _anchored(config: Config, folder: Path) -> Config:
    """Make the paths of files and model folders absolute: they start at the configuration's folder."""

    def anchor(part: T) -> T:
        if isinstance(part, FileSource):
            return cast(T, dataclasses.replace(part, path=str(folder / part.path)))
        if isinstance(part, Files):
            return cast(T, Files(paths={silo: anchor(source) for silo, source in part.paths.items()}))
        if isinstance(part, ModelSource) and (folder / part.source).is_dir():
            return cast(T, dataclasses.replace(part, source=str(folder / part.source)))
        return part

    data, models = config.data, config.models
    return dataclasses.replace(
        config,
        data=dataclasses.replace(
            data,
            source=anchor(data.source),
            silos=anchor(data.silos),
            test=anchor(data.test),
            auxiliary=anchor(data.auxiliary),
        ),
        models=dataclasses.replace(models, llm=anchor(models.llm), slm=anchor(models.slm)),
    )


def _override(tree: dict[str, object], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals:
        raise ConfigError("--set", f"expected KEY=VALUE such as rounds=3, got {override!r}")
    *parents, last = path.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError("--set", f"{path}: {parent} is no map, which has no keys; give {parent}={{…}} as a whole")
        tree = cast(dict[str, object], child)
    tree[last] = read_yaml(text, f"--set {path}")


def _plain(value: object) -> object:
    """Turn the tree back into maps, lists and scalars; a union's member gets its tag again."""
    if isinstance(value, Setting):
        record = {
            cast(str, field.metadata.get("key", field.name)): _plain(getattr(value, field.name))
            for field in dataclasses.fields(value)  # type: ignore[arg-type] # every setting is a dataclass
        }
        return {value.tag: record} if value.tag and not value.flat else record
    if isinstance(value, tuple):
        return [_plain(item) for item in cast(tuple[object, ...], value)]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in cast(Tree, value).items()}
    return value
