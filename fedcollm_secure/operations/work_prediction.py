"""`check --measure`: tokens, seconds and peak memory of a run, from its own batches and a few timed passes.

Tokens are counted; a pass of the middle size is timed for each kind of work, a forward one for scoring and one with a
backward for training, on token ids that are made up. Each kind's largest pass is made once, and what the process then
has held at most is the memory.
"""

import re
import resource
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fedcollm_privacy.noise import gaussian
from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.assemble.prepare import Prepared
from fedcollm_secure.assemble.server_work import make_co_tuning, make_evaluations
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.batches import Batch, answer_logits
from fedcollm_secure.learning.likelihoods import Pass, scoring_passes
from fedcollm_secure.learning.losses import cross_entropy
from fedcollm_secure.learning.merged import merged
from fedcollm_secure.learning.work import Work, auxiliary_work, co_tuning_work, evaluations, silo_work

Json = Mapping[str, object]
REPEATS = 3


@dataclass(frozen=True, kw_only=True)
class Part:
    """One kind of work, and the model that does it."""

    name: str
    work: Work
    adapter: Adapter
    trains: bool


def predict(prepared: Prepared) -> Json:
    """Return tokens by part of the run, seconds by part, and the peak of memory in MiB.

    Not in the seconds: masks, encryption, the log, reading of files and start of Python.
    """
    parts = work_parts(prepared)
    seconds = {part.name: _seconds(part) for part in parts}
    if isinstance(prepared.plan, RecordPlan):
        steps = prepared.plan.steps_per_round * prepared.plan.rounds * len(prepared.silos)
        seconds["noise"] = steps * _timed(lambda: gaussian((prepared.parameters,), 1.0))
    return {
        "tokens": {part.name: {"real": round(part.work.real), "padded": round(part.work.padded)} for part in parts},
        "exact": prepared.plan is None or prepared.plan.unit == "silo",
        "seconds": {name: _digits(value) for name, value in seconds.items()},
        "seconds_total": _digits(sum(seconds.values())),
        "peak_mib": round(peak_mib() + _rows_mib(prepared)),
    }


def _rows_mib(prepared: Prepared) -> float:
    """Return what Opacus holds beside a pass: every record's own gradient, and the widest tensor's in float64."""
    learner = prepared.learner(prepared.silos[0])
    if prepared.plan is None or learner.gradients != "opacus":
        return 0.0
    sizes = [parameter.numel() for parameter in learner.adapter.parameters]
    return learner.rows * (4 * sum(sizes) + 8 * max(sizes)) / (1 << 20)


def work_parts(prepared: Prepared) -> Sequence[Part]:
    """Return what each part of the run reads in all rounds: exact, but where silos draw their batches in secret."""
    config, sides = prepared.config, {"llm": prepared.server_llm, "slm": prepared.server_slm}
    budget = config.evaluate.tokens_per_batch
    tests = make_evaluations(prepared.server_side)
    times = evaluations(config.rounds, config.evaluate.every)
    found = [
        Part(
            name=f"scoring, {side}",
            work=Work.of(scoring_passes(adapter.model, tests[side].sequences, tokens_per_batch=budget), times=times),
            adapter=adapter,
            trains=False,
        )
        for side, adapter in sides.items()
    ]
    trained = sum((silo_work(prepared.learner(silo)) for silo in prepared.silos), Work())
    found.append(Part(name="silos", work=trained, adapter=prepared.silo_slm, trains=True))
    co_tuning = make_co_tuning(prepared.server_side)
    found += [
        Part(name=f"server, {side}", work=co_tuning_work(co_tuning, records), adapter=sides[side], trains=True)
        for side, records in (("llm", co_tuning.llm_records), ("slm", co_tuning.records))
    ]
    if config.gates.max_loss_increase is not None:
        work = auxiliary_work(co_tuning, 2 * config.rounds)
        found.append(Part(name="gate", work=work, adapter=prepared.server_slm, trains=False))
    return [part for part in found if part.work.passes]


def _seconds(part: Part) -> float:
    """Return what a part takes: the time of a middle pass by its tokens; the largest one is made before."""
    largest, middle = part.work.some
    _make(part, largest)
    return part.work.padded * _timed(lambda: _make(part, middle)) / middle.padded


def _make(part: Part, shape: Pass) -> None:
    """Make one pass of this shape with made-up tokens; no weight moves and no gradient stays."""
    model, device = part.adapter.model, part.adapter.device
    ids = torch.arange(shape.rows * shape.width, device=device).reshape(shape.rows, shape.width)
    ids = ids % int(model.get_input_embeddings().weight.shape[0])  # type: ignore[operator]  # transformers' own
    keep = min(shape.keep, shape.width)
    batch = Batch(ids=ids, mask=torch.ones_like(ids), targets=ids[:, -keep:])
    if part.trains:
        with torch.enable_grad():
            cross_entropy(answer_logits(model, batch), batch.targets).sum().backward()  # type: ignore[no-untyped-call]
        for parameter in part.adapter.parameters:
            parameter.grad = None
        return
    with torch.no_grad(), merged(model):
        cross_entropy(answer_logits(model, batch), batch.targets)


def _timed(work: Callable[[], object]) -> float:
    """Return the middle of a few wall times, in seconds."""
    found: list[float] = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        work()
        found.append(time.perf_counter() - start)
    return sorted(found)[REPEATS // 2]


def peak_mib() -> float:
    """Return the largest resident size of this process so far."""
    if (status := Path("/proc/self/status")).exists():
        return int(re.findall(r"VmHWM:\s+(\d+) kB", status.read_text())[0]) / (1 << 10)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1 << 20)  # macOS: bytes


def _digits(value: float) -> float:
    return float(f"{value:.3g}")
