"""Print what privacy costs: `python privacy/measure.py` (a step with and without DP, beside Opacus; noise).

Needs transformers and peft, which the room itself does not import. CPU time, medians, taken in turns, one thread.
"""
# ruff: noqa: T201  # printing is what this script is for

from __future__ import annotations

import resource
import statistics
import time
import warnings
from collections.abc import Callable

import torch
import torch.nn.functional as F
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from fedcollm_privacy.calibrate import noise_multiplier_for
from fedcollm_privacy.discrete import discrete_gaussian
from fedcollm_privacy.dpsgd import train
from fedcollm_privacy.noise import gaussian
from fedcollm_privacy.plan import RecordPlan
from fedcollm_privacy.shared_plan import SharedPlan

RECORDS, BATCH, STEPS, REPEATS = 400, 32, 8, 7
SIZES = {"3 × 128, 24 tokens": (3, 128, 24), "3 × 128, 96 tokens": (3, 128, 96), "4 × 512, 24 tokens": (4, 512, 24)}
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


def main() -> None:
    """Print one line per model size, then noise and calibration."""
    torch.set_num_threads(1)
    print("step, seconds (B = 32, LoRA r = 8 on q, k, v, o; ratio to the step without DP)")
    for name, (layers, width, length) in SIZES.items():
        plain, ours, opacus = _steps(layers, width, length)
        ratios = f"ours {ours:.3f} ({ours / plain:.2f}×)  Opacus {opacus:.3f} ({opacus / plain:.2f}×)"
        print(f"  {name}: plain {plain:.3f}  {ratios}")
    print(f"noise for 300,000 coordinates: {_seconds(lambda: gaussian((300_000,), 1.0)):.3f} s")
    _print_shared()
    target = {"epsilon": 8.0, "delta": 1e-5, "sampling_rate": 0.05}
    print(f"calibration to ε = 8, 100 steps: {_seconds(lambda: noise_multiplier_for(**target, steps=100)):.2f} s")
    print(f"largest memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GiB")


def _print_shared() -> None:
    """Print what noise in shares takes, and what its integers cost in δ."""
    grid = 1.0 / (2**31 - 1)
    plan = SharedPlan.calibrated(
        epsilon=8.0,
        delta=1e-5,
        clip_norm=1.0,
        sampling_rate=1.0,
        rounds=10,
        batch_size=1,
        unit="silo",
        grid=grid,
        rounding=grid / 2 + 2.0**-23,
        dimension=300_000,
        silos=10,
        honest=6,
    )
    seconds = _seconds(lambda: discrete_gaussian(plan.dimension, plan.share_variance))
    print(f"discrete noise for 300,000 coordinates: {seconds:.3f} s")
    print(f"its distance from a rounded Gaussian, a round: {plan.distance:.1e} (32-bit grid, ten silos, ε = 8)")
    print(f"signal to noise of silo_dp there, at best: {plan.signal_to_noise:.3f}")


def _steps(layers: int, width: int, length: int) -> tuple[float, float, float]:
    """Return median seconds per step: without DP, ours, Opacus' hooks."""
    runs = [_plain(*_model(layers, width, length)), _ours(*_model(layers, width, length))]
    runs.append(_opacus(*_model(layers, width, length)))
    times: list[list[float]] = [[], [], []]
    for _ in range(REPEATS):
        for run, seconds in zip(runs, times, strict=True):
            start = time.process_time()
            run()
            seconds.append((time.process_time() - start) / STEPS)
    plain, ours, opacus = (statistics.median(each) for each in times)
    return plain, ours, opacus


def _model(layers: int, width: int, length: int) -> tuple[nn.Module, Tensor]:
    torch.manual_seed(0)
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=round(width * 2.7),
        num_hidden_layers=layers,
        num_attention_heads=4,
        num_key_value_heads=4,
        vocab_size=4096,
    )
    lora = LoraConfig(r=8, lora_alpha=16, target_modules=["q_proj", "k_proj", "v_proj", "o_proj"])
    with warnings.catch_warnings():
        # peft asks transformers 5 for a property under its old name.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated", category=FutureWarning)
        model = get_peft_model(LlamaForCausalLM(config), lora)
    return model.train(), torch.randint(0, 4096, (RECORDS, length))


def _losses(model: nn.Module, tokens: Tensor) -> Tensor:
    logits = model(input_ids=tokens).logits[:, :-1]
    return F.cross_entropy(logits.transpose(1, 2), tokens[:, 1:], reduction="none").mean(dim=1)


def _trainable(model: nn.Module) -> list[nn.Parameter]:
    return [each for each in model.parameters() if each.requires_grad]


def _plain(model: nn.Module, data: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(_trainable(model), lr=1e-3)

    def run() -> None:
        for _ in range(STEPS):
            _losses(model, data[torch.randperm(RECORDS)[:BATCH]]).mean().backward()  # type: ignore[no-untyped-call]  # torch's own
            optimizer.step()
            optimizer.zero_grad()

    return run


def _ours(model: nn.Module, data: Tensor) -> Callable[[], None]:
    optimizer = torch.optim.AdamW(_trainable(model), lr=1e-3)

    def run() -> None:
        train(
            model=model,
            parameters=_trainable(model),
            optimizer=optimizer,
            plan=PLAN,
            population=RECORDS,
            losses=lambda indices: _losses(model, data[list(indices)]),
        )

    return run


def _opacus(model: nn.Module, data: Tensor) -> Callable[[], None]:
    from opacus import PrivacyEngine

    loader = torch.utils.data.DataLoader(torch.utils.data.TensorDataset(data), batch_size=BATCH)
    with warnings.catch_warnings():
        # What the warning says (not cryptographically safe) is one of the reasons why training here is not Opacus'.
        warnings.filterwarnings("ignore", message="Secure RNG turned off")
        _, optimizer, *_ = PrivacyEngine().make_private(
            module=model,
            optimizer=torch.optim.AdamW(_trainable(model), lr=1e-3),
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


def _seconds(call: Callable[[], object]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start


if __name__ == "__main__":
    main()
