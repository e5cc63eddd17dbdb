"""Draw the table that a run showed in the terminal: `python examples/picture.py RUN examples/run.svg`."""

import io
import json
import sys
from pathlib import Path

import yaml
from rich.console import Console

from fedcollm_secure.operations.live_progress import cells, table
from fedcollm_secure.operations.run_summary import run_words


def main(run: Path, picture: Path) -> None:
    """Write an SVG of the table and the closing words of a finished run."""
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    summary = json.loads((run / "summary.json").read_text(encoding="utf-8"))
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    budget = config["privacy"].get("record_dp", {}).get("epsilon")
    console = Console(record=True, width=112, file=io.StringIO())
    console.print("$ fedcollm-secure run examples/dp_config.yaml --out runs/demo", highlight=False)
    console.print(table([cells(line, config["rounds"], budget) for line in lines]))
    console.print(run_words(summary, Path("runs/demo")), highlight=False)
    console.save_svg(str(picture), title="fedcollm-secure")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
