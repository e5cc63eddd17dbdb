"""What `check` says of the records that were read: in numbers, and in words."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedcollm_secure.cli import main
from fedcollm_secure.config import parse
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.operations.check_command import check
from fedcollm_secure.operations.check_summary import check_words

Make = Callable[..., dict[str, Any]]
HEADER = "text;topic\n"


@pytest.fixture
def made(private: Make, tmp_path: Path) -> Make:
    """Return a function that makes a configuration with three silos' files; the first has every fault that is borne."""

    def make(**changes: object) -> dict[str, Any]:
        words = ("rash", "itch", "mole", "burn", "scar")
        lines = {name: [f"{name} {words[n % 5]} {words[n // 5]};skin\n" for n in range(25)] for name in ("a", "b", "c")}
        lines["a"] += [lines["a"][0], lines["b"][0], "odd;feet\n", ";skin\n", "pulse " * 80 + ";heart\n"]
        for name, rows in lines.items():
            (tmp_path / f"{name}.csv").write_text(HEADER + "".join(rows))
        files = {name: str(tmp_path / f"{name}.csv") for name in lines}
        tree = private(aggregation={"masked": {}})
        tree["data"] |= {"silos": {"files": files}, "missing": "skip", "overlap": "refuse", **changes}
        return tree

    return make


def test_check_tells_what_was_read(made: Make) -> None:
    found = check(parse(made()))
    data = found["data"]
    assert isinstance(data, Mapping)
    silo = data["silos"]["a"]

    assert {key: silo[key] for key in ("records", "labels", "cut", "duplicates", "unknown_labels", "in_test")} == {
        "records": 28,
        "labels": 2,
        "cut": 1,
        "duplicates": 1,
        "unknown_labels": 1,
        "in_test": 0,
    }
    assert silo["tokens"]["longest"] == 83  # note, a colon, 80 words and the answer
    assert (data["silos"]["b"]["records"], data["in_several_silos"], data["left_out"]) == (25, 1, {"data.silos.a": 1})
    assert (data["auxiliary"]["records"], data["test"]["records"]) == (15, 15)
    assert (data["unused"], data["source"], data["most_tokens"]) == (90, 90, 65)
    assert set(data["read"].values()) == {"fields parted by semicolons"}


def test_check_says_it_to_a_person(made: Make) -> None:
    words = check_words(check(parse(made())))

    for part in (
        "a.csv: fields parted by semicolons",
        "a: 28 records, 2 labels; tokens: median ",
        ", 1 prompts lose their beginning; 1 double, 1 left out",
        "unused: 90 of 90 records of data.source (100 %) are nobody's",
        "doubles: 1 records lie in several silos",
        "warning: a: 1 records are left out, their label is not in the public data (row 28 (line 29))",
        "warning: data.silos.a: 1 records are left out for an empty cell",
    ):
        assert part in words


def test_a_silo_of_one_record_is_told_to_be_pointless_under_dp(made: Make, tmp_path: Path) -> None:
    tree = made()
    (tmp_path / "c.csv").write_text(HEADER + "mole;skin\n")
    said = [text for text in check(parse(tree))["data"]["warnings"] if text.startswith("c: ")]  # type: ignore[index]

    assert len(said) == 1
    assert "of 1 record a step draws 0.2 on average" in said[0]
    assert check(parse({**tree, "privacy": {"non_private": {}}}))["data"]["warnings"][2:] == []  # type: ignore[index]


def test_max_tokens_cuts_prompts_and_is_at_most_what_models_take(made: Make) -> None:
    found = check(parse(made(max_tokens=4)))["data"]

    assert found["most_tokens"] == 5  # type: ignore[index]
    assert found["silos"]["b"]["cut"] == 25  # type: ignore[index]
    with pytest.raises(
        ConfigError, match=r"data\.max_tokens: expected at most 64, which is what both models take, got 65"
    ):
        check(parse(made(max_tokens=65)))


def test_test_records_in_a_silo_are_refused_by_check_and_run_alike(
    made: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    tree = made()
    (tmp_path / "test.csv").write_text(HEADER + "a rash rash;skin\nvalve;heart\n")
    tree["data"]["test"] = {"path": str(tmp_path / "test.csv")}
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tree))

    assert main(["check", str(path)]) == main(["run", str(path), "--out", str(tmp_path / "run")]) == 2
    assert "test records lie in silos too (a 1), the first: " in capsys.readouterr().err
    assert main(["check", str(path), "--set", "data.overlap=allow", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["silos"]["a"]["in_test"] == 1


@pytest.mark.parametrize("part", ["test", "a", "auxiliary"])
def test_an_answer_that_no_model_can_read_is_refused_by_check_with_its_row(
    made: Make, tmp_path: Path, part: str
) -> None:
    tree = made(task={"text": {"prompt": "{text}", "answer": "{topic}"}})
    path = tmp_path / f"{part}.csv"
    path.write_text(HEADER + "rash;skin\n" + "rash;" + "skin " * 99 + "\n")
    if part != "a":
        tree["data"][part] = {"path": str(path)}

    with pytest.raises(
        ConfigError, match=rf"{part}\.csv row 2 \(line 3\): expected an answer of 1 to 64 tokens, got one of 1"
    ):
        check(parse(tree))


def test_run_tells_what_it_left_out_and_no_log_does(
    made: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(made()))

    assert main(["run", str(path), "--out", str(tmp_path / "run"), "--set", "rounds=1"]) == 0
    assert "fedcollm-secure: warning: a: 1 records are left out" in capsys.readouterr().err
    for file in ("summary.json", "metrics.jsonl", "report.html", "audit/log.jsonl"):
        assert "left out" not in (tmp_path / "run" / file).read_text()
