"""The paper's experiment, and any configuration, held to its models' shapes without weights, data or a network."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from fedcollm_secure import cli, config
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.operations.shape_check import shape_check, shape_words

Make = Callable[..., dict[str, object]]
PAPER = Path(__file__).parents[2] / "examples" / "paper"
SHAPES = PAPER / "shapes"
TASKS = ("arc_easy", "arc_challenge", "openbookqa", "commonsense_qa")
# Of the SLM, in all and per round: table 2 of the paper, in millions 124 / 0.29, 1316 / 3.15, 1345 / 3.15.
TABLE_2 = {"gpt2": (124_439_808, 294_912), "opt": (1_315_758_080, 3_145_728), "llama2": (1_345_423_360, 3_145_728)}
LLMS = {"gpt2": 774_030_080, "opt": 6_658_473_984, "llama2": 6_738_415_616}


@pytest.mark.parametrize("pair", TABLE_2)
def test_the_shapes_give_the_paper_s_own_table_of_traffic(pair: str) -> None:
    found: Any = shape_check(config.load(PAPER / f"{pair}_arc_easy.yaml"), SHAPES)

    assert (found["models"]["slm"]["parameters"], found["parameters"]) == TABLE_2[pair]
    assert found["models"]["llm"]["parameters"] == LLMS[pair]
    assert (found["silos"], found["warnings"]) == (4, [])
    assert f"{TABLE_2[pair][1]:,} parameters travel" in shape_words(found)


def test_all_twelve_differ_in_models_and_data_alone() -> None:
    assert {path.stem for path in PAPER.glob("*.yaml")} == {f"{pair}_{task}" for pair in TABLE_2 for task in TASKS}
    loaded = {path.stem: config.load(path) for path in PAPER.glob("*.yaml")}

    for name, each in loaded.items():
        first, text = loaded["gpt2_arc_easy"], (PAPER / f"{name}.yaml").read_text(encoding="utf-8")
        assert text.startswith("# yaml-language-server: $schema=../schema.json\n")
        assert (each.lora.rank, each.lora.alpha, each.lora.dropout) == (8, 16, 0.05)
        assert (each.rounds, each.silo.epochs, each.silo.batch_size, each.distill.weight) == (5, 1, 4, 1.0)
        assert (each.data.silos, each.data.auxiliary, each.privacy) == (
            first.data.silos,
            first.data.auxiliary,
            first.privacy,
        )


def test_a_shape_that_does_not_fit_is_refused(tree: Make) -> None:
    file = PAPER / "llama2_openbookqa.yaml"

    with pytest.raises(ConfigError, match=r"lora\.targets: no linear module of the llama .*c_attn"):
        shape_check(config.load(file, ["lora.targets=c_attn"]), SHAPES)
    with pytest.raises(ConfigError, match=r"models\.slm\.layers: expected at most 24, got 25"):
        shape_check(config.load(file, ["models.slm.layers=25"]), SHAPES)
    with pytest.raises(ConfigError, match=r"models\.llm: no model at .*the hub does not have it, or cannot be reached"):
        shape_check(config.load(file), None)
    mixed: Any = shape_check(config.load(file, ["models.llm.from=facebook/opt-6.7b", "lora.targets=[q_proj]"]), SHAPES)
    assert mixed["warnings"] == ["the vocabularies have 50,272 and 32,000 rows: is it one tokenizer?"]


def test_the_command_reads_neither_data_nor_weights(tree: Make, models: Path, tmp_path: Path, capsys: Any) -> None:
    given = tree()
    given["data"] = {**given["data"], "source": {"path": str(tmp_path / "nothing.csv")}}  # type: ignore[dict-item]
    shapes = tmp_path / "shapes"
    for side in ("llm", "slm"):
        (shapes / side).mkdir(parents=True)
        (shapes / side / "config.json").write_bytes((models / side / "config.json").read_bytes())
    given["models"] = {side: {"from": str(shapes / side)} for side in ("llm", "slm")}
    file = tmp_path / "config.yaml"
    file.write_text(yaml.safe_dump(given), encoding="utf-8")

    assert cli.main(["check", str(file), "--shape"]) == 0
    assert "not checked, for that needs more than shapes: weights, tokenizers, data" in capsys.readouterr().out
    assert cli.main(["check", str(PAPER / "gpt2_arc_easy.yaml"), "--shape", str(SHAPES), "--json"]) == 0
    assert '"parameters": 294912' in capsys.readouterr().out
