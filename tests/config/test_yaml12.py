"""YAML 1.2's core schema, by its own tables: what is a number, what is a text, and what stands there twice."""

import math

import pytest

from fedcollm_secure.config.yaml12 import read_yaml, write_yaml
from fedcollm_secure.errors import ConfigError

BREAKS = ("a\u2028b", "a\x85 b: c", "\u2029", "a\nb\u2028c")

SCALARS: list[tuple[str, object]] = [
    ("010", 10),
    ("0o10", 8),
    ("0x1F", 31),
    ("-12", -12),
    ("+12", 12),
    ("1e-5", 1e-5),
    ("1.", 1.0),
    (".5", 0.5),
    ("-.INF", -math.inf),
    ("true", True),
    ("FALSE", False),
    ("~", None),
    ("Null", None),
    ("", None),
    ("no", "no"),
    ("on", "on"),
    ("1_000", "1_000"),
    ("0b11", "0b11"),
    ("12:30:00", "12:30:00"),
    ("2024-01-31", "2024-01-31"),
    ("=", "="),
    ("<<", "<<"),
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_scalars_are_those_of_the_core_schema(text: str, value: object) -> None:
    found = read_yaml(f"a: {text}", "x")

    assert found == {"a": value}
    assert isinstance(found, dict)
    assert isinstance(found["a"], type(value))


@pytest.mark.parametrize(
    "value", ["010", "1e5", "0o7", "true", "null", "", "~", "no", "1_000", "a: b", 1e-05, 7, None, True, *BREAKS]
)
def test_what_is_written_reads_back_as_the_same(value: object) -> None:
    assert read_yaml(write_yaml({"a": [value]}), "x") == {"a": [value]}


@pytest.mark.parametrize("value", BREAKS)
def test_what_some_take_for_the_end_of_a_line_is_spelt_out(value: str) -> None:
    text = write_yaml({"a": [value], value: 1})

    assert text.splitlines() == text.split("\n")[:-1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a: 1\nb: 2\na: 3", "line 3: a key stands twice, the first in line 1"),
        ("a: {b: 1, b: 2}", "line 1: a key stands twice"),
        ("? [a]\n: 1", "line 1: a key is a list or a map"),
        ("a: b: c", "not YAML, line 1, column 5"),
        ("a: *secret", "not YAML, line 1, column 4"),
        ("a: !secret b", "not YAML, line 1, column 4"),
        ("a: 'secret", "not YAML, line 1, column 11"),
        ("[" * 5000, "not YAML"),
    ],
)
def test_a_fault_is_told_by_its_line_and_not_shown(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=f"x: {message}") as caught:
        read_yaml(text, "x")
    assert "secret" not in str(caught.value)
