"""What pydantic found wrong, in our words: the key's path, what is expected there, what came."""

import dataclasses
import difflib
import types
from collections.abc import Mapping, Sequence
from typing import Annotated, Literal, Union, cast, get_args, get_origin, get_type_hints

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from fedcollm_secure.config.setting import Setting, keys_of
from fedcollm_secure.errors import ConfigError

MOST_FAULTS, MOST_CHARACTERS = 6, 60
Path = Sequence[int | str]

RENAMED = {"batch_size": ("tokens_per_batch", "which counts padded tokens in memory at once, and not records")}
"""Keys of earlier versions: their name now, and what else changed with it."""


def config_error(error: ValidationError, root: type) -> ConfigError:
    """Return the first fault, with the others after it; unknown keys first, since a missing one is often theirs."""
    faults = sorted(error.errors(include_url=False), key=lambda each: each["type"] != "unexpected_keyword_argument")
    said = [_said(fault, root) for fault in faults]
    where, message = said[0]
    others = [f"  {place}: {text}" for place, text in said[1:MOST_FAULTS]]
    if len(said) > MOST_FAULTS:
        others.append(f"  and {len(said) - MOST_FAULTS} more")
    return ConfigError(where, "\n".join([message, *others]))


def _said(fault: ErrorDetails, root: type) -> tuple[str, str]:
    path = [part for part in fault["loc"] if not str(part).startswith("·") and part != "[key]"]
    context = fault.get("ctx", {})
    where, kind, value = _dotted(path), _bare(_at(root, path)), cast(object, fault["input"])
    match fault["type"]:
        case "value_error":
            return where, str(context["error"])
        case "unexpected_keyword_argument":
            return where, _unknown(str(path[-1]), list(keys_of(cast(type, _bare(_at(root, path[:-1]))))))
        case "missing":
            return where, f"missing; expected {describe(kind)}"
        case "literal_error":
            choices = [str(choice) for choice in get_args(kind)]
            return where, f"expected one of {', '.join(choices)}, got {_kind(value)}{_near(str(value), choices)}"
        case "alternative":
            tags = str(context["tags"]).split(", ")
            return _dotted([*path, str(context["key"])]), f"{fault['msg']}{_near(str(context['key']), tags)}"
        case "one_of":
            return where, f"{fault['msg']}, got {_kind(value)}"
        case "too_short":
            return where, f"expected {describe(kind)} with at least one entry, got an empty one"
        case _:
            return where, f"expected {describe(kind)}, got {_kind(value)}"


def _unknown(key: str, keys: Sequence[str]) -> str:
    now, meaning = RENAMED.get(key, ("", ""))
    if now in keys:
        return f"this key is now {now}, {meaning}; write that"
    return f"unknown key; expected one of {', '.join(keys)}{_near(key, keys)}"


def _near(word: str, words: Sequence[str]) -> str:
    near = difflib.get_close_matches(word, words, 1, 0.6)
    return f"; did you mean {near[0]}?" if near else ""


def _dotted(path: Path) -> str:
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def _at(kind: object, path: Path) -> object:
    """Return the annotation of what stands at a path."""
    for part in path:
        kind = _step(_bare(kind), part)
    return kind


def _step(kind: object, part: int | str) -> object:
    if dataclasses.is_dataclass(kind):
        fields = keys_of(cast(type, kind))
        return get_type_hints(kind, include_extras=True)[fields[str(part)].name] if part in fields else object
    if get_origin(kind) is Mapping:
        return get_args(kind)[1]
    if get_origin(kind) is tuple:
        return get_args(kind)[0]
    members = [member for member in _members(kind) if member.tag == part]
    return members[0] if members else next((each for each in get_args(kind) if get_origin(each) is tuple), kind)


def _bare(kind: object) -> object:
    """Take off what pydantic is told by annotations, and None."""
    while True:
        if get_origin(kind) is Annotated:
            kind = get_args(kind)[0]
        elif get_origin(kind) in (Union, types.UnionType) and type(None) in get_args(kind):
            rest = [each for each in get_args(kind) if each is not type(None)]
            kind = rest[0] if len(rest) == 1 else Union[tuple(rest)]  # noqa: UP007 - members known at run time alone
        else:
            return kind


def _members(kind: object) -> list[type[Setting]]:
    return [
        each
        for each in (get_args(kind) or (kind,))
        if isinstance(each, type) and issubclass(each, Setting) and each.tag
    ]


_WORDS: Mapping[object, str] = {
    int: "a whole number",
    float: "a number",
    str: "a text",
    bool: "true or false",
}


def describe(kind: object) -> str:
    """Say what is expected."""
    kind = _bare(kind)
    if kind in _WORDS:
        return _WORDS[kind]
    if get_origin(kind) is Literal:
        return "one of " + ", ".join(map(str, get_args(kind)))
    if get_origin(kind) is tuple:
        return "a list"
    if get_origin(kind) is Mapping:
        return "a map from names"
    if len(_members(kind)) > 1:
        return "a map with one of " + ", ".join(member.tag for member in _members(kind))
    if dataclasses.is_dataclass(kind):
        return "a map with " + (", ".join(keys_of(cast(type, kind))) or "nothing in it")
    return "a text or a list" if str in get_args(kind) else "a value"


def _kind(value: object) -> str:
    match value:
        case None:
            return "nothing"
        case bool():
            return f"the truth value {str(value).lower()}; between quotes it is a text"
        case str():
            return f"the text {value[:MOST_CHARACTERS]!r}{'…' if len(value) > MOST_CHARACTERS else ''}"
        case int() | float():
            return f"the number {value}"
        case list() | tuple():
            return "a list"
        case dict():
            return "a map with " + (", ".join(map(str, cast(Mapping[object, object], value))) or "nothing in it")
        case _:
            return f"a {type(value).__name__}"
