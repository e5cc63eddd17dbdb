"""Short forms, names, and faults with their paths: what pydantic reads, in our words."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from fedcollm_secure.config import load, parse, resolved
from fedcollm_secure.config.data import ByColumn, Files, Iid, MultipleChoice
from fedcollm_secure.config.protection import LocalEngine
from fedcollm_secure.config.source import FileSource
from fedcollm_secure.config.yaml12 import read_yaml
from fedcollm_secure.errors import ConfigError

Make = Callable[..., dict[str, object]]
PAGE = Path(__file__).parents[2] / "docs" / "models-and-data.md"


def with_data(make: Make, text: str) -> dict[str, object]:
    """Return a tree whose data are changed by YAML."""
    tree, changes = make(), read_yaml(text, "x")
    return {**tree, "data": {**tree["data"], **changes}}  # type: ignore[dict-item]


def test_a_number_where_a_name_is_meant_is_taken_as_it_is_written(tree: Make) -> None:
    groups = "silos: {by_column: {column: hosp, groups: {007: [007], 0x10: 010, north: [1.10, 1e3]}}}"
    silos = parse(with_data(tree, groups)).data.silos

    assert silos == ByColumn(column="hosp", groups={"007": ("007",), "0x10": ("010",), "north": ("1.10", "1e3")})


def test_names_that_are_numbers_survive_being_written_out(tree: Make) -> None:
    config = parse(with_data(tree, "silos: {by_column: {column: hosp, groups: {n: [010, '1e5', 'true', 0o7]}}}"))

    assert parse(read_yaml(resolved(config), "x")) == config  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["true", "null", "[a]", "{a: b}"])
def test_what_is_no_name_is_refused_where_one_is_meant(tree: Make, value: str) -> None:
    with pytest.raises(ConfigError, match=r"data\.silos\.by_column\.groups\.n\[0\]: expected a text, got"):
        parse(with_data(tree, f"silos: {{by_column: {{column: hosp, groups: {{n: [{value}]}}}}}}"))


def test_a_bare_text_where_a_list_is_meant_is_one_name(tree: Make) -> None:
    silos = parse(with_data(tree, "silos: {by_label: {north: cardiology, south: [skin]}}")).data.silos

    assert silos.groups == {"north": ("cardiology",), "south": ("skin",)}  # type: ignore[union-attr]
    assert parse(with_data(tree, "labels: {normalise: case}")).data.labels.normalise == ("case",)


def test_files_have_a_short_and_a_long_form(tree: Make) -> None:
    silos = "silos: {files: {a: a.csv, b: {path: b.csv, delimiter: ';', encoding: cp1252}}}"
    long = FileSource(path="b.csv", delimiter=";", encoding="cp1252")
    data = parse(with_data(tree, f"{silos}\nsource: {{path: p.csv, encoding: latin-1}}")).data

    assert data.silos == Files(paths={"a": FileSource(path="a.csv"), "b": long})
    assert data.source == FileSource(path="p.csv", encoding="latin-1")


def test_short_forms_are_what_they_stand_for(tree: Make) -> None:
    assert parse(with_data(tree, "silos: {iid: 4}")) == parse(with_data(tree, "silos: {iid: {count: 4}}"))
    assert isinstance(parse(with_data(tree, "silos: {iid: 4}")).data.silos, Iid)
    assert (
        parse({**tree(), "engine": "local"}).engine
        == parse({**tree(), "engine": {"local": None}}).engine
        == LocalEngine()
    )


def test_choices_are_a_column_or_several(tree: Make) -> None:
    task = "task: {{multiple_choice: {{prompt: '{{q}}', choices: {}, answer: a}}}}"

    for text, expected in (("c", "c"), ("[x, y]", ("x", "y"))):
        found = parse(with_data(tree, task.format(text))).data.task
        assert isinstance(found, MultipleChoice)
        assert found.choices == expected


FAULTS = [
    ({"epocs": 3}, "epocs: unknown key"),
    ({"silo": {"steps": 1, "batchsize": 8}}, r"silo\.batchsize: unknown key; .*did you mean batch_size\?"),
    ({"silo": {"steps": 1.5}}, r"silo\.steps: expected a whole number, got the number 1\.5"),
    (
        {"silo": {"steps": 1, "optimizer": "adam"}},
        r"expected one of adamw, sgd, got the text 'adam'; did you mean adamw\?",
    ),
    ({"seed": "7"}, "seed: expected a whole number, got the text '7'"),
    ({"audit": {"archive": "yes"}}, "archive: expected true or false, got the text 'yes'"),
    ({"audit": {"archive": 1}}, "archive: expected true or false, got the number 1"),
    ({"gates": {"max_norm": True}}, "max_norm: expected a number, got the truth value true"),
    ({"lora": {"targets": []}}, r"lora\.targets: expected .* with at least one entry"),
    ({"lora": {"alpha": 0}}, "alpha: expected 1 or more, got 0"),
    ({"lora": {"alpha": -1}}, "alpha: expected 1 or more"),
    ({"silo": {"steps": 1, "learning_rate": 0}}, "learning_rate: expected a positive number, got 0"),
    (
        {"aggregation": "mask"},
        "aggregation: expected a map with exactly one of masked, bfv, ckks, unsafe_plain, got the text",
    ),
    ({"aggregation": {"maskd": {}}}, r"aggregation\.maskd: unknown alternative; .*did you mean masked\?"),
    ({"privacy": None}, "privacy: expected a map with exactly one of .* got nothing"),
    ({"models": {"llm": {"dtype": "float32"}}}, r"models\.llm\.from: missing; expected a text"),
    ({"models": {"llm": "a", "slm": "b", "x": 1}}, r"models\.x: unknown key; expected one of llm, slm"),
    ({"splits": {}}, "splits: expected a map from names with at least one entry"),
]


@pytest.mark.parametrize(("change", "message"), FAULTS)
def test_faults_are_told_with_their_path_and_what_was_meant(
    tree: Make, change: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse({**tree(), **change})


def test_all_faults_are_told_at_once(tree: Make) -> None:
    with pytest.raises(ConfigError, match=r"(?s)^silo\.stepps: unknown key.*\n  rounds: .*\n  seed: ") as caught:
        parse({**tree(), "silo": {"stepps": 1}, "rounds": "x", "seed": None})
    assert caught.value.where == "silo.stepps"


@pytest.mark.parametrize("key", ["silo.learning_rate", "silo.gradient_norm", "distill.weight", "distill.temperature",
                                 "lora.dropout", "evaluate.own", "gates.max_norm"])  # fmt: skip
def test_no_number_may_be_none(tmp_path: Path, tree: Make, key: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tree()))

    with pytest.raises(ConfigError, match="got nan"):
        load(path, [f"{key}=.nan"])


def test_a_configuration_with_a_byte_order_mark_is_read(tmp_path: Path, tree: Make) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tree()), encoding="utf-8-sig")

    assert load(path).name == "tiny"


def test_the_example_of_the_page_on_data_is_a_configuration() -> None:
    text = PAGE.read_text(encoding="utf-8").split("```yaml\n")[1].split("```")[0]
    config = parse(read_yaml(text, PAGE.name))  # type: ignore[arg-type]

    assert isinstance(config.data.silos, Files)
