"""What the silos' word counts add to models that they did not train: on terms that no test of ours holds.

    python benchmarks/word_count_expert.py --seeds 3

`fedcollm_secure/research/counts_expert.py` on the untouched pair, each model alone, and the counts alone, at the same
ε and with noise that the silos share. "own" is the control: the counts of the server's own terms beside the model, β
chosen on each half of them by the counts of the other. No model is trained. One line for each seed and ε; `inf` is
without noise.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from choose_settings import EXAMPLE, on_pool, write_pool

from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure.assemble import Prepared, prepare
from fedcollm_secure.config import load
from fedcollm_secure.learning.data.tasks import Record
from fedcollm_secure.learning.models import quiet
from fedcollm_secure.research.counts_expert import MODELS, answered_right, best_beta, label_odds
from fedcollm_secure.research.word_counts import Float64, SiloCounts

JOINT = EXAMPLE.parent / "dp_config.yaml"
SHARED = ("factors=fedavg", "silo.steps=1", "aggregation.masked.bits=32", "privacy.record_dp.noise=joint")


def main() -> None:
    """Score models, counts and both together."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epsilon", type=float, nargs="+", default=[math.inf, 8.0, 3.0, 1.0])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    quiet()
    with tempfile.TemporaryDirectory() as name:
        pool = write_pool(Path(name) / "pool.jsonl")
        for seed in range(1, arguments.seeds + 1):
            config = on_pool(load(JOINT, SHARED), JOINT.stem, pool, seed)
            prepared = prepare(config)
            public, test = prepared.holdings.auxiliary, prepared.holdings.test
            known = {model: label_odds(prepared, model, public) for model in MODELS}
            found = {model: label_odds(prepared, model, test) for model in MODELS}
            own = own_counts_beside(SiloCounts.summed(at(prepared, math.inf)), known, found, public, test)
            for epsilon in arguments.epsilon:
                counts = SiloCounts.summed(at(prepared, epsilon))
                words = counts.with_public().odds(test)
                line: dict[str, object] = {
                    "seed": seed,
                    "epsilon": epsilon,
                    "counts": share(answered_right(words, test)),
                }
                for model in MODELS:
                    beta = best_beta(known[model], counts.odds(public), public)
                    both = found[model] + beta * words
                    line[model] = share(answered_right(found[model], test))
                    line[f"{model} and own"] = own[model]
                    line[f"{model} and counts"] = share(answered_right(both, test))
                    line[f"{model} beta"] = beta
                print(json.dumps(line), flush=True)


def own_counts_beside(
    counts: SiloCounts,
    known: Mapping[str, Float64],
    found: Mapping[str, Float64],
    public: Sequence[Record],
    test: Sequence[Record],
) -> dict[str, float]:
    """Return each model's accuracy with the counts of the server's own terms beside it."""
    halves = (public[::2], public[1::2])
    crossed = np.empty_like(counts.of(public).odds(public))
    crossed[::2], crossed[1::2] = counts.of(halves[1]).odds(halves[0]), counts.of(halves[0]).odds(halves[1])
    words = counts.of(public).odds(test)
    return {
        model: share(answered_right(odds + best_beta(known[model], crossed, public) * words, test))
        for model, odds in found.items()
    }


def share(right: np.ndarray) -> float:
    """Return the share of what is right, to four digits."""
    return round(float(right.mean()), 4)


def at(prepared: Prepared, epsilon: float) -> Prepared:
    """Return the job with a plan of shared noise at this ε; without a plan where ε is infinite."""
    if not math.isfinite(epsilon) or not isinstance(prepared.plan, SharedPlan):
        return replace(prepared, plan=None)
    return replace(prepared, plan=calibrated(prepared.plan, epsilon))


def calibrated(plan: SharedPlan, epsilon: float) -> SharedPlan:
    """Return the plan with another ε."""
    names = ("delta", "clip_norm", "sampling_rate", "rounds", "batch_size", "unit", "grid", "rounding", "dimension")
    return SharedPlan.calibrated(epsilon=epsilon, **{name: getattr(plan, name) for name in (*names, "silos", "honest")})


if __name__ == "__main__":
    main()
