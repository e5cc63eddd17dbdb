"""What people hand in as a model, looked at before and after transformers loads it: each fault its own sentence.

A checkpoint that lacks tensors is loaded all the same by transformers, with random numbers in their place, and a model
that reads ahead would be trained on the answers that it sees. Both are refused here.
"""

import difflib
import re
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import cast

import torch
from safetensors import SafetensorError, safe_open

from fedcollm_secure.errors import ConfigError

MOST_NAMES = 6
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(?:/[A-Za-z0-9][\w.-]*)?")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tokenizer_config.json")


def check_place(place: str, where: str) -> None:
    """Refuse a path at which there is no folder with a model's description, weights and tokenizer.

    What has the form of a hub's id is left to the hub.

    Raises:
        ConfigError: with what there is instead, and what to do.
    """
    path = Path(place).expanduser()
    if path.is_file():
        what = "a GGUF file, which is for inference alone" if path.suffix.lower() == ".gguf" else "a file"
        raise ConfigError(where, f"{place!r} is {what}; give the folder of a transformers checkpoint in safetensors")
    if not path.is_dir():
        if _is_path(place):
            raise ConfigError(
                where, f"no folder at {place!r}{_near(path)}; give a folder, or a hub id such as org/model"
            )
        return
    _check_folder(path, where)


def hub_hint(place: str) -> str:
    """Say what a hub's id that cannot be had may have been meant to be."""
    return f"; nor is there a folder {place!r} here{_near(Path(place))}"


def _is_path(place: str) -> bool:
    return place.startswith((".", "/", "~")) or "\\" in place or _HUB_ID.fullmatch(place) is None


def _near(path: Path) -> str:
    """Name folders beside the one that is not there whose names are near."""
    parent = path.parent
    names = [each.name for each in parent.iterdir() if each.is_dir()] if parent.is_dir() else []
    near = difflib.get_close_matches(path.name, names, 3)
    return f"; near: {', '.join(near)}" if near else ""


def _check_folder(folder: Path, where: str) -> None:
    weights = list(folder.glob("*.safetensors"))
    if not weights and list(folder.glob("*.gguf")):
        raise ConfigError(
            where, f"{folder} holds GGUF, which is for inference alone; give the checkpoint that it was made of"
        )
    if not (folder / "config.json").is_file():
        what = " but an adapter alone, without its base model" if (folder / "adapter_config.json").is_file() else ""
        raise ConfigError(
            where, f"{folder} holds no config.json{what}; give the folder of a whole transformers checkpoint"
        )
    if not weights:
        pickled = [path.name for kind in _PICKLES for path in folder.glob(kind)]
        if pickled:
            raise ConfigError(
                where,
                f"{folder} holds its weights as {pickled[0]} alone, a pickle, which could run code as it is read; save "
                "it once more where you trust it: model.save_pretrained(folder, safe_serialization=True)",
            )
        raise ConfigError(where, f"{folder} holds no weights (*.safetensors); is it whole?")
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise ConfigError(
            where, f"{folder} holds no tokenizer (tokenizer.json); save it there: tokenizer.save_pretrained(folder)"
        )
    for path in weights:
        _check_file(path, where)


def _check_file(path: Path, where: str) -> None:
    """Refuse a file whose header promises more than is there."""
    try:
        with safe_open(path, framework="pt"):
            pass
    except (SafetensorError, OSError) as error:
        raise ConfigError(
            where, f"{path} is not whole, or no safetensors ({type(error).__name__}); copy or download it again"
        ) from error


def check_loaded(model: torch.nn.Module, told: Mapping[str, object], layers: int | None, where: str) -> None:
    """Refuse a model that is not what its checkpoint holds; `told` is transformers' loading information.

    `layers`: so many blocks were asked for, and those above are rightly left.

    Raises:
        ConfigError: with names of tensors that lack, are too many, or are not finite.
    """
    missing = _names(told, "missing_keys")
    spare = [name for name in _names(told, "unexpected_keys") if not _above(name, layers)]
    mismatched = _names(told, "mismatched_keys")
    for names, what in (
        (missing, "lacks tensors that the model has, and random numbers would take their place"),
        (mismatched, "holds tensors of another shape than the model's"),
        (spare, "holds tensors that the model has no place for: it is of another kind than config.json says"),
    ):
        if names:
            raise ConfigError(
                where, f"the checkpoint {what}: {shown(names)}. Give a whole one of a causal language model"
            )
    broken = [name for name, tensor in model.named_parameters() if not bool(torch.isfinite(tensor).all())]
    if broken:
        raise ConfigError(
            where, f"the checkpoint holds NaN or infinity in {shown(broken)}; give one that was saved whole"
        )


@torch.no_grad()
def check_causal(model: torch.nn.Module, vocabulary: int, where: str) -> None:
    """Refuse a model whose output at a place depends on what comes after it: two inputs that differ in the last token.

    In bfloat16, which rounds to 1 in 256, a dependence of less than 2 % of what the token does at its own place is not
    seen; trained models that read ahead depend far more.

    Raises:
        ConfigError: it reads ahead, as BERT does.
    """
    device = next(model.parameters()).device
    first = torch.arange(8, device=device) % vocabulary  # int64[T]
    ids = torch.stack([first, first])
    ids[1, -1] = (ids[1, -1] + 1) % vocabulary
    try:
        logits = cast(torch.Tensor, model(input_ids=ids, use_cache=False).logits).float()  # [2, T, V]
    except (AttributeError, IndexError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
        raise ConfigError(
            where, f"the model cannot score a text ({type(error).__name__}); expected a causal language model"
        ) from error
    changes = (logits[0] - logits[1]).abs().amax(dim=1)  # [T], 0 before the last place but for rounding
    coarse = next(model.parameters()).dtype != torch.float32
    if float(changes[:-1].max()) > (2e-2 if coarse else 1e-5) * float(changes[-1]):
        raise ConfigError(
            where,
            "the model is not causal: what it says at a place depends on the tokens after it, so that it would see the "
            "answers that it is asked for. Expected a decoder such as Llama, OPT or GPT-2",
        )


def shown(names: Iterable[str]) -> str:
    """Name a few of many."""
    every = sorted(names)
    return f"{', '.join(every[:MOST_NAMES])}{f' and {len(every) - MOST_NAMES} more' if len(every) > MOST_NAMES else ''}"


def _names(told: Mapping[str, object], key: str) -> list[str]:
    found = cast(Collection[object], told.get(key, ()))
    return sorted(str(each[0]) if isinstance(each, tuple) else str(each) for each in found)


def _above(name: str, layers: int | None) -> bool:
    numbers = [int(part) for part in name.split(".") if part.isdecimal()]
    return layers is not None and bool(numbers) and numbers[0] >= layers
