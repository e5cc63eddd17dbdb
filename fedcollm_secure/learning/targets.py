"""Which modules `lora.targets` names: each name must fit a linear layer, and the rank must fit the layer."""

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence

from peft.utils.other import get_pattern_key
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from fedcollm_secure.config.models import Lora
from fedcollm_secure.errors import ConfigError

MOST_NAMES = 12
ALL = "all-linear"
_NOT_LINEAR = (nn.Embedding, nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.MultiheadAttention)


def check_targets(model: PreTrainedModel, lora: Lora) -> None:
    """Refuse names that fit nothing, which peft would drop, and layers that are not linear, which it would adapt.

    Raises:
        ConfigError: with the names that exist, near ones first.
    """
    if lora.targets == ALL:
        return
    names = lora.targets if isinstance(lora.targets, tuple) else (lora.targets,)
    for name in names:
        fitting = [module for path, module in _places(model) if _fits(path, name, lora.targets)]
        if wrong := next((module for module in fitting if isinstance(module, _NOT_LINEAR)), None):
            raise ConfigError(
                "lora.targets",
                f"{name!r} is a layer of kind {type(wrong).__name__}, which no round trains; expected names of linear "
                f"layers: {_choices(model, name)}",
            )
        if not fitting:
            raise ConfigError("lora.targets", no_target(model, name))


def check_rank(model: nn.Module, lora: Lora) -> None:
    """Refuse a rank above the width of a layer: B·A would have more parameters than the layer, and no more effect.

    Under all-linear some may be that narrow, such as the gate of a shared expert, but not most.

    Raises:
        ConfigError: with the narrowest layer.
    """
    widths: dict[str, int] = {}
    pattern = dict(lora.rank_pattern or {})
    keys = list(pattern)
    for name, parameter in model.named_parameters():
        layer, found, rest = name.removeprefix("base_model.model.").partition(".lora_")
        if found:
            width = int(parameter.shape[-1] if rest.startswith("A") else parameter.shape[0])
            widths[layer] = min(width, widths.get(layer, width))
    ranks = {layer: pattern.get(get_pattern_key(keys, layer), lora.rank) for layer in widths}
    narrow = [layer for layer, width in widths.items() if width < ranks[layer]]
    if narrow and (lora.targets != ALL or 2 * len(narrow) > len(widths)):
        first = min(narrow, key=widths.__getitem__)
        raise ConfigError("lora.rank", f"expected at most {widths[first]}, the width of {first}, got {ranks[first]}")
    used = {get_pattern_key(keys, layer) for layer in widths}
    for name in pattern:
        if name not in used:
            raise ConfigError(
                "lora.rank_pattern",
                f"no adapted layer fits {name!r}; expected some of {', '.join(_last_parts(widths)[:MOST_NAMES])}",
            )


def check_saved(model: PreTrainedModel, lora: Lora) -> None:
    """Refuse names in `modules_to_save` that fit nothing, which peft would drop, or nothing that has weights.

    Raises:
        ConfigError: with the names that exist.
    """
    modules = [(path, module) for path, module in model.named_modules() if path]
    owners = _last_parts(path for path, module in modules if any(True for _ in module.parameters()))
    for name in lora.modules_to_save or ():
        if not any(_fits(path, name, (name,)) and any(True for _ in module.parameters()) for path, module in modules):
            near = difflib.get_close_matches(name, owners, 1)
            raise ConfigError(
                "lora.modules_to_save",
                f"no module with weights of the {model.config.model_type} model is called {name!r}; expected some of "
                f"{', '.join(owners[:MOST_NAMES])}{f'; did you mean {near[0]}?' if near else ''}",
            )
        _check_not_within(modules, name, lora)


def _check_not_within(modules: Sequence[tuple[str, nn.Module]], saved: str, lora: Lora) -> None:
    """Refuse a layer that targets name within a module that is trained in full: peft would pass over it."""
    names = lora.targets if isinstance(lora.targets, tuple) else ()
    outer = [f"{path}." for path, _ in modules if _fits(path, saved, (saved,))]
    for path, _ in modules:
        if path.startswith(tuple(outer)) and any(_fits(path, name, names) for name in names):
            raise ConfigError("lora.modules_to_save", f"{saved} has {path} in it, which lora.targets names; name one")


def _last_parts(paths: Iterable[str]) -> list[str]:
    return sorted({path.rpartition(".")[2] for path in paths} - {""})


def no_target(model: PreTrainedModel, given: str) -> str:
    """Say what was given and what there is; peft names neither a configuration's key nor the model's modules."""
    kind = model.config.model_type
    return (
        f"no linear module of the {kind} model {model.name_or_path!r} fits {given!r}; expected all-linear, or some of "
        f"{_choices(model, given)}"
    )


def _choices(model: PreTrainedModel, given: str) -> str:
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call] # transformers' own
    names = sorted(
        {
            name.rpartition(".")[2]
            for name, module in model.named_modules()
            if isinstance(module, nn.Linear | Conv1D) and module is not head
        }
    )
    near = difflib.get_close_matches(given, names, 1)
    told = f"{', '.join(names[:MOST_NAMES])}{', …' if len(names) > MOST_NAMES else ''}"
    return f"{told}; did you mean {near[0]}?" if near else told


def _places(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Yield modules by their paths; experts hold their matrices as parameters, which peft finds by name too."""
    yield from model.named_modules()
    for path, module in model.named_modules():
        for name, parameter in module.named_parameters(recurse=False):
            if parameter.ndim == 3:
                yield f"{path}.{name}", module


def _fits(path: str, name: str, targets: str | Sequence[str]) -> bool:
    """Say whether peft would take the module for this name: a list holds names, a text is a pattern."""
    if isinstance(targets, str):
        return re.fullmatch(name, path) is not None
    return path == name or path.endswith(f".{name}")
