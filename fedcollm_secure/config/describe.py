"""JSON Schema of what a user writes, for editors that complete and check YAML by it.

It is made from the classes that the loader reads into, and says no more than they do: what only shows between two
keys, or in the data, `check` says.
"""

from collections.abc import Mapping

from fedcollm_secure.config.load import reader

Json = Mapping[str, object]
_DIALECT = "https://json-schema.org/draft/2020-12/schema"


def configuration_schema() -> Json:
    """Return the schema of a configuration."""
    return {"$schema": _DIALECT, **reader().json_schema(), "title": "A configuration of fedcollm-secure"}


def study_schema() -> Json:
    """Return the schema of a study, whose keys and values are a configuration's."""
    keys: Json = {"type": "object", "propertyNames": {"pattern": r"^[a-z_]+(\.[A-Za-z0-9_-]+)*$"}}
    return {
        "$schema": _DIALECT,
        "title": "A study of fedcollm-secure",
        "type": "object",
        "properties": {
            "name": {"type": "string", "description": "a folder's name; the file's by default"},
            "config": {"type": "string", "description": "the configuration, from this file's folder"},
            "seeds": {"type": "integer", "minimum": 1, "default": 3},
            "set": {**keys, "description": "for every point, as --set does"},
            "sweep": {
                **keys,
                "description": "key → its values",
                "additionalProperties": {"type": "array", "minItems": 1},
            },
            "control": {**keys, "description": "what each point is compared with, seed by seed"},
        },
        "required": ["config", "sweep"],
        "additionalProperties": False,
    }
