"""What is handed in as a model: each fault is told in its own sentence, before anything is trained."""

import json
import re
import shutil
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import transformers as tr
from safetensors.torch import load_file, save_file

from fedcollm_secure.config.models import Lora, ModelSource
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.models import load_base, with_lora
from fedcollm_secure.learning.overheard import overheard
from fedcollm_secure.learning.targets import check_rank

CPU = torch.device("cpu")
Change = Callable[[Path], object]


@pytest.fixture
def folder(models: Path, tmp_path: Path) -> Path:
    """Return a copy of the large model, to be broken."""
    return Path(shutil.copytree(models / "llm", tmp_path / "llm"))


def load(place: Path | str, **settings: object) -> object:
    return load_base(ModelSource(source=str(place), **settings), "models.llm", CPU)  # type: ignore[arg-type]


def tensors(change: Callable[[dict[str, torch.Tensor]], object]) -> Change:
    def rewrite(folder: Path) -> None:
        found = load_file(folder / "model.safetensors")
        change(found)
        save_file(found, folder / "model.safetensors", metadata={"format": "pt"})

    return rewrite


def described(**changes: object) -> Change:
    def rewrite(folder: Path) -> None:
        path = folder / "config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return rewrite


def as_pickle(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def as_gguf(folder: Path) -> None:
    shutil.rmtree(folder)
    folder.mkdir()
    (folder / "model.q4.gguf").write_bytes(b"GGUF")


def as_adapter(folder: Path) -> None:
    (folder / "config.json").rename(folder / "adapter_config.json")


def truncated(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])


def without_tokenizer(folder: Path) -> None:
    for path in folder.glob("token*"):
        path.unlink()


LAST = "model.layers.1.mlp.down_proj.weight"
FAULTS: dict[str, tuple[Change, str]] = {
    "a layer lacks": (tensors(lambda t: t.pop(LAST)), rf"lacks tensors .*random numbers.*: {re.escape(LAST)}\. Give"),
    "a layer too many": (
        tensors(lambda t: t.update({"score.weight": torch.zeros(2, 2)})),
        r"no place for.*: score\.weight",
    ),
    "more layers than described": (described(num_hidden_layers=1), r"no place for.*model\.layers\.1.* and \d more"),
    "fewer layers than described": (described(num_hidden_layers=3), r"lacks tensors .*model\.layers\.2"),
    "another width": (described(intermediate_size=16), "no model at|another shape"),
    "a NaN": (tensors(lambda t: t[LAST].fill_(float("nan"))), rf"NaN or infinity in {re.escape(LAST)}"),
    "an infinity": (tensors(lambda t: t[LAST][0].fill_(float("inf"))), rf"NaN or infinity in {re.escape(LAST)}"),
    "a torn file": (truncated, r"model\.safetensors is not whole, or no safetensors"),
    "no file of its kind": (lambda f: (f / "model.safetensors").write_text("hello"), "is not whole, or no safetensors"),
    "a pickle": (as_pickle, r"pytorch_model\.bin alone, a pickle, .*safe_serialization"),
    "no weights": (lambda f: (f / "model.safetensors").unlink(), r"holds no weights \(\*\.safetensors\)"),
    "gguf": (as_gguf, "holds GGUF, which is for inference alone"),
    "an adapter": (as_adapter, r"no config\.json but an adapter alone"),
    "no description": (lambda f: (f / "config.json").unlink(), r"holds no config\.json;"),
    "a description that is none": (lambda f: (f / "config.json").write_text("{"), "models.llm: no "),
    "a kind that nobody knows": (described(model_type="nobody"), "models.llm: no "),
    "no tokenizer": (without_tokenizer, r"holds no tokenizer \(tokenizer\.json\); .*save_pretrained"),
    "a tokenizer that is none": (lambda f: (f / "tokenizer.json").write_text("{"), "no tokenizer at"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_checkpoint_that_is_not_whole_is_told_what_it_lacks(fault: str, folder: Path) -> None:
    change, message = FAULTS[fault]
    change(folder)

    with pytest.raises(ConfigError, match=rf"(?s)models\.llm: .*{message.removeprefix('models.llm: ')}"):
        load(folder)


def test_a_whole_one_is_loaded_and_so_are_its_first_layers(folder: Path) -> None:
    load(folder)
    load(folder, layers=1)  # what lies above is rightly left


def test_a_lacking_layer_is_missed_even_where_layers_are_left(folder: Path) -> None:
    tensors(lambda t: t.pop("model.layers.0.mlp.down_proj.weight"))(folder)

    with pytest.raises(ConfigError, match="lacks tensors"):
        load(folder, layers=1)


@pytest.mark.parametrize(
    ("place", "message"),
    [
        ("{parent}/lllm", r"no folder at '.*lllm'; near: llm; give a folder, or a hub id"),
        ("./nowhere", "no folder at './nowhere'"),
        ("~/nowhere/at/all", "no folder at '~/nowhere"),
        ("a/b/c", "no folder at 'a/b/c'"),
        ("C:\\models\\llm", "no folder at"),
        (
            "org/model",
            r"no tokenizer at 'org/model': the hub does not have it, or cannot be reached .*nor is there a folder",
        ),
        ("{folder}/config.json", "is a file; give the folder"),
        ("{folder}/x.gguf", "is a GGUF file, which is for inference alone"),
    ],
)
def test_a_path_that_leads_nowhere_is_no_question_to_a_hub(place: str, message: str, folder: Path) -> None:
    (folder / "x.gguf").write_bytes(b"GGUF")

    with pytest.raises(ConfigError, match=message):
        load(place.format(parent=folder.parent, folder=folder))


def test_a_model_that_reads_ahead_is_refused(models: Path, tmp_path: Path) -> None:
    shape = tr.BertConfig(
        vocab_size=60,
        hidden_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=32,
        is_decoder=False,
    )
    with warnings.catch_warnings(), overheard():
        warnings.simplefilter("ignore")
        tr.BertLMHeadModel(shape).save_pretrained(tmp_path)
    for path in (models / "slm").glob("token*"):
        shutil.copy(path, tmp_path)

    with pytest.raises(
        ConfigError, match="the model is not causal: what it says at a place depends on the tokens after it"
    ):
        load(tmp_path)


def test_what_the_libraries_say_is_kept_once_and_off_stderr(capsys: pytest.CaptureFixture[str]) -> None:
    with overheard() as heard:
        for _ in range(3):
            tr.utils.logging.get_logger("transformers.models.llama").warning("mind\n the  gap")
            warnings.warn("`is_gradient_checkpointing` is deprecated", FutureWarning, stacklevel=1)

    assert list(heard.said) == ["transformers: mind the gap"]
    assert "gap" not in "".join(capsys.readouterr())


def test_a_rank_above_the_width_of_a_layer_is_refused(models: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"lora\.rank: expected at most 16, the width of model\.layers\.0\..*, got 17"
    ):
        with_lora(load(models / "slm"), Lora(rank=17, targets=("q_proj",)), seed=1)  # type: ignore[arg-type]
    model = with_lora(load(models / "slm"), Lora(rank=16, targets=("q_proj",)), seed=1)  # type: ignore[arg-type]
    check_rank(model, Lora(rank=16, targets=("q_proj",)))


def test_a_misspelt_target_is_told_with_the_name_that_was_meant(models: Path) -> None:
    with pytest.raises(ConfigError, match=r"fits 'v_porj'.*did you mean v_proj\?"):
        with_lora(load(models / "slm"), Lora(rank=2, targets=("q_proj", "v_porj")), seed=1)  # type: ignore[arg-type]
