"""Strict YAML → `Config`. An unknown key, a wrong type, a double key or a missing value is an error with its path."""

import dataclasses
import math
import re
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

import yaml

from fedcollm_secure.config.data import Files, FileSource
from fedcollm_secure.config.kinds import require_configuration
from fedcollm_secure.config.models import ModelSource
from fedcollm_secure.config.schema import TAG_OF, TAGS, Config
from fedcollm_secure.errors import ConfigError

T = TypeVar("T")
Tree = Mapping[str, object]


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
    """Read a YAML file that holds a map, strictly: YAML 1.2 scalars, no key twice. Raises: ConfigError."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), f"cannot be read ({error}); give the path of a YAML configuration") from error
    tree = _yaml(text, str(path))
    if not isinstance(tree, dict):
        raise ConfigError(str(path), f"expected a map of settings, got {_kind(tree)}")
    return cast(dict[str, object], tree)


def parse(tree: Tree) -> Config:
    """Turn a parsed tree into a `Config` (see `load`)."""
    return cast(Config, _value(Config, tree, ""))


def resolved(config: Config) -> str:
    """Return YAML with every default written out; `load` reads it back to an equal `Config`."""
    return yaml.safe_dump(_plain(config), sort_keys=False, allow_unicode=True)


def _anchored(config: Config, folder: Path) -> Config:
    """Make the paths of files and model folders absolute: they start at the configuration's folder."""

    def anchor(part: T) -> T:
        if isinstance(part, FileSource):
            return cast(T, FileSource(path=str(folder / part.path)))
        if isinstance(part, Files):
            return cast(T, Files(paths={silo: str(folder / path) for silo, path in part.paths.items()}))
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


class _Loader(yaml.SafeLoader):
    """YAML 1.2 scalars (1e-5 is a number, `no` is a text) and no double keys."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, regexp) for tag, regexp in resolvers if not tag.endswith((":bool", ":float", ":timestamp"))]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(?:true|false)$"), list("tf"))
_Loader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(r"^[-+]?(?:\.\d+|\d+(?:\.\d*)?)(?:[eE][-+]?\d+)?$|^[-+]?\.inf$|^\.nan$"),
    list("-+.0123456789"),
)


def _unique_map(loader: _Loader, node: yaml.MappingNode) -> dict[object, object]:
    keys = [loader.construct_object(key, deep=True) for key, _ in node.value]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(str(key), f"stands twice{node.start_mark}; keep one")
    return dict(zip(keys, (loader.construct_object(value, deep=True) for _, value in node.value), strict=True))


_Loader.add_constructor("tag:yaml.org,2002:map", _unique_map)


def _yaml(text: str, where: str) -> object:
    try:
        return cast(object, yaml.load(text, Loader=_Loader))  # noqa: S506 - a SafeLoader with stricter scalars
    except (yaml.YAMLError, RecursionError) as error:
        raise ConfigError(where, f"not YAML: {error}") from error


def _override(tree: dict[str, object], override: str) -> None:
    path, equals, text = override.partition("=")
    if not equals:
        raise ConfigError("--set", f"expected KEY=VALUE such as rounds=3, got {override!r}")
    *parents, last = path.split(".")
    for parent in parents:
        child = tree.setdefault(parent, {})
        if not isinstance(child, dict):
            raise ConfigError("--set", f"{path}: {parent} is {_kind(child)}, not a map")
        tree = cast(dict[str, object], child)
    tree[last] = _yaml(text, f"--set {path}")


def _value(kind: object, value: object, path: str) -> object:
    """Check `value` against the annotation `kind`, recursively."""
    origin = get_origin(kind)
    if kind in TAGS.values():  # an alternative that stands alone so far
        return _union((kind,), value, path)
    if dataclasses.is_dataclass(kind):
        return _record(cast(type, kind), value, path)
    if origin in (Union, types.UnionType):
        return _union(get_args(kind), value, path)
    if origin is Literal:
        return _literal(get_args(kind), value, path)
    if origin is tuple:
        return _tuple(get_args(kind)[0], value, path)
    if origin is Mapping:
        return _map(get_args(kind)[1], value, path)
    return _scalar(cast(type, kind), value, path)


def _record(kind: type[T], value: object, path: str) -> T:
    """Build a dataclass from a map; short form: the value of its only field."""
    fields = {cast(str, f.metadata.get("key", f.name)): f for f in dataclasses.fields(kind)}  # type: ignore[arg-type] # a dataclass, checked by the caller
    if not isinstance(value, Mapping) or (len(fields) == 1 and not set(cast(Tree, value)) <= set(fields)):
        value = _short_form(value, list(fields), path)
    tree = cast(Tree, value)
    for key in tree:
        if key not in fields:
            raise ConfigError(_join(path, key), f"unknown key; expected one of {', '.join(fields)}")
    hints = get_type_hints(kind)
    given = {fields[key].name: _value(hints[fields[key].name], item, _join(path, key)) for key, item in tree.items()}
    for key, entry in fields.items():
        if entry.name not in given and entry.default is dataclasses.MISSING:
            raise ConfigError(_join(path, key), f"missing; expected {_describe(hints[entry.name])}")
    try:
        return kind(**given)
    except ValueError as error:
        raise ConfigError(path, str(error)) from error


def _short_form(value: object, fields: list[str], path: str) -> Tree:
    if len(fields) != 1 or value is None:
        if value is None and not fields:
            return {}
        raise ConfigError(path, f"expected a map with {', '.join(fields) or 'nothing in it'}, got {_kind(value)}")
    return {fields[0]: value}


def _union(kinds: tuple[object, ...], value: object, path: str) -> object:
    if value is None and type(None) in kinds:
        return None
    kinds = tuple(kind for kind in kinds if kind is not type(None))
    tagged = {tag: kind for tag, kind in TAGS.items() if kind in kinds}
    if tagged:
        return _tagged(tagged, value, path)
    if len(kinds) == 1:  # an optional value
        return _value(kinds[0], value, path)
    if isinstance(value, list):
        return _value(next(kind for kind in kinds if get_origin(kind) is tuple), value, path)
    return _value(next(kind for kind in kinds if get_origin(kind) is not tuple), value, path)


def _tagged(tagged: Mapping[str, type], value: object, path: str) -> object:
    if isinstance(value, str) and value in tagged:  # `engine: local` for `engine: {local: {}}`
        value = {value: {}}
    if not isinstance(value, Mapping) or len(cast(Tree, value)) != 1:
        raise ConfigError(path, f"expected a map with exactly one of {', '.join(tagged)}, got {_kind(value)}")
    ((tag, content),) = cast(Tree, value).items()
    if tag not in tagged:
        raise ConfigError(_join(path, tag), f"unknown alternative; expected one of {', '.join(tagged)}")
    return _record(tagged[tag], content if content is not None else {}, _join(path, tag))


def _literal(choices: tuple[object, ...], value: object, path: str) -> object:
    if value not in choices or isinstance(value, bool):
        raise ConfigError(path, f"expected one of {', '.join(map(str, choices))}, got {value!r}")
    return value


def _tuple(kind: object, value: object, path: str) -> tuple[object, ...]:
    if not isinstance(value, list) or not value:
        raise ConfigError(path, f"expected a list with at least one entry, got {_kind(value)}")
    entries = cast(list[object], value)
    return tuple(_value(kind, item, f"{path}[{index}]") for index, item in enumerate(entries))


def _map(kind: object, value: object, path: str) -> Mapping[str, object]:
    if not isinstance(value, Mapping) or not value:
        raise ConfigError(path, f"expected a map with at least one entry, got {_kind(value)}")
    return {str(key): _value(kind, item, _join(path, str(key))) for key, item in cast(Tree, value).items()}


def _scalar(kind: type, value: object, path: str) -> object:
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if kind is str and isinstance(value, int) and not isinstance(value, bool):
        value = str(value)  # chapter: [1, 2] are names
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        raise ConfigError(path, f"expected {_describe(kind)}, got {_kind(value)}")
    if isinstance(value, float) and math.isnan(value):
        raise ConfigError(path, "expected a number, got nan")
    return value


_WORDS: Mapping[object, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
}


def _describe(kind: object) -> str:
    if kind in _WORDS:
        return _WORDS[kind]
    if dataclasses.is_dataclass(kind):
        return "a map with " + ", ".join(cast(str, f.metadata.get("key", f.name)) for f in dataclasses.fields(kind))
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    tags = [tag for tag, member in TAGS.items() if member in get_args(kind)]
    return "a map with one of " + ", ".join(tags) if tags else "a value"


def _kind(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return f"the truth value {str(value).lower()}"
        case str():
            return f"the text {value!r}"
        case int() | float():
            return f"the number {value}"
        case list():
            return "a list"
        case dict():
            return "a map with " + (", ".join(map(str, cast(Tree, value))) or "nothing in it")
        case _:
            return type(value).__name__


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _plain(value: object) -> object:
    """Turn the tree back into maps, lists and scalars; a union's member gets its tag again."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        record = {
            cast(str, f.metadata.get("key", f.name)): _plain(getattr(value, f.name)) for f in dataclasses.fields(value)
        }
        tag = TAG_OF.get(type(value))
        return {tag: record} if tag else record
    if isinstance(value, tuple):
        return [_plain(item) for item in cast(tuple[object, ...], value)]
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in cast(Tree, value).items()}
    return value
