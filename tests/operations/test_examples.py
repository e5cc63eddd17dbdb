"""Whoever installed the wheel gets every example by one command, and nothing of theirs is written over."""

import tomllib
from pathlib import Path

import pytest

from fedcollm_secure import config
from fedcollm_secure.errors import NotStarted
from fedcollm_secure.operations import examples_command
from fedcollm_secure.operations.examples_command import NAMES, examples

ROOT = Path(__file__).parents[2]


def test_every_example_is_written_as_it_is_shipped_and_can_be_read(tmp_path: Path) -> None:
    examples(tmp_path / "new" / "folder")

    shipped = {path.name: path.read_bytes() for path in (ROOT / "examples").glob("*.yaml")}
    assert {path.name: path.read_bytes() for path in (tmp_path / "new" / "folder").iterdir()} == shipped
    assert config.load(tmp_path / "new" / "folder" / "dp_config.yaml").rounds > 0


def test_nothing_is_written_over_and_nothing_is_half_done(tmp_path: Path) -> None:
    (tmp_path / NAMES[-1]).write_text("mine")

    with pytest.raises(NotStarted, match="never written over"):
        examples(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [NAMES[-1]]
    assert (tmp_path / NAMES[-1]).read_text() == "mine"


def test_the_wheel_holds_every_example() -> None:
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]

    assert built["force-include"] == {f"examples/{name}": f"fedcollm_secure/examples/{name}" for name in NAMES}
    assert set(NAMES) == {path.name for path in (ROOT / "examples").glob("*.yaml")}


def test_what_an_installation_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples_command.fedcollm_secure, "__file__", str(tmp_path / "a" / "__init__.py"))

    with pytest.raises(Exception, match="is missing from this installation"):
        examples(tmp_path / "out")
