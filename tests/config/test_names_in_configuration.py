"""A silo, a decryptor, a run, a study and a split are named so that nothing is written outside of its folder."""

from collections.abc import Callable
from pathlib import Path

import pytest

from fedcollm_secure import cli
from fedcollm_secure.config import parse
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.federation.run_directory import RunDirectory
from fedcollm_secure.federation.transcript import file_name
from fedcollm_secure.research.study.sweep import Sweep

Make = Callable[..., dict[str, object]]
BAD = ("..", "../../x", "a/b", "-o", "nul", "a\nb", "Ko\u0308ln")


def with_silos(tree: Make, silos: dict[str, object]) -> dict[str, object]:
    base = tree()
    data = base["data"]
    assert isinstance(data, dict)
    return {**base, "data": {**data, "silos": silos}}


@pytest.mark.parametrize("name", BAD)
def test_a_silo_whose_name_is_a_path_is_refused_wherever_it_is_named(name: str, tree: Make) -> None:
    for silos in (
        {"files": {name: "a.csv", "b": "b.csv"}},
        {"by_label": {"groups": {name: ["heart"], "b": ["skin"]}}},
        {"by_column": {"column": "site", "groups": {name: ["s0"], "b": ["s1"]}}},
    ):
        with pytest.raises(ConfigError, match="the name"):
            parse(with_silos(tree, silos))


def test_silos_with_blanks_and_umlauts_are_welcome_and_differ_in_more_than_case(tree: Make) -> None:
    parse(with_silos(tree, {"by_label": {"groups": {"Köln Süd": ["heart"], "ward 7": ["skin", "eye"]}}}))
    with pytest.raises(ConfigError, match="case of their letters"):
        parse(with_silos(tree, {"by_label": {"groups": {"Ward": ["heart"], "ward": ["skin"]}}}))


@pytest.mark.parametrize("name", BAD)
def test_a_decryptor_a_run_a_study_and_a_split_are_named_alike(name: str, tree: Make, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"decryptor: the name"):
        parse(tree(aggregation={"bfv": {"decryptor": name}}))
    if name != "nul":  # a run's name never stands alone in a path
        with pytest.raises(ConfigError, match="name: expected"):
            parse(tree(name=name))
    with pytest.raises(ConfigError, match="the name"):
        parse(tree(splits={name: {"silos": {"iid": 2}}}))
    study = tmp_path / "study.yaml"
    study.write_text(f'name: {ascii(name)[1:-1]!r}\nconfig: a.yaml\nsweep: {{"rounds": [1]}}\n'.replace("'", '"'))
    with pytest.raises(ConfigError, match="the name"):
        Sweep.load(study)


@pytest.mark.parametrize("name", BAD)
def test_no_path_is_made_of_a_name_that_came_from_elsewhere(name: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="the name"):
        RunDirectory(tmp_path).silo(name)
    with pytest.raises(ValueError, match="the name"):
        file_name(name)


def test_check_refuses_and_run_writes_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = tmp_path / "config.yaml"
    file.write_text(
        "name: t\nmodels: {llm: {from: embedded:slm}, slm: {from: embedded:slm}}\nlora: {rank: 2, alpha: 4, targets: "
        "all-linear}\ndata: {source: {path: p.csv}, task: {classification: {prompt: '{term}', label: label}}, "
        "silos: {files: {'../../x': a.csv, b: b.csv, c: c.csv}}}\nrounds: 1\nsilo: {steps: 1, batch_size: 1, "
        "learning_rate: 0.001}\ndistill: {steps: 1, batch_size: 1}\naggregation: {masked: {}}\n"
        "privacy: {non_private: {}}\n"
    )

    assert cli.main(["check", str(file)]) == 2
    assert cli.main(["run", str(file), "--out", str(tmp_path / "out" / "run")]) == 2
    assert "parts a path" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["config.yaml"]
