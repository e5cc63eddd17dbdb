"""A message is declared once: a frozen dataclass, whose annotations say what each field may hold. Nobody spells one.

    class Shares(Declared):              kind            on the wire
        KIND: ClassVar[str] = "shares"                   its name in errors; else `NAME`, or the class's, `share-box`
        manifest_hash: Sha256            kinds.Octets    lower-case hex
        count: Natural                   kinds.Whole     an integer in [0, 2^53)
        sender: PartyId                  kinds.Text      `str`: at most 512 characters
        last: bool                       kinds.Truth
        adversary: Literal["a", "b"]     kinds.Choice
        members: tuple[PartyId, ...]     Items           a list; `Annotated[..., Listed(most=64)]` bounds it
        seeds: Mapping[PartyId, Sha256]  Members         an object
        box: ShareBox                    Nested          an object; another message
        where: Annotated[Where, FLAT]    Nested          its fields, beside these
        other: ShareBox | None = None                    left out where it is None
        profile: Annotated[.., SPARSE]                   left out where it is the default, and only then
        v: ClassVar[Literal[1]] = 1      kinds.Choice    a constant
        sender: Annotated[.., Called("from")]            another name on the wire

Any other kind is named: `Annotated[bytes, Octets(32, check=x25519_key)]`. What several fields must keep together, the
dataclass checks when it is made, as always. One reader refuses what is missing, unknown or of another kind, one writer
writes; a key that stands twice never gets here (`canonical`). Bytes that a signature covers are kept by `signed`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, ClassVar, Generic, Literal, Self, TypeVar, Union, get_args, get_origin, get_type_hints

from fedcollm_crypto.bounds import MAX_ITEMS
from fedcollm_crypto.canonical import MAX_SHOWN, Json
from fedcollm_crypto.containers import Items, Members
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.kinds import Choice, Kind, Text, Truth, mistyped, unexpected


class Mark:
    """Something that a declaration says of a field beside its kind."""


class Called(Mark):
    """The name of a field on the wire, where it is no Python name, or is called otherwise there."""

    def __init__(self, name: str) -> None:
        """Take the name."""
        self.name = name


class Listed(Mark):
    """How many a list may hold, and whether in alphabetical order (`containers.Items`)."""

    def __init__(self, *, least: int = 0, most: int = MAX_ITEMS, ascending: bool = False) -> None:
        """Take the bounds and the order."""
        self.least = least
        self.most = most
        self.ascending = ascending


FLAT = Mark()
SPARSE = Mark()


class Declared:
    """A message that is read and written by its declaration."""

    def to_body(self) -> dict[str, Json]:
        """Return it as a JSON object."""
        return write(self)

    @classmethod
    def from_body(cls, body: Json) -> Self:
        """Read it. Raises: ProtocolError that names message and field."""
        return read(cls, body)


Message = TypeVar("Message", bound=Declared)


@dataclass(frozen=True, kw_only=True)
class Field:
    """One field: its `name` in Python, its `key` on the wire, the `kind` of what it holds; see the marks above."""

    name: str
    key: str
    where: str
    kind: Kind
    flat: "Declaration | None"
    sparse: bool
    constant: bool
    default: object


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """All fields of a message, which errors call `name`, and all keys of its JSON object."""

    name: str
    fields: tuple[Field, ...]
    keys: frozenset[str]


def write(message: Declared) -> dict[str, Json]:
    """Return a message as a JSON object. Raises: TypeError for a field that is of another type than was declared."""
    body: dict[str, Json] = {}
    for field in declaration(type(message)).fields:
        value: object = getattr(message, field.name)
        if field.flat and isinstance(value, Declared):
            body |= write(value)
        elif not (field.sparse and value == field.default):
            body[field.key] = field.kind.write(value)
    return body


def read(kind: type[Message], body: Json, name: str = "") -> Message:
    """Return the message that a JSON object stands for; errors call it `name`, or by its own name.

    Raises: ProtocolError for no object, for a field that is missing, unknown or of another kind, and where the message
    itself says that its fields do not go together.
    """
    declared = declaration(kind, name)
    if not isinstance(body, Mapping):
        raise unexpected(declared.name, "an object was", body)
    values = {field.name: _value(field, body, declared) for field in declared.fields}
    if unknown := body.keys() - declared.keys:
        shown = min(unknown)[:MAX_SHOWN]
        raise ProtocolError(
            f"{declared.name}: unknown fields, of this version there are {len(unknown)} too many, such as {shown!a}"
        )
    construct: Callable[..., Message] = kind
    try:
        return construct(**{field.name: values[field.name] for field in declared.fields if not field.constant})
    except ValueError as error:
        raise ProtocolError(f"{declared.name}: {error}") from None


class Nested:
    """Another message inside one."""

    def __init__(self, of: type[Declared], name: str = "") -> None:
        """Take which, and what errors call it; by default as they do elsewhere."""
        self.of = of
        self.name = name

    def read(self, where: str, value: Json) -> Declared:
        """Return it."""
        if not isinstance(value, Mapping):
            raise unexpected(where, "an object was", value)
        return read(self.of, value, self.name)

    def write(self, value: object) -> dict[str, Json]:
        """Return its object."""
        if not isinstance(value, self.of):
            raise mistyped(self.of.__name__, value)
        return write(value)


class OneOf(Generic[Message]):
    """One of several messages in one place: the field `tag` says which, beside its own fields."""

    def __init__(self, what: str, tag: str, kinds: Mapping[str, type[Message]]) -> None:
        """Take what errors call it, and the messages by what `tag` says."""
        self._what = what
        self._tag = tag
        self._kinds = kinds
        self._tags = {kind: name for name, kind in kinds.items()}

    def read(self, body: Json) -> Message:
        """Return the message. Raises: ProtocolError, also for a tag that is none of ours."""
        if not isinstance(body, Mapping):
            raise unexpected(self._what, "an object was", body)
        if self._tag not in body:
            raise ProtocolError(f"{self._what}: the field {self._tag} is missing")
        name = Choice(*self._kinds).read(f"{self._what}.{self._tag}", body[self._tag])
        return read(self._kinds[str(name)], {key: value for key, value in body.items() if key != self._tag})

    def write(self, message: Message) -> dict[str, Json]:
        """Return its object."""
        return {self._tag: self._tags[type(message)], **write(message)}


def declaration(kind: type[Declared], name: str = "") -> Declaration:
    """Return what the annotations of a message declare. Raises: TypeError for one that says too little."""
    stated = vars(kind).get("KIND") or vars(kind).get("NAME") or _spelt(kind)
    return _declaration(kind, name or str(stated))  # type: ignore[arg-type]  # mypy: a type is hashable


@cache
def _declaration(kind: type[Declared], name: str) -> Declaration:
    hints: Mapping[str, object] = get_type_hints(kind, include_extras=True)
    found = [_field(name, each.name, hints[each.name], each.default) for each in fields(kind)]  # type: ignore[arg-type]  # a dataclass
    found += [_field(name, each, hint, constant=True) for each, hint in _constants(hints)]
    keys = (field.flat.keys if field.flat else frozenset((field.key,)) for field in found)
    return Declaration(name=name, fields=tuple(found), keys=frozenset[str]().union(*keys))


def _value(field: Field, body: Mapping[str, Json], declared: Declaration) -> object:
    if field.flat:
        return field.kind.read(field.where, {key: value for key, value in body.items() if key in field.flat.keys})
    if field.key not in body:
        if field.sparse:
            return field.default
        raise ProtocolError(f"{declared.name}: the field {field.key} is missing")
    value = field.kind.read(field.where, body[field.key])
    if field.sparse and value == field.default:
        raise unexpected(field.where, "another value, or no such field, was", body[field.key])
    return value


def _field(message: str, name: str, hint: object, default: object = None, *, constant: bool = False) -> Field:
    marks = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    key = next((mark.name for mark in marks if isinstance(mark, Called)), name)
    optional = get_origin(hint) in (Union, UnionType) and NoneType in get_args(hint)
    kind, flat = _kind(hint), None
    if FLAT in marks and isinstance(kind, Nested):
        kind, flat = Nested(kind.of, message), declaration(kind.of, message)
    return Field(
        name=name,
        key=key,
        where=f"{message}.{key}",
        kind=kind,
        flat=flat,
        sparse=optional or SPARSE in marks,
        constant=constant,
        default=default,
    )


def _constants(hints: Mapping[str, object]) -> list[tuple[str, object]]:
    """Return the class variables of a literal type: what every message of this sort says."""
    inner = {name: get_args(hint)[0] for name, hint in hints.items() if get_origin(hint) is ClassVar}
    bare = {name: get_args(hint)[0] if get_origin(hint) is Annotated else hint for name, hint in inner.items()}
    return [(name, inner[name]) for name, hint in bare.items() if get_origin(hint) is Literal]


def _kind(hint: object, listed: Listed | None = None) -> Kind:
    base, arguments = get_origin(hint), get_args(hint)
    if isinstance(hint, type) and issubclass(hint, Declared):
        return Nested(hint)
    if hint is str:
        return Text()
    if hint is bool:
        return Truth()
    if base is Annotated:
        kinds = [mark for mark in arguments[1:] if isinstance(mark, Kind)]
        bounds = next((mark for mark in arguments[1:] if isinstance(mark, Listed)), None)
        return kinds[0] if kinds else _kind(arguments[0], bounds)
    if base is Literal:
        return Choice(*arguments)
    if base is tuple and arguments[1:] == (...,):
        each, bounds = _kind(arguments[0]), listed or Listed()
        return Items(each, least=bounds.least, most=bounds.most, ascending=bounds.ascending)
    if base is Mapping and arguments[0] is str:
        return Members(_kind(arguments[1]))
    if base in (Union, UnionType):
        (left,) = (argument for argument in arguments if argument is not NoneType)
        return _kind(left)
    raise TypeError(f"{hint} says too little of a field: name a kind, such as Annotated[int, Whole(1, 9)]")


def _spelt(kind: type[Declared]) -> str:
    """Return `share-box` for `ShareBox`."""
    return re.sub(r"(?<!^)(?=[A-Z])", "-", kind.__name__).lower()
