"""docs/reference/ says what the code says: `python docs/generate.py` writes it anew."""

import ast
import importlib.util
from functools import lru_cache
from pathlib import Path
from types import ModuleType

import pytest

from fedcollm_secure.cli import failure
from fedcollm_secure.config.describe import configuration_schema
from tests.page_text import ROOT

REFERENCE = ROOT / "docs" / "reference"
NAMES = ("configuration.md", "commands.md", "exit-codes-and-errors.md")


@lru_cache
def generator() -> ModuleType:
    """Load docs/generate.py, which is in no package."""
    spec = importlib.util.spec_from_file_location("generate", ROOT / "docs" / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def told_codes() -> set[str]:
    """Return every code of an error in the source: the second of a kind's tuple, or `code=`."""
    tree = ast.parse(Path(failure.__file__).read_text(encoding="utf-8"))
    in_tuples = [node.elts[1] for node in ast.walk(tree) if isinstance(node, ast.Tuple) and len(node.elts) > 2]
    in_calls = [node.value for node in ast.walk(tree) if isinstance(node, ast.keyword) and node.arg == "code"]
    constants = [node for node in (*in_tuples, *in_calls) if isinstance(node, ast.Constant)]
    return {node.value for node in constants if isinstance(node.value, str)}


def test_there_is_a_page_for_each() -> None:
    assert set(generator().pages()) == set(NAMES) == {path.name for path in REFERENCE.glob("*.md")}


@pytest.mark.parametrize("name", NAMES)
def test_a_page_is_what_the_code_prints(name: str) -> None:
    assert (REFERENCE / name).read_text(encoding="utf-8") == generator().pages()[name], "run python docs/generate.py"


def test_every_key_of_the_schema_stands_there() -> None:
    text = generator().pages()["configuration.md"]
    schema = configuration_schema()
    definitions = schema["$defs"]
    assert isinstance(definitions, dict)

    assert [name for name in definitions if f"## {name}\n" not in text] == []
    assert "| `sampling_rate` | number | **must be given** |" in text
    assert "| `seed` | whole number | `0` |" in text


def test_every_code_of_an_error_stands_there() -> None:
    text = (REFERENCE / "exit-codes-and-errors.md").read_text(encoding="utf-8")

    assert len(told_codes()) > 15
    assert {code for code in told_codes() if f"| `{code}` |" not in text} == set()


def test_an_error_that_is_not_told_of_would_be_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(generator(), "ONE_OF_EACH", (ValueError("nobody foresaw it"),))

    with pytest.raises(TypeError, match="ValueError is no error that is told"):
        generator().pages()
