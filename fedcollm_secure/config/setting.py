"""How the settings' classes are read from a tree and described as JSON Schema: pydantic, strict, with our short forms.

| in YAML                          | is short for                                                      |
|----------------------------------|-------------------------------------------------------------------|
| `iid: 4`                         | `iid: {count: 4}`: a class with one field, or one that is required |
| `engine: local`                  | `engine: {local: {}}`: an alternative without required fields      |
| `targets: q_proj`                | `targets: [q_proj]`                                               |
| `groups: {north: [007]}`         | `groups: {north: ["007"]}`: a number where a name is meant        |
| `{path: a.csv, delimiter: ";"}`  | an alternative that is written flat: its tag is its first field    |
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, ClassVar, TypeVar, cast, get_args

from pydantic import BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import PydanticCustomError, core_schema

from fedcollm_secure.config.yaml12 import WrittenFloat, WrittenInt, written

T = TypeVar("T")
Tree = Mapping[str, object]


class Setting:
    """A frozen dataclass that a user writes as a map. `tag` is its name among alternatives."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(strict=True, extra="forbid")
    tag: ClassVar[str] = ""
    flat: ClassVar[bool] = False

    @classmethod
    def __get_pydantic_core_schema__(cls, source: type, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Let a map stand for an instance, and the short form for the map."""
        schema = cast(core_schema.DataclassSchema, handler(source))
        schema["strict"] = False  # of a dataclass, strict means instances alone
        name = schema.pop("ref")  # pydantic reads the class by it wherever it stands: let that be with the short form
        return core_schema.no_info_before_validator_function(lambda value: _expanded(cls, value), schema, ref=name)

    @classmethod
    def __get_pydantic_json_schema__(
        cls, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describe the map, and its short form."""
        full = handler(schema)
        key = short_key(cls)
        if key is None:
            return full
        return {"anyOf": [full, handler.resolve_ref_schema(full)["properties"][key]]}


def keys_of(kind: type) -> dict[str, "dataclasses.Field[object]"]:
    """Return the fields of a setting by what they are called in YAML."""
    return {cast(str, field.metadata.get("key", field.name)): field for field in dataclasses.fields(kind)}


def short_key(kind: type) -> str | None:
    """Return the key whose value may stand for the whole map: the only one, or the only one that is required."""
    fields = keys_of(kind)
    required = [key for key, field in fields.items() if _is_required(field)]
    return next(iter(fields)) if len(fields) == 1 else required[0] if len(required) == 1 else None


def _is_required(field: "dataclasses.Field[object]") -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _expanded(kind: type, value: object) -> object:
    key = short_key(kind)
    if isinstance(value, kind) or value is None:
        return {} if value is None and not dataclasses.fields(kind) else value
    if key is None or (isinstance(value, Mapping) and (len(keys_of(kind)) > 1 or set(cast(Tree, value)) <= {key})):
        return value
    return {key: value}


class OneOf:
    """Marks a union whose members are written as a map with one key, their tag: `{masked: {...}}`."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Choose the member by the key, which becomes part of an error's path."""
        members = {member.tag: member for member in cast(Sequence[type[Setting]], get_args(source) or (source,))}
        choices: dict[str, core_schema.CoreSchema] = {
            tag: core_schema.no_info_before_validator_function(_content, handler.generate_schema(member))
            for tag, member in members.items()
        }
        chosen = core_schema.tagged_union_schema(choices, discriminator=lambda value: next(iter(cast(Tree, value))))
        return core_schema.no_info_before_validator_function(lambda value: _tagged(members, value), chosen)

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describe one map for each member, and the bare tag where nothing more is needed."""
        found: list[JsonSchemaValue] = []
        bare: list[str] = []
        chosen = cast(core_schema.TaggedUnionSchema, cast(core_schema.BeforeValidatorFunctionSchema, schema)["schema"])
        for tag, choice in cast(Mapping[str, core_schema.CoreSchema], chosen["choices"]).items():
            member = handler(choice)
            shape = handler.resolve_ref_schema(member)
            full = handler.resolve_ref_schema(shape["anyOf"][0]) if "anyOf" in shape else shape
            if next(iter(full.get("properties", ())), None) == tag and "anyOf" in shape:
                found.append(shape["anyOf"][0])
                continue
            found.append(
                {"type": "object", "properties": {tag: member}, "required": [tag], "additionalProperties": False}
            )
            if not full.get("required"):
                bare.append(tag)
        return {"anyOf": [*found, {"enum": bare}] if bare else found}


ONE_OF = OneOf()


def _tagged(members: Mapping[str, type[Setting]], value: object) -> object:
    """Return `{tag: content}`."""
    if isinstance(value, str) and value in members:
        return {value: {}}
    if isinstance(value, Mapping):
        tree = cast(Tree, value)
        if flat := [tag for tag, member in members.items() if member.flat and tag in tree and not _is_map(tree[tag])]:
            return {flat[0]: tree}
        if len(tree) == 1:
            (tag,) = tree
            if tag in members:
                return tree
            raise PydanticCustomError(
                "alternative",
                "unknown alternative; expected one of {tags}",
                {"key": str(tag), "tags": ", ".join(members)},
            )
    if isinstance(value, Setting) and value.tag in members:
        return {value.tag: value}
    raise PydanticCustomError("one_of", "expected a map with exactly one of {tags}", {"tags": ", ".join(members)})


def _is_map(value: object) -> bool:
    return isinstance(value, Mapping)


def _content(value: object) -> object:
    ((_, content),) = cast(Tree, value).items()
    return {} if content is None else content


def _as_text(value: object) -> object:
    if isinstance(value, WrittenInt | WrittenFloat):
        return written(value)
    return str(value) if isinstance(value, int | float) and not isinstance(value, bool) else value


def _as_tuple(value: object) -> object:
    if isinstance(value, list):
        return tuple(cast(list[object], value))
    return value if isinstance(value, tuple) or value is None or _is_map(value) else (value,)


Text = Annotated[str, BeforeValidator(_as_text), WithJsonSchema({"type": ["string", "number"]})]
"""A text; a number is taken as it is written."""


class _BareToo:
    """Marks a list that a bare value may stand for."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Make a list or a bare value a tuple."""
        return core_schema.no_info_before_validator_function(_as_tuple, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describe the list, and the bare value."""
        several = handler(schema)
        return {"anyOf": [several, several["items"]]}


Several = Annotated[tuple[T, ...], Field(min_length=1), _BareToo()]
"""A list with at least one entry; a bare value is a list of one."""

Named = Annotated[Mapping[Text, T], Field(min_length=1)]
"""A map from names, with at least one entry."""


class _TextOrSeveral:
    """Chooses by shape, so that an error speaks of what was meant."""

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> core_schema.CoreSchema:
        """Read a list as names and all else as a text; the dots keep the choice out of an error's path."""
        choices = {"·text": handler.generate_schema(Text), "·names": handler.generate_schema(Several[Text])}
        return core_schema.tagged_union_schema(
            choices, discriminator=lambda value: "·names" if isinstance(value, list | tuple) else "·text"
        )

    def __get_pydantic_json_schema__(
        self, schema: core_schema.CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """Describe the list, and the text; oneOf, which pydantic would say, holds for either alone."""
        choices = cast(core_schema.TaggedUnionSchema, schema)["choices"]
        return {"anyOf": [handler(each) for each in cast(Mapping[str, core_schema.CoreSchema], choices).values()]}


TextOrSeveral = Annotated[str | tuple[str, ...], _TextOrSeveral()]
"""A text, or a list of names."""
