"""How settings of our examples are chosen: on terms that no test of ours holds.

    python benchmarks/choose_settings.py --seeds 2 distill.weight=1 distill.weight=3
    python benchmarks/choose_settings.py rounds=4 rounds=60 --config examples/dp_config.yaml --methods control fedcollm

The 2,500 test terms are left out of the pool altogether; each seed draws 2,500 others to validate on. Of what is left
the server gets its share and the silos the rest, as the configuration parts them. A setting is a list of overrides
joined by commas; one line per setting and seed with each method's scores, all from the same start.
"""

import argparse
import json
import re
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import torch

from fedcollm_secure.config import Config, load
from fedcollm_secure.config.data import Count, Data, Share
from fedcollm_secure.config.source import FileSource
from fedcollm_secure.learning.icd10cm import TEST_TERMS, rows, split, terms
from fedcollm_secure.learning.models import quiet
from fedcollm_secure.research.compare.baselines import Baselines, GridPoint

METHODS = ("fedavg_ce", "fedcollm")
EXAMPLE = Path(__file__).parents[1] / "examples" / "compare.yaml"
SERVERS_SHARE = {"compare": 0.2, "dp_config": 0.12}  # of the pool: as near to the example's as it gets


def main() -> None:
    """Score each setting on each seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("settings", nargs="+", help="overrides of examples/compare.yaml: distill.weight=3,rounds=4")
    parser.add_argument("--config", type=Path, default=EXAMPLE, help="the example whose settings are chosen")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--methods", nargs="+", default=METHODS, help="of those of compare")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    quiet()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        pool = write_pool(folder / "pool.jsonl")
        for number, setting in enumerate(cast(list[str], arguments.settings)):
            for seed in range(1, arguments.seeds + 1):
                point_folder = folder / str(number)
                config = on_pool(load(arguments.config, _overrides(setting)), arguments.config.stem, pool, seed)
                point = GridPoint(split="pool", seed=seed, folder=point_folder, config=config)
                scores = dict(validate(point, arguments.methods))
                print(json.dumps({"setting": setting, "seed": seed, **scores}), flush=True)


def write_pool(path: Path) -> Path:
    """Write the public and the private terms, and none of the test."""
    parts = split(terms())
    pool = rows([*parts.public, *parts.private])
    path.write_text("".join(json.dumps(row) + "\n" for row in pool), encoding="utf-8")
    return path


def validate(point: GridPoint, methods: Sequence[str]) -> Iterator[tuple[str, Mapping[str, float]]]:
    """Yield each method's scores on this seed's validation terms."""
    baselines = Baselines(point)
    for method in methods:
        result = cast(Mapping[str, Mapping[str, float]], baselines.run(method))
        yield method, {model: next(iter(result[model].values())) for model in ("slm", "llm") if model in result}


def on_pool(config: Config, example: str, pool: Path, seed: int) -> Config:
    """Return the configuration on the pool's records, with a fresh validation part for each seed."""
    data = Data(
        source=FileSource(path=str(pool)),
        task=config.data.task,
        silos=config.data.silos,
        test=Count(count=TEST_TERMS),
        auxiliary=Share(share=SERVERS_SHARE.get(example, 0.2)),
    )
    return replace(config, seed=seed, data=data, splits=None)


def _overrides(setting: str) -> tuple[str, ...]:
    """Part overrides at commas outside brackets: `aggregation={masked: {clip: 1, bits: 32}},rounds=60` are two."""
    return tuple(part.strip() for part in re.split(r",(?![^{}]*\})", setting))


if __name__ == "__main__":
    main()
