"""Whoever installed the wheel gets every example by one command, and nothing of theirs is written over."""

import runpy
import tomllib
from pathlib import Path

import pytest

from fedcollm_secure import config
from fedcollm_secure.assemble import prepare
from fedcollm_secure.errors import NotStarted
from fedcollm_secure.operations import examples_command
from fedcollm_secure.operations.examples_command import FOLDERS, NAMES, examples

ROOT = Path(__file__).parents[2]


def test_every_example_is_written_as_it_is_shipped_and_can_be_read(tmp_path: Path) -> None:
    examples(tmp_path / "new" / "folder")

    place = ROOT / "examples"
    kept = [*place.glob("*.yaml"), *(path for name in FOLDERS for path in (place / name).rglob("*") if path.is_file())]
    written = [path for path in (tmp_path / "new" / "folder").rglob("*") if path.is_file()]
    shipped = {path.relative_to(place): path.read_bytes() for path in kept}
    assert {path.relative_to(tmp_path / "new" / "folder"): path.read_bytes() for path in written} == shipped
    assert config.load(tmp_path / "new" / "folder" / "dp_config.yaml").rounds > 0


def test_nothing_is_written_over_and_nothing_is_half_done(tmp_path: Path) -> None:
    (tmp_path / NAMES[-1]).write_text("mine")

    with pytest.raises(NotStarted, match="never written over"):
        examples(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [NAMES[-1]]
    assert (tmp_path / NAMES[-1]).read_text() == "mine"


def test_the_wheel_holds_every_example() -> None:
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]

    assert built["force-include"] == {
        f"examples/{name}": f"fedcollm_secure/examples/{name}" for name in (*NAMES, *FOLDERS)
    }
    assert set(NAMES) == {path.name for path in (ROOT / "examples").glob("*.yaml")}


def test_what_an_installation_lacks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(examples_command.fedcollm_secure, "__file__", str(tmp_path / "a" / "__init__.py"))

    with pytest.raises(Exception, match="is missing from this installation"):
        examples(tmp_path / "out")


@pytest.mark.parametrize("name", ["bank_intents", "hospital_notes"])
def test_synthetic_data_say_so_and_are_what_their_script_writes(name: str, tmp_path: Path) -> None:
    page = (ROOT / "examples" / f"{name}.yaml").read_text(encoding="utf-8")
    module = runpy.run_path(str(ROOT / "examples" / "make_synthetic.py"))
    module["main"].__globals__["FOLDER"] = tmp_path
    module["main"]()

    assert "SYNTHETIC" in page
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in (ROOT / "examples" / "synthetic").iterdir()
    }


def test_the_banks_have_77_intents_and_every_example_can_be_prepared() -> None:
    bank, hospital = (
        prepare(config.load(ROOT / "examples" / f"{name}.yaml")) for name in ("bank_intents", "hospital_notes")
    )

    assert len(bank.holdings.test[0].answers) == 77
    assert bank.silos == ("east", "north", "south", "west")
    assert hospital.plan is not None
    assert hospital.plan.unit == "subject"
