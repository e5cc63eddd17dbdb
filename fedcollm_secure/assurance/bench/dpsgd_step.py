"""One LoRA step without differential privacy, with ours, and with Opacus' own `make_private`: what each takes.

All three train the same adapter (r = 8 on q, k, v, o of a Llama with random weights) on the same records, 32 a batch:
ours and Opacus by DP-SGD with the same noise and clip norm, drawn by Poisson sampling in ours; the others take 32.
"""

import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Literal, cast

import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import LlamaConfig, LlamaForCausalLM

from fedcollm_privacy.dpsgd import train
from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.assurance.bench.repeated_measurement import peak_mib

Approach = Literal["non_private", "ours", "opacus"]
APPROACHES: tuple[Approach, ...] = ("non_private", "ours", "opacus")
RECORDS, BATCH, STEPS, REPEATS, VOCABULARY = 400, 32, 8, 7, 4096
PLAN = RecordPlan(
    epsilon=8.0,
    delta=1e-5,
    clip_norm=1.0,
    sampling_rate=BATCH / RECORDS,
    noise_multiplier=1.0,
    steps_per_round=STEPS,
    rounds=1,
    batch_size=BATCH,
)


@dataclass(frozen=True, kw_only=True)
class Model:
    """The shape of a model and the length of a record."""

    layers: int
    width: int
    tokens: int


@dataclass(frozen=True, kw_only=True)
class Memory:
    """The largest resident size of a process that ran one approach alone, and what of it was there before."""

    parameters: int
    peak_mib: float
    baseline_mib: float


def step_seconds(shape: Model) -> Mapping[str, float]:
    """Return median CPU seconds of a step for each approach, all in this process and taken in turns."""
    runs = {approach: prepare(approach, shape)[0] for approach in APPROACHES}
    seconds: dict[str, list[float]] = {approach: [] for approach in APPROACHES}
    for _ in range(REPEATS):
        for approach, run in runs.items():
            start = time.process_time()
            run()
            seconds[approach].append((time.process_time() - start) / STEPS)
    return {approach: median(each) for approach, each in seconds.items()}


def memory(approach: Approach, shape: Model) -> Memory:
    """Run one approach in this process and return what it held."""
    run, parameters = prepare(approach, shape)
    baseline = peak_mib()
    for _ in range(2):
        run()
    return Memory(parameters=parameters, peak_mib=peak_mib(), baseline_mib=baseline)


def prepare(approach: Approach, shape: Model) -> tuple[Callable[[], None], int]:
    """Return what takes STEPS steps, and the number of parameters that it trains."""
    model, data = _model(shape)
    parameters = [each for each in model.parameters() if each.requires_grad]
    makers = {"non_private": _plain, "ours": _ours, "opacus": _opacus}
    return makers[approach](model, parameters, data), sum(each.numel() for each in parameters)


def _model(shape: Model) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=shape.width,
        intermediate_size=round(shape.width * 2.7),
        num_hidden_layers=shape.layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        vocab_size=VOCABULARY,
    )
    lora = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
    with warnings.catch_warnings():
        # peft asks transformers 5 for a property under its old name.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        model = get_peft_model(LlamaForCausalLM(config), lora)
    return cast(nn.Module, model.train()), torch.randint(0, VOCABULARY, (RECORDS, shape.tokens))


def _losses(model: nn.Module, tokens: Tensor) -> Tensor:
    logits = model(input_ids=tokens).logits[:, :-1]
    return F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none").mean(dim=1)


def _plain(model: nn.Module, parameters: Sequence[nn.Parameter], data: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)

    def run() -> None:
        for _ in range(STEPS):
            _losses(model, data[torch.randperm(RECORDS)[:BATCH]]).mean().backward()  # type: ignore[no-untyped-call]  # torch's own
            optimizer.step()
            optimizer.zero_grad()

    return run


def _ours(model: nn.Module, parameters: Sequence[nn.Parameter], data: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(parameters, lr=1e-3)

    def losses(indices: Sequence[int]) -> Tensor:
        return _losses(model, data[list(indices)])

    def run() -> None:
        train(model=model, parameters=parameters, optimizer=optimizer, plan=PLAN, population=RECORDS, losses=losses)

    return run


def _opacus(model: nn.Module, parameters: Sequence[nn.Parameter], data: Tensor) -> Callable[[], None]:
    from opacus import PrivacyEngine

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(data), batch_size=BATCH)
    with warnings.catch_warnings():
        # What the warning says (not cryptographically safe) is one of the reasons why training here is not Opacus'.
        warnings.filterwarnings("ignore", message="Secure RNG turned off")
        _, optimizer, *_ = PrivacyEngine().make_private(
            module=model,
            optimizer=torch.optim.AdamW(parameters, lr=1e-3),
            data_loader=loader,
            noise_multiplier=PLAN.noise_multiplier,
            max_grad_norm=PLAN.clip_norm,
            loss_reduction="sum",
            wrap_model=False,
        )

    def run() -> None:
        for _ in range(STEPS):
            with warnings.catch_warnings():
                warnings.filterwarnings("ignore", message="Full backward hook is firing")
                _losses(model, data[torch.randperm(RECORDS)[:BATCH]]).sum().backward()  # type: ignore[no-untyped-call]  # torch's own
            optimizer.step()
            optimizer.zero_grad()

    return run
