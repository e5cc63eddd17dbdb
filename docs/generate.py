"""Write the pages of docs/reference/ from what the code says of itself.

    python docs/generate.py

Configuration: the JSON Schema that the loader's classes give. Commands: the parser. Errors: what `cli.failure` tells of
one error of each kind. `tests/pages/test_reference.py` holds the pages equal to what this prints.
"""

import argparse
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import cast

from fedcollm_crypto.errors import CryptoError, ProtocolError, Refused, TooFewSilos
from fedcollm_crypto.lines import InUse
from fedcollm_privacy.errors import BudgetExhausted, LedgerError, PrivacyError
from fedcollm_secure import errors
from fedcollm_secure.cli.failure import Failure, UsageError, failure_of, internal
from fedcollm_secure.cli.parser import make_parser
from fedcollm_secure.config.describe import configuration_schema, study_schema

REFERENCE = Path(__file__).parent / "reference"
Json = Mapping[str, object]
MADE = "Made from the code by `python docs/generate.py`; a test holds both equal. Do not edit it by hand.\n"
WORDS = {"number": "number", "integer": "whole number", "boolean": "true or false", "string": "text", "null": "nothing"}
EXIT_CODES = (
    (0, "done, or verified"),
    (1, "what was checked failed, or the command did"),
    (2, "usage or configuration; nothing was started"),
    (3, "incomplete; what is done is kept, and can be resumed"),
    (4, "refused by a budget or a policy"),
)
ONE_OF_EACH: tuple[Exception, ...] = (
    UsageError("", ""),
    errors.ConfigError("", ""),
    errors.NotStarted(),
    InUse(),
    errors.Interrupted(),
    errors.DiskFailed("", ""),
    errors.RunIncomplete(),
    errors.RefusedByPolicy(),
    BudgetExhausted(quantity="epsilon", needed=0, spent=0, budget=0),
    errors.TrainingError(),
    errors.LogError(""),
    errors.RunError(),
    errors.FedCoLLMError(),
    TooFewSilos("", needed=0, left=0, dropped={}),
    Refused("", ""),
    ProtocolError(),
    CryptoError(),
    LedgerError(""),
    PrivacyError(),
)


def main() -> None:
    """Write all pages."""
    REFERENCE.mkdir(exist_ok=True)
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")


def pages() -> Mapping[str, str]:
    """Return each page's name and text."""
    made = {
        "configuration.md": configuration_page(),
        "commands.md": commands_page(),
        "exit-codes-and-errors.md": errors_page(),
    }
    return {name: "\n".join(lines).rstrip() + "\n" for name, lines in made.items()}


# Configuration


def configuration_page() -> Iterator[str]:
    """Yield the keys of a configuration, section by section in the order in which they are reached, then a study's."""
    schema = configuration_schema()
    definitions = cast(Mapping[str, Json], schema["$defs"])
    yield from ("# Configuration", "", MADE)
    yield "An example with comments: [models and data](../models-and-data.md). Where two keys do not go together,"
    yield from ("`fedcollm-secure check` says so.", "", "## The whole file", "")
    yield from _keys(schema, definitions)
    for name in _reached(schema, definitions):
        yield from _section(name, definitions)
    yield from ("## A study", "", "What `fedcollm-secure study` reads.", "")
    yield from _keys(study_schema(), definitions)


def _section(name: str, definitions: Mapping[str, Json]) -> Iterator[str]:
    whole, *short = _forms(definitions[name])
    yield from (f"## {name}", "", *_description(whole))
    if short:
        yield from (f"In short: {' or '.join(_kind(form, definitions) for form in short)}.", "")
    if whole.get("properties"):
        yield from _keys(whole, definitions)
    else:
        yield from ("It has no keys.", "")


def _keys(schema: Json, definitions: Mapping[str, Json]) -> Iterator[str]:
    required = cast(Sequence[str], schema.get("required", ()))
    yield from ("| key | is | default |", "|---|---|---|")
    for key, value in cast(Mapping[str, Json], schema["properties"]).items():
        said = f"; {value['description']}" if "description" in value and _is_study(schema) else ""
        default = "**must be given**" if key in required else _default(value)
        yield f"| `{key}` | {_kind(value, definitions)}{said} | {default} |"
    yield ""


def _is_study(schema: Json) -> bool:
    return "sweep" in cast(Json, schema["properties"])


def _default(value: Json) -> str:
    if "default" not in value:
        return "none"
    default = value["default"]
    if default == {}:
        return "its first form" if "anyOf" in value else "its own defaults"
    if isinstance(default, Mapping):
        return "its own defaults"
    return "none" if default is None else f"`{json.dumps(default, ensure_ascii=False)}`"


def _kind(value: Json, definitions: Mapping[str, Json]) -> str:
    """Return in words what may stand there."""
    if (name := _name(value, definitions)) is not None:
        return f"[{name}](#{name.lower()})"
    if "anyOf" in value:
        return " or ".join(dict.fromkeys(_kind(one, definitions) for one in cast(Sequence[Json], value["anyOf"])))
    if "enum" in value:
        return ", ".join(f"`{one}`" for one in cast(Sequence[str], value["enum"]))
    if "const" in value:
        return f"`{value['const']}`"
    match value.get("type"):
        case "array":
            return f"a list, each {_kind(cast(Json, value.get('items', {})), definitions)}"
        case "object":
            return _map_kind(value, definitions)
        case ["string", "number"]:
            return "text"
        case str() as kind:
            return WORDS[kind]
        case _:
            return "any value"


def _map_kind(value: Json, definitions: Mapping[str, Json]) -> str:
    inside = cast(Mapping[str, Json], value.get("properties", {}))
    if inside:
        return "; ".join(f"`{key}:` {_kind(one, definitions)}" for key, one in inside.items())
    each = value.get("additionalProperties")
    return f"a map, each {_kind(each, definitions)}" if isinstance(each, Mapping) else "a map of keys and values"


def _name(value: Json, definitions: Mapping[str, Json]) -> str | None:
    """Return the section that describes the value, None where none does."""
    reference = cast(str, value.get("$ref", "")).rpartition("/")[2] or cast(str, value.get("title", ""))
    return reference if reference in definitions and ("$ref" in value or "properties" in value) else None


def _forms(definition: Json) -> Sequence[Json]:
    """Return the whole form of a section, then its short ones."""
    return cast(Sequence[Json], definition.get("anyOf", (definition,)))


def _description(schema: Json) -> Iterator[str]:
    if "description" in schema:
        yield from (cast(str, schema["description"]).strip(), "")


def _reached(schema: Json, definitions: Mapping[str, Json]) -> Sequence[str]:
    """Return the names of sections in the order in which a reader meets them."""
    found: dict[str, None] = {}

    def visit(value: object) -> None:
        if isinstance(value, Mapping):
            at = cast(Json, value)
            name = _name(at, definitions)
            if name is not None and name not in found:
                found[name] = None
                visit([form.get("properties", form) for form in _forms(definitions[name])])
            elif name is None:
                visit([inner for key, inner in at.items() if key != "default"])
        elif isinstance(value, list):
            for inner in cast(list[object], value):
                visit(inner)

    visit(schema["properties"])
    return tuple(found)


# Commands


def commands_page() -> Iterator[str]:
    """Yield every command with its arguments; what `--help` says, without its layout."""
    parser = make_parser()
    yield from ("# Commands", "", MADE, "What each is for, by task: [the commands](../commands.md).", "")
    yield from ("```", "fedcollm-secure --version", "fedcollm-secure run --help", "```", "")
    for name, command in subparsers(parser).items():
        yield from _command(name, command)


def subparsers(parser: argparse.ArgumentParser) -> Mapping[str, argparse.ArgumentParser]:
    """Return the parser of each command; argparse has no public way to ask."""
    action = next(one for one in parser._actions if isinstance(one, argparse._SubParsersAction))
    return cast(Mapping[str, argparse.ArgumentParser], action.choices)


def _command(name: str, command: argparse.ArgumentParser) -> Iterator[str]:
    yield from (f"## {name}", "")
    said, _, forms = (command.description or "").partition("\n\n")
    yield from (said, "")
    if forms:
        yield from ("```text", forms, "```", "")
    yield from ("| argument | means |", "|---|---|")
    for action in command._actions:
        if not isinstance(action, argparse._HelpAction):
            yield f"| {_argument(action)} | {_cell(_meaning(action))} |"
    lines = [line.strip() for line in (command.epilog or "").removeprefix("Example: ").split("\n")]
    yield from ("", *(("```", *lines, "```") if len(lines) > 1 else (f"Example: `{lines[0]}`",)), "")


def _argument(action: argparse.Action) -> str:
    takes_none = action.nargs == 0
    value = action.metavar or action.dest.upper()
    if not action.option_strings:
        return f"`{value}`"
    return f"`{action.option_strings[-1]}{'' if takes_none else f' {value}'}`"


def _meaning(action: argparse.Action) -> str:
    choices = f"; one of {', '.join(map(str, action.choices))}" if action.choices else ""
    must = "; must be given" if action.option_strings and action.required else ""
    return f"{action.help or ''}{choices}{must}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


# Errors


def errors_page() -> Iterator[str]:
    """Yield the exit codes, then each error's code, exit code, reason and remedy."""
    yield from ("# Exit codes and errors", "", MADE, "| exit code | means |", "|---|---|")
    yield from (f"| {code} | {meaning} |" for code, meaning in EXIT_CODES)
    yield from ("", "Under `--json` a command that fails prints", "", "```json")
    yield '{"error": {"code": "configuration", "key": "rounds", "message": "…", "remedy": "…"}}'
    yield from ("```", "", "`code` stays from version to version. `key` is the key, option or file at fault, or empty.")
    yield from ("What to do about single sentences: [troubleshooting](../troubleshooting.md).", "")
    yield from ("| code | exit | when | what to do |", "|---|---|---|---|")
    yield from (_row(failed, when) for failed, when in failures())
    yield ""


def failures() -> Iterator[tuple[Failure, str]]:
    """Yield what is told of one error of each kind, and when it happens."""
    for error in ONE_OF_EACH:
        failed = failure_of(error)
        if failed is None:
            raise TypeError(f"{type(error).__name__} is no error that is told")
        plain = type(error) in (errors.FedCoLLMError, CryptoError, PrivacyError)
        yield failed, "Any other that was foreseen." if plain else (type(error).__doc__ or "").partition("\n")[0]
    yield internal(ValueError()), "A fault of the program itself."


def _row(failed: Failure, when: str) -> str:
    return f"| `{failed.code}` | {failed.exit_code} | {_cell(when)} | {_cell(failed.remedy)} |"


if __name__ == "__main__":
    main()
