"""Score a test with one model: `python -m fedcollm_secure.assurance.bench.scoring_worker CONFIG SIDE [KEY=VALUE …]`.

Counts and figures go to stdout as JSON; the tokens are counted where the model reads them.
"""

import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from fedcollm_secure import config as configuration
from fedcollm_secure.assemble.learners import make_encoder
from fedcollm_secure.assemble.prepare import gather_for
from fedcollm_secure.assurance.bench.repeated_measurement import peak_mib
from fedcollm_secure.config import Config
from fedcollm_secure.learning.batches import Tokens, max_length
from fedcollm_secure.learning.evaluate import Evaluation
from fedcollm_secure.learning.models import choose_device, load_base, quiet, with_lora

Json = Mapping[str, object]


@dataclass(kw_only=True)
class Read:
    """What a model read so far: tokens, with padding too, and passes."""

    real: int = 0
    padded: int = 0
    passes: int = 0

    def count(self, _model: nn.Module, _positional: tuple[object, ...], named: Mapping[str, object]) -> None:
        """Take note of a pass before it is made."""
        ids, mask = named["input_ids"], named["attention_mask"]
        if isinstance(ids, Tensor) and isinstance(mask, Tensor):
            self.padded += ids.numel()
            self.real += int(mask[:, -ids.shape[1] :].sum())
            self.passes += 1


def measure(config: Config, side: str) -> Json:
    """Return what scoring the test with this model, `llm` or `slm`, read, took and held."""
    source = config.models.llm if side == "llm" else config.models.slm
    base = load_base(source, f"models.{side}", choose_device(config.device))
    test = gather_for(config).test
    encoder = make_encoder(config, base, max_length(base.model))
    evaluation = Evaluation(test, encoder, tokens_per_batch=config.evaluate.tokens_per_batch)
    parameters = sum(each.numel() for each in base.model.parameters())
    model, read = with_lora(base, config.lora, seed=config.seed), Read()
    model.register_forward_pre_hook(read.count, with_kwargs=True)
    baseline, start = peak_mib(), time.process_time()
    evaluation.score(model)
    return {
        "parameters": parameters,
        "records": len(test),
        **_asked(evaluation.sequences),
        **vars(read),
        "cpu_seconds": {"score": time.process_time() - start},
        "peak_mib": peak_mib(),
        "baseline_mib": baseline,
    }


def _asked(sequences: Sequence[Tokens]) -> dict[str, int]:
    """Return the number of answers, and the tokens where each prompt is read once, and where once for each answer."""
    prompts = {sequence.prompt for sequence in sequences}
    return {
        "answers": len(sequences),
        "prompt_once": sum(map(len, prompts)) + sum(len(sequence.answer) - 1 for sequence in sequences),
        "per_answer": sum(sequence.width for sequence in sequences),
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    quiet()
    file, which, *keys = sys.argv[1:]
    sys.stdout.write(json.dumps(measure(configuration.load(Path(file), keys), which)))
