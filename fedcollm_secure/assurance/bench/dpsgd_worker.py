"""Measure DP-SGD in this process: `python -m fedcollm_secure.assurance.bench.dpsgd_worker MODEL [APPROACH]`.

MODEL is the JSON of a `Model`. Without an approach: seconds of a step, all approaches in turns. With one: its memory.
"""

import json
import sys
from collections.abc import Mapping

import torch

from fedcollm_secure.assurance.bench.dpsgd_step import APPROACHES, Model, memory, step_seconds


def measure(shape: Model, wanted: str | None) -> Mapping[str, float]:
    """Return seconds by approach, or one approach's memory. Raises: ValueError for an unknown approach."""
    if wanted is None:
        return step_seconds(shape)
    for approach in APPROACHES:
        if approach == wanted:
            return vars(memory(approach, shape))
    raise ValueError(f"expected one of {', '.join(APPROACHES)}, got {wanted}")


if __name__ == "__main__":
    torch.set_num_threads(1)
    given_model, *given_approach = sys.argv[1:]
    found = measure(Model(**json.loads(given_model)), given_approach[0] if given_approach else None)
    sys.stdout.write(json.dumps(dict(found)))
