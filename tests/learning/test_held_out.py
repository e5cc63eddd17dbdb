"""What a silo keeps out of training: by the record alone, a person whole, and never trained on."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import pytest

from fedcollm_secure.assemble import prepare
from fedcollm_secure.assemble.privacy_plans import ledger_budget
from fedcollm_secure.assemble.simulated_silos import weight
from fedcollm_secure.config import parse
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.data import Record
from fedcollm_secure.learning.data.held_out import is_kept, set_apart
from fedcollm_secure.operations.check_command import check
from fedcollm_secure.operations.check_summary import check_words

Make = Callable[..., dict[str, object]]
DP = {"epsilon": 4.0, "delta": 1e-5, "clip_norm": 1.0, "sampling_rate": 0.3}
SUBJECT = {"record_dp": {**DP, "unit": {"subject": "site"}, "silos_per_subject": 1}}
SILO_DP = {"silo_dp": {"epsilon": 4.0, "delta": 1e-5, "clip_norm": 1.0}}


def records(count: int, subject: Callable[[int], str | None] = lambda _: None) -> list[Record]:
    return [Record(prompt=f"note {n}", answers=(" a", " b"), gold=n % 2, subject=subject(n)) for n in range(count)]


def parts(held: Sequence[Record], *, share: float = 0.3, seed: int = 7) -> tuple[set[Record], set[Record]]:
    rest, kept = set_apart({"north": held}, share=share, seed=seed)
    return set(rest["north"]), set(kept["north"])


@pytest.mark.parametrize("place", [0, 31, 60])
def test_one_record_more_moves_no_other(place: int) -> None:
    held, more = records(60), Record(prompt="one more", answers=(" a",), gold=0)
    rest, kept = parts(held)
    new_rest, new_kept = parts([*held[:place], more, *held[place:]])

    assert new_rest - {more} == rest
    assert new_kept - {more} == kept
    assert len(new_rest | new_kept) == 61


def test_both_sides_are_the_whole_in_their_order() -> None:
    held = records(200)
    rest, kept = set_apart({"north": held}, share=0.3, seed=7)

    assert sorted([*rest["north"], *kept["north"]], key=held.index) == held
    assert [*rest["north"]] == [record for record in held if record not in set(kept["north"])]
    assert 40 < len(kept["north"]) < 80  # 60 expected, three deviations


def test_a_records_side_is_the_hash_that_is_stated() -> None:
    for record in records(50):
        text = json.dumps([7, "record", record.prompt, record.answer], separators=(",", ":")).encode()
        drawn = hashlib.sha256(b"fedcollm/v1/own-evaluation\0" + text).hexdigest()[:16]

        assert is_kept(record, share=0.3, seed=7) == (int(drawn, 16) / 2**64 < 0.3)


def test_another_seed_keeps_others() -> None:
    assert parts(records(60), seed=7) != parts(records(60), seed=8)


def test_a_person_is_wholly_on_one_side_in_every_silo() -> None:
    held = records(200, lambda n: f"person {n % 20}")
    rest, kept = set_apart({"north": held[:100], "south": held[100:]}, share=0.4, seed=7)
    trained = {record.subject for part in rest.values() for record in part}
    scored = {record.subject for part in kept.values() for record in part}

    assert trained & scored == set()
    assert len(trained | scored) == 20


@pytest.mark.parametrize(("share", "what"), [(0.01, "score in north"), (0.999, "train on in north")])
def test_a_side_without_records_is_refused(share: float, what: str) -> None:
    with pytest.raises(ConfigError, match=rf"evaluate.own: .* none to {what}"):
        set_apart({"north": records(8), "south": records(20_000)}, share=share, seed=7)


def test_training_sees_the_rest_alone(private: Make) -> None:
    whole = prepare(parse(private(aggregation={"masked": {}})))
    prepared = prepare(parse(private(aggregation={"masked": {}}, evaluate={"own": 0.3})))
    for name, held in whole.holdings.silos.items():
        rest, kept = prepared.holdings.silos[name], prepared.holdings.own[name]

        assert Counter([*rest, *kept]) == Counter(held)
        assert set(rest).isdisjoint(kept)
        assert sorted(prepared.learner(name).records, key=repr) == sorted(prepared.tokens(rest), key=repr)
        assert len(prepared.learner(name).records) < len(held)
    assert whole.holdings.own["silo-1"] == []


def test_weights_count_what_is_trained_on(tree: Make) -> None:
    silo = {"steps": 1, "weighting": "examples"}
    prepared = prepare(parse(tree(silo=silo, evaluate={"own": 0.3})))

    assert weight(prepared, "silo-1") == len(prepared.holdings.silos["silo-1"])


def test_one_record_more_in_a_silos_file_moves_no_other(tree: Make, tmp_path: Path) -> None:
    base = tree(evaluate={"own": 0.3})
    data = cast(dict[str, object], base["data"])
    lines = Path(cast(dict[str, str], data["source"])["path"]).read_text().splitlines()
    files = {f"s{n}": str(tmp_path / f"s{n}.jsonl") for n in range(3)}
    held = []
    for extra in ([], [json.dumps({"text": "burn w1", "topic": "skin", "site": "s0"})]):
        for n, path in enumerate(files.values()):
            Path(path).write_text("\n".join([*extra, *lines[30 * n : 30 * n + 30]]) + "\n")
        held.append(prepare(parse({**base, "data": {**data, "silos": {"files": files}}})).holdings)
    before, after = held

    for name in files:
        added = [record for record in [*after.silos[name], *after.own[name]] if "burn w1" in record.prompt]
        assert [record for record in after.silos[name] if record not in added] == before.silos[name]
        assert [record for record in after.own[name] if record not in added] == before.own[name]
        assert len(added) == 1


@pytest.mark.parametrize(
    ("evaluate", "changes", "message"),
    [
        ({"own": 0.6}, {}, "own: expected a share of 0 to 0.5"),
        ({"own": -0.1}, {}, "own: expected a share of 0 to 0.5"),
        ({"own_epsilon": 0.5}, {}, "own_epsilon: expected 0 where no record is kept apart"),
        ({"own": 0.1, "own_epsilon": -1.0}, {}, "own_epsilon: expected 0 or a positive number"),
        ({"own": 0.1, "own_epsilon": 0.5}, {"privacy": SUBJECT}, "a person with many records"),
        ({"own": 0.1, "own_epsilon": 0.5}, {"privacy": SILO_DP}, "expected 0 under silo_dp"),
        (
            {"own": 0.1, "own_epsilon": 0.5},
            {"privacy": {"record_dp": {**DP, "noise_multiplier": 1.0}}},
            "expected 0 beside a stated noise_multiplier",
        ),
    ],
)
def test_a_setting_that_cannot_be_meant_is_refused(
    private: Make, evaluate: dict[str, float], changes: dict[str, object], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(private(aggregation={"masked": {}}, evaluate=evaluate, **changes))


def test_the_ledgers_budget_is_trainings_and_the_scores(private: Make, tree: Make) -> None:
    config = parse(private(evaluate={"own": 0.1, "own_epsilon": 0.5}))

    assert ledger_budget(config) == (8.5, 1e-5)
    assert ledger_budget(replace(config, evaluate=parse(tree()).evaluate)) == (8.0, 1e-5)
    assert ledger_budget(parse(tree(evaluate={"own": 0.1, "own_epsilon": 0.5}))) == (0.5, 0.0)


def test_check_says_what_is_kept_apart_and_what_telling_may_cost(private: Make, tree: Make) -> None:
    found = check(parse(private(aggregation={"masked": {}}, evaluate={"own": 0.3, "own_epsilon": 0.5})))
    home = check(parse(tree(evaluate={"own": 0.3})))

    assert found["own"] == {"share": 0.3, "epsilon": 0.5, "ledger_epsilon": 8.5}
    assert "30 % of its records out of training" in check_words(found)
    assert "its ledger's budget is 8.5" in check_words(found)
    assert "stays at home" in check_words(home)
    assert check(parse(tree()))["own"] == {}
