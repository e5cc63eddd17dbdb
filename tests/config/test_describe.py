"""The JSON Schema and the loader say the same of every key, and the examples are checked by the schemas beside them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from fedcollm_secure import cli
from fedcollm_secure.config import parse, read_map, resolved
from fedcollm_secure.config.describe import configuration_schema, study_schema
from fedcollm_secure.config.yaml12 import read_yaml
from fedcollm_secure.errors import ConfigError

Make = Callable[..., dict[str, object]]
EXAMPLES = Path(__file__).parents[2] / "examples"
CONFIGURATION = Draft202012Validator(dict(configuration_schema()))


def test_the_schemas_are_schemas_and_those_that_are_committed() -> None:
    for schema, file in ((configuration_schema(), "schema.json"), (study_schema(), "study.schema.json")):
        Draft202012Validator.check_schema(dict(schema))
        assert json.loads((EXAMPLES / file).read_text(encoding="utf-8")) == schema


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_each_example_names_its_schema_and_fits_it(path: Path) -> None:
    named = path.read_text(encoding="utf-8").splitlines()[0].removeprefix("# yaml-language-server: $schema=")
    schema = json.loads((EXAMPLES / named).read_text(encoding="utf-8"))

    assert list(Draft202012Validator(schema).iter_errors(read_map(path))) == []


def changed(tree: dict[str, object], path: str, value: object) -> dict[str, object]:
    """Return the tree with one key replaced, as JSON has it."""
    copy = json.loads(json.dumps(tree))
    *parents, last = path.split(".")
    part = copy
    for parent in parents:
        part = part.setdefault(parent, {})
    part[last] = value
    return dict(copy)


GOOD: list[tuple[str, object]] = [
    ("rounds", 3),
    ("engine", "local"),
    ("data.silos", {"iid": 4}),
    ("data.silos", {"iid": {"count": 4}}),
    ("data.silos", {"by_label": {"north": "heart", "south": [7]}}),
    ("data.silos", {"by_label": {"groups": {"north": ["heart"]}}}),
    ("data.silos", {"files": {"a": "a.csv", "b": {"path": "b.csv", "delimiter": ";"}}}),
    ("data.source", {"path": "a.csv", "encoding": "latin-1"}),
    ("data.source", {"package": "icd10cm"}),
    ("data.test", {"own": {}}),
    ("data.test", "own"),
    ("data.labels", {"normalise": ["blanks"], "map": {"a": "b"}}),
    ("lora.targets", "all-linear"),
    ("lora.targets", ["q_proj"]),
    ("aggregation", {"masked": {}}),
    ("aggregation", "masked"),
    ("aggregation", {"bfv": {"primes": [60, 60]}}),
    ("privacy", {"record_dp": {"epsilon": 8, "delta": 1e-5, "clip_norm": 1, "sampling_rate": 0.1}}),
    ("gates.max_norm", None),
    ("factors", "ffa"),
    ("splits", {"other": {"silos": {"iid": 3}}}),
]
BAD: list[tuple[str, object]] = [
    ("rounds", "three"),
    ("rounds", True),
    ("rounds", 1.5),
    ("epochs", 3),
    ("silo.batchsize", 3),
    ("engine", "remote"),
    ("data.silos", {"iid": "four"}),
    ("data.silos", {"iid": 4, "files": {"a": "b"}}),
    ("data.silos", {"files": {}}),
    ("data.silos", {}),
    ("data.source", {"path": True}),
    ("data.source", {"package": "icd9"}),
    ("data.labels", {"normalise": ["accents"]}),
    ("lora.targets", []),
    ("lora.targets", {"a": "b"}),
    ("aggregation", "paillier"),
    ("aggregation", {"bfv": {"primes": []}}),
    ("privacy", {"record_dp": {"epsilon": 8}}),
    ("privacy", "record_dp"),
    ("gates.max_norm", "big"),
    ("factors", "lora"),
    ("name", None),
    ("audit.archive", "yes"),
]


@pytest.mark.parametrize(("path", "value"), GOOD)
def test_what_the_loader_takes_the_schema_takes(path: str, value: object, tree: Make) -> None:
    made = changed(tree(aggregation={"masked": {}}), path, value)

    parse(made)
    assert list(CONFIGURATION.iter_errors(made)) == []


@pytest.mark.parametrize(("path", "value"), BAD)
def test_what_the_loader_refuses_the_schema_refuses(path: str, value: object, tree: Make) -> None:
    made = changed(tree(aggregation={"masked": {}}), path, value)

    with pytest.raises(ConfigError):
        parse(made)
    assert list(CONFIGURATION.iter_errors(made)) != []


def test_a_resolved_configuration_fits_the_schema(private: Make) -> None:
    assert list(CONFIGURATION.iter_errors(read_yaml(resolved(parse(private())), "x"))) == []


@pytest.mark.parametrize(("option", "expected"), [([], configuration_schema()), (["--study"], study_schema())])
def test_the_command_prints_it(option: list[str], expected: object, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["schema", *option]) == 0
    assert json.loads(capsys.readouterr().out) == expected
