"""YAML 1.2, core schema: `no` is a text, 1e-5 a number, 010 ten and 0o10 eight; no key stands twice.

PyYAML parses; its own scalars are those of YAML 1.1, in which `010` is 8, `no` is false and `1_000` a thousand. The
table below is the core schema's (YAML 1.2.2, section 10.3.2). A number remembers how it was written: where a name is
meant, `[007, 010]` are the names 007 and 010.
"""

import re
from typing import cast

import yaml

from fedcollm_secure.errors import ConfigError

_INT = "tag:yaml.org,2002:int"
_FLOAT = "tag:yaml.org,2002:float"
_CORE = (
    ("tag:yaml.org,2002:null", r"~|null|Null|NULL|", "~nN\0"),
    ("tag:yaml.org,2002:bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    (_INT, r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (_FLOAT, r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?", "-+.0123456789"),
    (_FLOAT, r"[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)", "-+."),
)


class WrittenInt(int):
    """A whole number that knows its text."""

    text: str


class WrittenFloat(float):
    """A number that knows its text."""

    text: str


def written(value: WrittenInt | WrittenFloat) -> str:
    """Return a number as it stands in the file."""
    return value.text


class _Loader(yaml.SafeLoader):
    """The core schema, and no double keys."""


class _Dumper(yaml.SafeDumper):
    """Quote what the core schema would take for something else."""


for _each in (_Loader, _Dumper):
    _each.yaml_implicit_resolvers = {}
    for _tag, _pattern, _first in _CORE:
        _each.add_implicit_resolver(_tag, re.compile(f"^(?:{_pattern})$"), ["" if c == "\0" else c for c in _first])


def _int(loader: _Loader, node: yaml.ScalarNode) -> WrittenInt:
    text = str(loader.construct_scalar(node))
    base = {"0o": 8, "0x": 16}.get(text[:2], 10)
    made = WrittenInt(text[2:] if base != 10 else text, base)
    made.text = text
    return made


def _float(loader: _Loader, node: yaml.ScalarNode) -> WrittenFloat:
    text = str(loader.construct_scalar(node))
    made = WrittenFloat(re.sub(r"\.(?=[a-zA-Z])", "", text) if re.search("[nN]", text) else text)
    made.text = text
    return made


def _unique_map(loader: _Loader, node: yaml.MappingNode) -> dict[object, object]:
    lines: dict[object, int] = {}
    for key_node, _ in node.value:
        key, line = loader.construct_object(key_node, deep=True), key_node.start_mark.line + 1
        if isinstance(key, (list, dict)):
            raise _NotOurs(line, "a key is a list or a map; expected a word")
        if key in lines:
            raise _NotOurs(line, f"a key stands twice, the first in line {lines[key]}; keep one")
        lines[key] = line
    values = [loader.construct_object(value, deep=True) for _, value in node.value]
    return dict(zip(lines, values, strict=True))


class _NotOurs(Exception):
    """What YAML allows and a configuration does not."""

    def __init__(self, line: int, what: str) -> None:
        super().__init__(what)
        self.line = line


_Loader.add_constructor(_INT, _int)
_Loader.add_constructor(_FLOAT, _float)
_Loader.add_constructor("tag:yaml.org,2002:map", _unique_map)
BREAKS = {"\x85": "\\N", "\u2028": "\\L", "\u2029": "\\P"}
"""What some take for the end of a line, and how YAML spells it within double quotes."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    style = '"' if any(one in value for one in BREAKS) else None
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_Dumper.add_representer(str, _text)
for _number in (WrittenInt, WrittenFloat):
    _Dumper.add_representer(_number, lambda dumper, value: dumper.represent_data(value + 0))  # the plain number


def read_yaml(text: str, where: str) -> object:
    """Return what the text says.

    Raises:
        ConfigError: with the line; what stands there is not shown, since it may be a file of records.
    """
    try:
        return cast(object, yaml.load(text, Loader=_Loader))  # noqa: S506 - a SafeLoader with stricter scalars
    except _NotOurs as error:
        raise ConfigError(where, f"line {error.line}: {error}") from None
    except yaml.MarkedYAMLError as error:
        raise ConfigError(where, f"not YAML{_at(error.problem_mark)}{_problem(error.problem)}") from None
    except (yaml.YAMLError, RecursionError, ValueError):
        raise ConfigError(where, "not YAML; is it a text file, and of sane depth?") from None


def lines_of(text: str) -> dict[str, int]:
    """Return the line of each key of a map that `read_yaml` read, by its path: {"a": 1, "a.b": 2}."""
    found: dict[str, int] = {}

    def walk(node: yaml.Node | None, before: str) -> None:
        if isinstance(node, yaml.MappingNode):
            for key, value in node.value:
                path = f"{before}.{key.value}" if before else str(key.value)
                found[path] = key.start_mark.line + 1
                walk(value, path)

    walk(yaml.compose(text, Loader=_Loader), "")
    return found


def write_yaml(tree: object) -> str:
    """Return YAML that `read_yaml` reads back, and whose lines end with a newline alone, whoever splits them."""
    text = yaml.dump(tree, Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    return re.sub("[\x85\u2028\u2029]", lambda found: BREAKS[found[0]], text)


def _at(mark: yaml.Mark | None) -> str:
    return "" if mark is None else f", line {mark.line + 1}, column {mark.column + 1}"


def _problem(problem: str | None) -> str:
    """Return the parser's words, unless they quote what it read."""
    if problem is None or "'" in problem or '"' in problem:
        return ": a character, tag or reference that YAML does not allow there, such as a tab"
    return f": {problem}"
