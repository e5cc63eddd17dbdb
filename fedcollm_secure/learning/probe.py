"""Ask a silo's model, on records that are made up, whether and how each record has a gradient of its own.

Nobody's data take part, and nothing is written or reserved: what cannot train is refused with the layers' names, and a
model whose layers do not keep records apart (a router, experts) is trained one record at a time.
"""

from dataclasses import replace

import numpy as np

from fedcollm_privacy.probe import RECORDS, probe
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.batches import Tokens
from fedcollm_secure.learning.models import first_line
from fedcollm_secure.learning.training import Learner

CRASHES = (AttributeError, IndexError, KeyError, NotImplementedError, RuntimeError, TypeError)
"""What a model's own code raises where an adapter sits on a module that does not bear one."""
LONGEST, ANSWER = 16, 3  # tokens of a made-up record
SPREAD = 0.05  # away from B = 0, where A has no gradient


def why_apart(learner: Learner, vocabulary: int) -> str:
    """Return why each record needs a forward pass of its own; empty where records can share one.

    With `microbatch` 1 nothing but whether the model can be trained is asked. Both factors of every LoRA product are
    tried, as the rounds train them. The adapter is left as it was.

    Raises:
        ConfigError: a trained matrix that no record reaches, by name; or a model that these targets break.
    """
    adapter, generator = learner.adapter, np.random.default_rng(0)
    start = adapter.read()
    if not len(start):
        raise ConfigError(
            "lora.targets", "expected names of linear layers, got none that has two LoRA matrices to train"
        )
    tried = replace(learner, records=_made_up(learner, vocabulary, generator), subjects=None)
    adapter.write((start + generator.normal(0.0, SPREAD, len(start))).astype(np.float32))
    try:
        reasons = [_ask(tried, number) for number in (1, 2)]  # a rule may take turns
    except ValueError as error:
        raise ConfigError("lora.targets", str(error)) from error
    except CRASHES as error:
        told = f"{type(error).__name__}: {first_line(error)}"
        raise ConfigError(
            "lora.targets",
            f"the model cannot be trained with its adapter where it is ({told}); name linear layers of attention and "
            "feed-forward parts instead",
        ) from error
    finally:
        adapter.write(start)
    return next((reason for reason in (_routed(adapter), *reasons) if reason), "")


def _routed(adapter: Adapter) -> str:
    """Say whether the model has experts: how many rows one gets, the other records of a pass decide too."""
    settings = vars(getattr(adapter.model, "config", None) or object)
    many = [name for name, value in settings.items() if "experts" in name and "per_tok" not in name and _above_1(value)]
    return f"the model sends rows to experts ({many[0]}: {settings[many[0]]})" if many else ""


def _above_1(value: object) -> bool:
    return isinstance(value, int) and value > 1


def _ask(learner: Learner, round_number: int) -> str:
    adapter = learner.adapter
    adapter.choose(learner.trains(round_number))
    return probe(
        model=adapter.model,
        parameters=adapter.parameters,
        losses=learner.losses,
        rows=learner.rows,
        dtype=adapter.computes_in,
        gradients=learner.gradients,
    )


def _made_up(learner: Learner, vocabulary: int, generator: np.random.Generator) -> list[Tokens]:
    """Return records of random tokens, of one shape and unlike lengths."""
    longest = min(LONGEST, learner.encoder.max_length)
    found: list[Tokens] = []
    for number in range(RECORDS):
        answer = min(ANSWER - number % 2, longest)
        prompt = max(1, longest - ANSWER - number)
        ids = generator.integers(0, vocabulary, prompt + answer).tolist()
        found.append(Tokens(prompt=tuple(ids[:prompt]), answer=tuple(ids[prompt:])))
    return found
