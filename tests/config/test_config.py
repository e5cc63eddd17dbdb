"""The strict loader: every mistake is named with its key, and what is loaded can be written and read back."""

from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from fedcollm_secure.config import load, parse, resolved
from fedcollm_secure.config.protection import RecordDP
from fedcollm_secure.config.source import FileSource
from fedcollm_secure.errors import ConfigError

Make = Callable[..., dict[str, object]]


def _file(tmp_path: Path, tree: dict[str, object]) -> Path:
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def test_resolved_configuration_reads_back_equal(tmp_path: Path, private: Make) -> None:
    config = load(_file(tmp_path, private()))
    again = tmp_path / "resolved.yaml"
    again.write_text(resolved(config), encoding="utf-8")

    assert load(again) == config


def test_override_replaces_a_deep_key(tmp_path: Path, private: Make) -> None:
    config = load(_file(tmp_path, private()), ["privacy.record_dp.epsilon=3", "silo.learning_rate=1e-4"])

    assert isinstance(config.privacy, RecordDP)
    assert (config.privacy.epsilon, config.silo.learning_rate) == (3.0, 1e-4)


def test_ffa_is_the_default_under_dp_and_fedavg_without(tree: Make, private: Make) -> None:
    assert (parse(private()).what_travels, parse(tree()).what_travels) == ("ffa", "fedavg")


def test_relative_paths_start_at_the_configuration(tmp_path: Path, tree: Make) -> None:
    changed = tree()
    changed["data"] = {**changed["data"], "source": {"path": "data/all.jsonl"}}  # type: ignore[dict-item]

    source = load(_file(tmp_path, changed)).data.source

    assert source == FileSource(path=str(tmp_path / "data" / "all.jsonl"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("epochs=3", "epochs: unknown key; expected one of"),
        ("rounds=many", "rounds: expected a whole number, got the text 'many'"),
        ("rounds=true", "rounds: expected a whole number, got the truth value true"),
        ("rounds=0", "rounds: expected 1 or more, got 0"),
        ("lora.rank=0", "lora: rank: expected 1 or more"),
        ("lora.dropout=1.0", r"dropout: expected \[0, 1\)"),
        ("name=a/b", "name: expected 1 to 64 of"),
        ("privacy.record_dp.epsilon=-1", "epsilon: expected a positive number, got -1"),
        ("privacy.record_dp.epsilon=.inf", "epsilon: expected a positive number, got inf"),
        ("privacy.record_dp.delta=1", r"delta: expected a number in \(0, 1\)"),
        ("privacy.record_dp.sampling_rate=0", "sampling_rate: expected a number in"),
        ("privacy={record_dp: {epsilon: 8.0}}", "privacy.record_dp.delta: missing; expected a number"),
        ("privacy={}", "expected a map with exactly one of record_dp, silo_dp, non_private"),
        (
            "aggregation={masked: {}, unsafe_plain: {}}",
            "expected a map with exactly one of masked, bfv, ckks, unsafe_plain",
        ),
        ("aggregation={paillier: {}}", "aggregation.paillier: unknown alternative"),
        ("aggregation={masked: {bits: 1}}", "bits: expected 2 to 32"),
        ("security.min_cohort=2", "fewer, colluding members can compute one silo's update"),
        ("security.colluding=2", r"at least max\(3, colluding \+ 2\) = 4"),
        ("silo.weighting=examples", "a weight that depends on the data"),
        ("silo={epochs: 1}", "under record_dp the number of steps must be public"),
        ("silo={steps: 1, epochs: 1}", "give either steps or epochs"),
        ("silo.gradient_norm=1.0", "each record is clipped to privacy.record_dp.clip_norm"),
        ("silo.optimizer_state=kept", "kept is not offered under record_dp"),
        ("lora.dropout=0.1", "expected 0 under record_dp"),
        ("distill.weight=-1", "weight .λ.: expected 0 or more"),
        ("distill.temperature=0", "temperature: expected a positive number"),
        ("data.silos={iid: 0}", "expected 1 or more silos"),
        ("data.test={share: 1.0}", r"share: expected a number in \(0, 1\)"),
        ("nothing", "expected KEY=VALUE"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, private: Make, override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load(_file(tmp_path, private()), [override])


@pytest.mark.parametrize(
    ("factors", "part", "fits"),
    [
        ("fedavg", "silo", True),
        ("rolora", "silo", False),
        ("rolora", "distill", True),
        ("fedsvd", "distill", False),
        ("exact", "distill", False),
    ],
)
def test_an_optimiser_keeps_its_state_only_where_coordinates_keep_their_meaning(
    tmp_path: Path, tree: Make, factors: str, part: str, fits: bool
) -> None:
    file, overrides = _file(tmp_path, tree()), [f"factors={factors}", f"{part}.optimizer_state=kept"]
    if fits:
        load(file, overrides)
        return
    with pytest.raises(ConfigError, match=f"{part}.optimizer_state: kept does not fit factors: {factors}"):
        load(file, overrides)


def test_a_double_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.yaml"
    path.write_text("name: a\nname: b\n", encoding="utf-8")

    with pytest.raises(ConfigError, match="line 2: a key stands twice, the first in line 1"):
        load(path)


def test_yaml_1_2_scalars(tmp_path: Path, tree: Make) -> None:
    text = resolved(parse(tree())).replace("learning_rate: 0.01", "learning_rate: 1e-2")
    path = tmp_path / "config.yaml"
    path.write_text(text, encoding="utf-8")

    assert load(path).silo.learning_rate == 0.01


@pytest.mark.parametrize("content", ["[1, 2]", "a: [", "- x"])
def test_what_is_not_a_map_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(content, encoding="utf-8")

    with pytest.raises(ConfigError, match=r"expected a map of settings|not YAML"):
        load(path)


def test_a_study_is_refused_with_the_command_that_reads_it(tmp_path: Path) -> None:
    path = tmp_path / "frontier.yaml"
    path.write_text("config: base.yaml\nsweep: {rounds: [1, 2]}\n", encoding="utf-8")

    with pytest.raises(
        ConfigError, match=r"this is a study \(it has config, sweep\).*fedcollm-secure study .*base\.yaml"
    ):
        load(path)


def test_the_command_line_may_not_turn_a_configuration_into_a_study(tmp_path: Path, tree: Make) -> None:
    with pytest.raises(ConfigError, match="sweep: unknown key"):
        load(_file(tmp_path, tree()), ["sweep={}"])


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.yaml: cannot be read"):
        load(tmp_path / "absent.yaml")


def test_a_key_that_was_renamed_is_refused_with_its_new_name(tree: Callable[..., dict[str, object]]) -> None:
    with pytest.raises(ConfigError, match=r"evaluate\.batch_size: this key is now tokens_per_batch"):
        parse(tree(evaluate={"batch_size": 256}))
