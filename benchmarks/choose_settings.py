"""How the settings of `examples/compare.yaml` were chosen: on terms that no test of ours holds.

    python benchmarks/choose_settings.py --seeds 2 distill.weight=1 distill.weight=3

The 2,500 test terms are left out of the pool altogether; each seed draws 2,500 others to validate on, a fifth for the
server and four equal silos from what is left. One line per setting and seed: λ = 0 and FedCoLLM, from the same start.
"""

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch

from fedcollm_secure.config import Config, load
from fedcollm_secure.config.data import Count, Data, Iid, Share
from fedcollm_secure.config.source import FileSource
from fedcollm_secure.learning.icd10cm import TEST_TERMS, rows, split, terms
from fedcollm_secure.learning.models import quiet
from fedcollm_secure.research.compare.baselines import Baselines, GridPoint

METHODS = ("fedavg_ce", "fedcollm")
EXAMPLE = Path(__file__).parents[1] / "examples" / "compare.yaml"


def main() -> None:
    """Score each setting on each seed; a setting is a list of overrides joined by commas."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="+", help="overrides of examples/compare.yaml: distill.weight=3,rounds=4")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--methods", nargs="+", default=METHODS, help="of those of compare")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    quiet()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pool = write_pool(folder / "pool.jsonl")
        for setting in cast(list[str], arguments.settings):
            for seed in range(1, arguments.seeds + 1):
                point_folder = folder / setting.replace("/", "_")
                scores = dict(validate(setting, seed, pool, point_folder, arguments.methods))
                print(json.dumps({"setting": setting, "seed": seed, **scores}), flush=True)


def write_pool(path: Path) -> Path:
    """Write the public and the private terms, and none of the test."""
    parts = split(terms())
    pool = rows([*parts.public, *parts.private])
    path.write_text("".join(json.dumps(row) + "\n" for row in pool), encoding="utf-8")
    return path


def validate(
    setting: str, seed: int, pool: Path, folder: Path, methods: Sequence[str]
) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Yield each method's scores on this seed's validation terms."""
    config = load(EXAMPLE, tuple(setting.split(",")))
    point = GridPoint(split="iid", seed=seed, folder=folder, config=on_pool(config, pool, seed))
    baselines = Baselines(point)
    for method in methods:
        result = cast(Mapping[str, Mapping[str, float]], baselines.run(method))
        yield method, {model: next(iter(result[model].values())) for model in ("slm", "llm") if model in result}


def on_pool(config: Config, pool: Path, seed: int) -> Config:
    """Return the configuration on the pool's records, with a fresh validation part for each seed."""
    data = Data(
        source=FileSource(path=str(pool)),
        task=config.data.task,
        silos=Iid(count=4),
        test=Count(count=TEST_TERMS),
        auxiliary=Share(share=0.2),
    )
    return replace(config, seed=seed, data=data, splits=None)


if __name__ == "__main__":
    sys.exit(main())
