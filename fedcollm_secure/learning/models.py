"""Causal language models with LoRA: loaded, checked to share one tokenizer, and adapted in a reproducible way.

A model comes from `embedded:llm` / `embedded:slm` (shipped in the package), a local folder or a hub id. It is moved to
its device before peft wraps it: a LoRA matrix that moves after hooks were placed trains nothing (Opacus #820).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import cast

import torch
from peft import LoraConfig, PeftModel, TaskType, get_peft_model
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)
from transformers.utils import logging

from fedcollm_secure.config.models import Lora, ModelSource
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.batches import beginning, longest_sequence
from fedcollm_secure.learning.checkpoints import check_causal, check_loaded, check_place, hub_hint
from fedcollm_secure.learning.overheard import overheard
from fedcollm_secure.learning.targets import check_rank, check_saved, check_targets, no_target

_UNLOADABLE = (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError, SafetensorError)
"""What transformers raises for a folder that it cannot make a model of."""
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def quiet() -> None:
    """Keep transformers' progress bars off stderr, where our own progress stands."""
    logging.disable_progress_bar()  # type: ignore[no-untyped-call] # transformers' own


@dataclass(frozen=True, kw_only=True)
class Base:
    """A frozen model, its tokenizer, the digest that parties compare, and what transformers warned of."""

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    digest: str
    warnings: tuple[str, ...] = ()


def choose_device(name: str) -> torch.device:
    """Return the device; `auto` is CUDA where there is one."""
    if name == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device", "expected a CUDA device, found none; use cpu or auto")
    return torch.device("cuda" if name != "cpu" and torch.cuda.is_available() else "cpu")


def load_tokenizer(source: ModelSource, where: str) -> PreTrainedTokenizerBase:
    """Load the tokenizer of a model; pads with its end-of-text token where it has no padding token.

    Raises:
        ConfigError: nothing loadable is there.
    """
    place = _place(source)
    check_place(place, where)
    try:
        loaded = AutoTokenizer.from_pretrained(place, revision=source.revision)
    except _UNLOADABLE as error:
        raise ConfigError(where, f"no tokenizer at {source.source!r}: {_why(error, place)}") from error
    tokenizer = cast(PreTrainedTokenizerBase, loaded)
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
    return tokenizer


def context_length(source: ModelSource, where: str) -> int:
    """Return the longest sequence that a model takes, from its description alone: no weights are read.

    Raises:
        ConfigError: nothing loadable is there.
    """
    place = _place(source)
    check_place(place, where)
    try:
        shape = AutoConfig.from_pretrained(place, revision=source.revision)
    except _UNLOADABLE as error:
        raise ConfigError(where, f"no model at {source.source!r}: {_why(error, place)}") from error
    return longest_sequence(shape)


def model_shape(source: ModelSource, where: str, shapes: Path | None = None) -> PretrainedConfig:
    """Return a model's description, cut to `layers`; from `shapes`/NAME/config.json where that is.

    Raises:
        ConfigError: nothing loadable is there, or it has fewer blocks than `layers` asks for.
    """
    kept = None if shapes is None else shapes / source.source
    place = str(kept) if kept is not None and (kept / "config.json").is_file() else _place(source)
    try:
        shape = AutoConfig.from_pretrained(place, revision=source.revision)
    except _UNLOADABLE as error:
        raise ConfigError(where, f"no model at {source.source!r}: {_why(error, place)}") from error
    if source.layers is not None:
        if source.layers > shape.num_hidden_layers:
            raise ConfigError(f"{where}.layers", f"expected at most {shape.num_hidden_layers}, got {source.layers}")
        shape.num_hidden_layers = source.layers
    return cast(PretrainedConfig, shape)


def load_base(source: ModelSource, where: str, device: torch.device) -> Base:
    """Load weights from safetensors only (a pickle could run code), frozen and in evaluation mode, on `device`.

    Raises:
        ConfigError: nothing loadable is there, or not all of it, or the model is not causal or has fewer blocks than
            `layers` asks for.
    """
    with overheard() as heard:
        tokenizer = load_tokenizer(source, where)
        loaded, told = _loaded(source, where)
    model = cast(PreTrainedModel, loaded.to(device).eval().requires_grad_(False))
    check_loaded(model, told, source.layers, where)
    check_causal(model, min(len(tokenizer), _output_rows(model)), where)
    return Base(model=model, tokenizer=tokenizer, digest=weights_digest(model), warnings=tuple(heard.said))


def _loaded(source: ModelSource, where: str) -> tuple[torch.nn.Module, Mapping[str, object]]:
    """Return the model, and what transformers tells of its loading."""
    place, shape = _place(source), model_shape(source, where)
    try:
        found = AutoModelForCausalLM.from_pretrained(
            place,
            revision=source.revision,
            config=shape,
            dtype=DTYPES[source.dtype],
            use_safetensors=True,
            output_loading_info=True,
        )
    except _UNLOADABLE as error:
        raise ConfigError(where, f"no model at {source.source!r}: {_why(error, place)}") from error
    return cast(tuple[torch.nn.Module, Mapping[str, object]], found)


def _why(error: Exception, place: str) -> str:
    """Say why nothing could be loaded; of what is no folder here, that the hub was asked."""
    told = first_line(error)
    return told if Path(place).is_dir() else f"the hub does not have it, or cannot be reached ({told}){hub_hint(place)}"


def weights_digest(model: torch.nn.Module) -> str:
    """Return SHA-256 over all parameters in order of name: name, dtype, shape, little-endian bytes."""
    digest = hashlib.sha256()
    for name, parameter in sorted(model.named_parameters()):
        digest.update(json.dumps([name, str(parameter.dtype), list(parameter.shape)]).encode())
        digest.update(parameter.detach().cpu().contiguous().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def tokenizer_fingerprint(tokenizer: PreTrainedTokenizerBase) -> str:
    """Return SHA-256 over vocabulary, special tokens and what begins a text: equal fingerprints, equal token ids."""
    content = {
        "vocabulary": sorted(tokenizer.get_vocab().items()),
        "special": sorted((name, str(token)) for name, token in tokenizer.special_tokens_map.items()),
        "beginning": beginning(tokenizer),
    }
    return hashlib.sha256(json.dumps(content, ensure_ascii=False).encode()).hexdigest()


def require_same_tokenizer(llm: Base, slm: Base) -> None:
    """Refuse a pair whose logits do not stand for the same tokens.

    Raises:
        ConfigError: with both fingerprints and vocabulary sizes.
    """
    fingerprints = {name: tokenizer_fingerprint(base.tokenizer) for name, base in (("llm", llm), ("slm", slm))}
    if fingerprints["llm"] != fingerprints["slm"]:
        raise ConfigError(
            "models",
            "LLM and SLM must share one tokenizer: mutual distillation compares their distributions token by token.\n"
            f"  llm: {len(llm.tokenizer)} tokens, fingerprint {fingerprints['llm']}\n"
            f"  slm: {len(slm.tokenizer)} tokens, fingerprint {fingerprints['slm']}\n"
            "Choose two models of one family, such as facebook/opt-6.7b and facebook/opt-1.3b, or say "
            "distill.align: tokens, which compares them where both tokenizers cut an answer alike.",
        )
    require_output_rows(llm, slm)


def require_output_rows(llm: Base, slm: Base) -> None:
    """Refuse a head that does not score all of its tokens. Raises: ConfigError."""
    for name, base in (("llm", llm), ("slm", slm)):
        rows = _output_rows(base.model)
        if rows < len(base.tokenizer):
            raise ConfigError(f"models.{name}", f"expected {len(base.tokenizer)} output rows or more, got {rows}")


def with_lora(base: Base, lora: Lora, *, seed: int) -> PeftModel:
    """Wrap `base` with LoRA, in eval mode; the same seed gives the same initial A (B is zero) on every machine.

    Raises:
        ConfigError: no module has one of the names in `lora.targets`.
    """
    return adapted(base.model, lora, seed=seed)


def adapted(base: PreTrainedModel, lora: Lora, *, seed: int) -> PeftModel:
    """Wrap a model, on torch's meta device too; see `with_lora`."""
    settings = LoraConfig(
        task_type=TaskType.CAUSAL_LM,
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules=lora.targets if isinstance(lora.targets, str) else list(lora.targets),
        rank_pattern=dict(lora.rank_pattern or {}),
        use_rslora=lora.use_rslora,
        use_dora=lora.use_dora,
        modules_to_save=list(lora.modules_to_save) if lora.modules_to_save else None,
        fan_in_fan_out=base.config.model_type == "gpt2",  # its Conv1D holds weights transposed
    )
    check_targets(base, lora)
    check_saved(base, lora)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        try:
            with overheard():  # of what it says of modules, `check_targets` and the probe say more
                model = get_peft_model(base, settings, autocast_adapter_dtype=True)
        except ValueError as error:
            given = lora.targets if isinstance(lora.targets, str) else ", ".join(lora.targets)
            told = first_line(error) if "incompatible" in str(error) else no_target(base, given)
            raise ConfigError("lora.targets", told) from error
        check_rank(model, lora)
        _initialise(model)
    return cast(PeftModel, cast(torch.nn.Module, model).eval())  # peft's own layers begin in training mode


def _initialise(model: torch.nn.Module) -> None:
    """Draw each A anew on the CPU in name order, so that device and peft version cannot change θ_0."""
    for name, parameter in sorted(model.named_parameters()):
        if ".lora_A." in name:
            bound = (1.0 / parameter.shape[1]) ** 0.5  # kaiming_uniform with a = √5, as peft and LoRA's authors do
            start = torch.rand(parameter.shape, dtype=torch.float32) * (2 * bound) - bound  # float32[r, d_in]
            parameter.data.copy_(start)
        elif ".lora_B." in name:
            parameter.data.zero_()


def _output_rows(model: PreTrainedModel) -> int:
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call] # transformers' own
    return int(cast(torch.nn.Linear, head).weight.shape[0])


def _place(source: ModelSource) -> str:
    kind, _, name = source.source.partition(":")
    if kind != "embedded":
        return source.source
    folder = Path(str(resources.files("fedcollm_secure") / "embedded" / name))
    if not (folder / "config.json").is_file():
        raise ConfigError("models", f"{source.source!r} is not shipped; expected embedded:llm or embedded:slm")
    return str(folder)


def first_line(error: Exception) -> str:
    """Return the first line of what an error says."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
