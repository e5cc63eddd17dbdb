"""Compare noise of each silo's own with one noise that all silos share, at the same ε, on the main job's data.

    python benchmarks/joint_noise.py [--epsilon 1] [--seeds 1 2 3] [--steps 40]

Both take the same number of noisy steps with the same sampling rate, clip norm and learning rate, against the same
adversary but for one thing: noise of its own protects a silo's records even from all other silos together; shared noise
from the server with n_c of them. No server steps (`distill.steps: 0`), so that nothing but the silos' records teaches.

| way | what it is |
|---|---|
| non_private | 4 rounds of steps/4 local steps, no noise |
| own | the same, by DP-SGD in each silo |
| joint | one masked sum a step, `record_dp: {noise: joint}` |
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import cast

from fedcollm_secure.assemble import prepare, start
from fedcollm_secure.config import load
from fedcollm_secure.learning.models import quiet

CONFIG = Path(__file__).parents[1] / "examples" / "dp_config.yaml"
ROUNDS, BATCH, SILOS = 4, 128, 4
WAYS = ("non_private", "own", "joint")


def overrides(way: str, epsilon: float, seed: int, steps: int) -> list[str]:
    """Return what a way changes in the main job's configuration."""
    common = [f"seed={seed}", "distill.steps=0", "aggregation={masked: {clip: 1.0, bits: 32}}"]
    if way == "joint":
        return [
            *common,
            f"rounds={steps}",
            "silo.steps=1",
            f"silo.batch_size={SILOS * BATCH}",
            f"evaluate.every={steps}",
            f"privacy.record_dp.epsilon={epsilon}",
            "privacy.record_dp.noise=joint",
        ]
    local = [f"rounds={ROUNDS}", f"silo.steps={steps // ROUNDS}", f"evaluate.every={ROUNDS}"]
    privacy = "privacy={non_private: {}}" if way == "non_private" else f"privacy.record_dp.epsilon={epsilon}"
    return [*common, *local, privacy]


def measure(way: str, epsilon: float, seed: int, steps: int) -> Mapping[str, float]:
    """Run one job and return the small model's accuracy on public test data, ε spent, and seconds."""
    began = time.perf_counter()
    prepared = prepare(load(CONFIG, overrides(way, epsilon, seed, steps)))
    with tempfile.TemporaryDirectory() as folder:
        job = start(prepared, Path(folder) / "run", lambda _, __: None)
        try:
            line = list(job.rounds())[-1]
        finally:
            job.close()
    spent = [each["epsilon"] for each in cast(Mapping[str, Mapping[str, float]], line["silos"]).values()]
    scores = cast(Mapping[str, float], line["slm"])
    return {
        "accuracy": scores["accuracy"],
        "epsilon_spent": max(spent, default=float("inf")),
        "seconds": time.perf_counter() - began,
    }


def main() -> None:
    """Print one JSON line a run, then the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--epsilon", type=float, nargs="+", default=[1.0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--steps", type=int, default=40)
    given = parser.parse_args()
    quiet()
    table: dict[tuple[str, str], list[float]] = {}
    for epsilon in given.epsilon:
        for way in WAYS:
            if way == "non_private" and epsilon != given.epsilon[0]:
                continue
            for seed in given.seeds:
                found = measure(way, epsilon, seed, given.steps)
                stated = "∞" if way == "non_private" else f"{epsilon:g}"
                table.setdefault((stated, way), []).append(found["accuracy"])
                print(json.dumps({"way": way, "epsilon": stated, "seed": seed, **found}), flush=True)
    for (stated, way), scores in table.items():
        spread = f" ± {statistics.stdev(scores):.4f}" if len(scores) > 1 else ""
        print(f"ε = {stated:<4} {way:<12} accuracy {statistics.mean(scores):.4f}{spread} ({len(scores)} seeds)")


if __name__ == "__main__":
    main()
