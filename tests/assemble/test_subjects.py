"""Persons as the unit of privacy, from the configuration to the training: who is one, and in how many silos."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from fedcollm_secure.assemble import prepare
from fedcollm_secure.config import parse, resolved
from fedcollm_secure.config.protection import PerRecord, PerSubject, RecordDP
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.federation.guarantees import guarantees, person_guarantee
from fedcollm_secure.operations.check_command import check
from fedcollm_secure.operations.check_summary import check_words

Make = Callable[..., dict[str, object]]
DP = {"epsilon": 4.0, "delta": 1e-5, "clip_norm": 1.0, "sampling_rate": 0.3}
GROUPS = {f"n{i}": [f"s{i}"] for i in range(4)}


@pytest.fixture
def by_person(tree: Make, tmp_path: Path) -> Make:
    """Return a function that makes a configuration whose records name persons; `person(record, number)` says whom."""

    def make(person: Callable[[Mapping[str, object], int], object], **privacy: object) -> dict[str, object]:
        base = tree()
        data = cast(dict[str, object], base["data"])
        lines = Path(cast(dict[str, str], data["source"])["path"]).read_text().splitlines()
        rows = [cast(dict[str, object], json.loads(line)) for line in lines]
        path = tmp_path / "people.jsonl"
        path.write_text("".join(json.dumps({**row, "person": person(row, n)}) + "\n" for n, row in enumerate(rows)))
        data = {
            **data,
            "source": {"path": str(path)},
            "silos": {"by_column": {"column": "site", "groups": GROUPS}},
        }
        unit = {"unit": {"subject": "person"}, "silos_per_subject": 1}
        return {**base, "data": data, "privacy": {"record_dp": {**DP, **unit, **privacy}}}

    return make


def _apart(row: Mapping[str, object], number: int) -> str:
    return f"{row['site']}-{number // 20}"


def _shared(row: Mapping[str, object], number: int) -> str:
    return f"p{number // 2}"  # two neighbouring records, in two silos


def test_the_unit_is_read_and_written(tree: Make) -> None:
    short = parse(tree(privacy={"record_dp": {**DP, "unit": {"subject": "person"}, "silos_per_subject": 2}}))
    plain = parse(tree(privacy={"record_dp": {**DP, "unit": "record"}}))
    assert isinstance(short.privacy, RecordDP)
    assert isinstance(plain.privacy, RecordDP)

    assert short.privacy.unit == PerSubject(column="person")
    assert plain.privacy.unit == PerRecord()
    assert "subject:\n        column: person" in resolved(short)


@pytest.mark.parametrize(
    ("privacy", "message"),
    [
        ({"unit": {"subject": "person"}}, "silos_per_subject: under unit: .* state in how many silos"),
        ({"unit": {"subject": "person"}, "silos_per_subject": 0}, "got 0"),
        ({"silos_per_subject": 2}, "a record lies in one silo"),
        ({"records_per_subject": 0}, "records_per_subject: expected 1 or more"),
    ],
)
def test_a_unit_that_is_not_fully_stated_is_refused(tree: Make, privacy: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(tree(privacy={"record_dp": {**DP, **privacy}}))


def test_a_person_is_one_unit_of_the_training(by_person: Make) -> None:
    prepared = prepare(parse(by_person(_apart)))
    learner = prepared.learner("n1")
    names = [record.subject for record in prepared.holdings.silos["n1"]]
    assert learner.subjects is not None
    assert prepared.plan is not None

    assert prepared.plan.unit == "subject"
    assert sorted(map(len, learner.subjects)) == sorted(names.count(name) for name in set(names))
    assert sorted(record for records in learner.subjects for record in records) == list(range(len(names)))


def test_subjects_follow_their_records_into_the_order_of_length(by_person: Make) -> None:
    prepared = prepare(parse(by_person(_apart)))
    learner, records = prepared.learner("n1"), prepared.holdings.silos["n1"]
    tokens = {record.subject: set[tuple[int, ...]]() for record in records}
    for record, each in zip(records, prepared.tokens(records), strict=True):
        tokens[record.subject].add(each.prompt)
    assert learner.subjects is not None

    for name, indices in zip(tokens, learner.subjects, strict=True):
        assert {learner.records[index].prompt for index in indices} == tokens[name]


def test_subjects_are_indices_of_a_silos_records_in_their_own_order(by_person: Make) -> None:
    prepared = prepare(parse(by_person(_apart)))
    names = [record.subject for record in prepared.holdings.silos["n1"]]
    subjects = prepared.subjects("n1")
    assert subjects is not None

    assert [{names[index] for index in indices} for indices in subjects] == [{name} for name in dict.fromkeys(names)]


def test_a_person_contributes_a_bounded_number_of_records(by_person: Make) -> None:
    subjects = prepare(parse(by_person(_apart, records_per_subject=2))).learner("n1").subjects

    assert subjects is not None
    assert max(map(len, subjects)) == 2


def test_training_by_person_moves_the_adapter(by_person: Make) -> None:
    prepared = prepare(parse(by_person(_apart)))

    assert np.any(prepared.learner("n1").update(prepared.server_slm.read(), 1))


def test_persons_in_several_silos_add_up(by_person: Make) -> None:
    config = parse(by_person(_shared, silos_per_subject=2))
    found = check(config)
    assert isinstance(config.privacy, RecordDP)
    said = {row.property: row for row in guarantees(config)}["Persons are protected with all their records"]

    assert person_guarantee(config.privacy) == (8.0, 2e-5)
    assert found["unit"] == {"unit": "subject", "epsilon": 8.0, "delta": 2e-5, "silos_per_subject": 2}
    assert said.holds
    assert "may lie in 2 silos: 2 budgets added" in said.why
    assert "n1: ε of one person with all records there after each round" in check_words(found)
    assert "a person with records in up to 2 silos: ε = 8, δ = 2e-05 in all" in check_words(found)


def test_records_as_units_promise_nothing_for_persons(tree: Make) -> None:
    config = parse(tree(privacy={"record_dp": DP}))
    said = {row.property: row for row in guarantees(config)}["Persons are protected with all their records"]

    assert not said.holds
    assert "at best k·ε" in said.why


def test_a_person_in_more_silos_than_stated_is_refused(by_person: Make) -> None:
    with pytest.raises(ConfigError, match="is in 2 silos, stated are 1 at most"):
        prepare(parse(by_person(_shared)))


@pytest.mark.parametrize("nobody", ["", "  ", None])
def test_a_record_of_nobody_is_refused(by_person: Make, nobody: object) -> None:
    with pytest.raises(ConfigError, match=r"column 'person' is empty in row \d+"):
        prepare(parse(by_person(lambda row, number: nobody if number == 8 else _apart(row, number))))


def test_a_column_that_is_not_there_is_refused(by_person: Make) -> None:
    with pytest.raises(ConfigError, match="no column 'patient'"):
        prepare(parse(by_person(_apart, unit={"subject": "patient"})))
