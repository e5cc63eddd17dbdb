"""Read tokens back from a LoRA update: the gradient of the first block's A lies in the span of the tokens' inputs.

    ∇A = Σ_t (Bᵀ g_t) x_tᵀ, and x_t is the normalised embedding of token t, which everybody can compute

So the rows of ΔA span the tokens that were read, and a token of the vocabulary whose x_v lies in that span was read.
Where A is fixed (FFA-LoRA) the rows of ΔB span A x_t instead, of which r alone can be told apart.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from fedcollm_privacy.plan import RecordPlan
from fedcollm_secure.config.models import Lora, ModelSource
from fedcollm_secure.config.training import LocalTraining
from fedcollm_secure.learning.adapter import Adapter
from fedcollm_secure.learning.batches import Encoder, max_length
from fedcollm_secure.learning.models import load_base, quiet, with_lora
from fedcollm_secure.learning.training import Learner
from fedcollm_secure.learning.vectors import Float32

Float64 = NDArray[np.float64]
Factor = Literal["A", "B"]
FIRST_BLOCK = ".layers.0.self_attn."
READERS = ("q_proj", "k_proj", "v_proj")
"""The layers that read the tokens' embeddings before anything is mixed."""


@dataclass(frozen=True, kw_only=True)
class Shape:
    """How a silo trains: the rank, what travels (A and B, or B alone), the optimiser, and DP-SGD's plan if any."""

    rank: int = 32
    factors: Literal["fedavg", "ffa"] = "fedavg"
    training: LocalTraining = field(
        default_factory=lambda: LocalTraining(steps=5, batch_size=2, learning_rate=0.1, optimizer="sgd")
    )
    plan: RecordPlan | None = None


class World:
    """The embedded small model, silos with two records each, and what anybody can compute from the public base."""

    def __init__(self, records: Mapping[str, Sequence[tuple[str, str]]], shape: Shape) -> None:
        """Load the model and attach an adapter of this shape."""
        quiet()
        base = load_base(ModelSource(source="embedded:slm"), "models.slm", torch.device("cpu"))
        self._encoder = Encoder(base.tokenizer, max_length(base.model), end_answers=False)
        self._records = {silo: self._encoder.encode(pairs) for silo, pairs in records.items()}
        self._shape = shape
        self.vocabulary = len(base.tokenizer)
        self._adapter = Adapter(with_lora(base, Lora(rank=shape.rank, alpha=2 * shape.rank), seed=1), shape.factors)
        self._start = self._adapter.read()

    def tokens(self, silos: Sequence[str]) -> set[int]:
        """Return the distinct tokens that the models of these silos read."""
        rows = [row for silo in silos for row in self._records[silo]]
        return {token for row in rows for token in (*row.prompt, *row.answer[:-1])}

    def update(self, silo: str) -> Float32:
        """Train one silo as any run does."""
        learner = Learner(
            adapter=self._adapter,
            encoder=self._encoder,
            records=self._records[silo],
            settings=self._shape.training,
            rounds=1,
            seed=1,
            name=silo,
            plan=self._shape.plan,
        )
        return learner.update(self._start, 1)

    def recovered(self, update: NDArray[np.floating], silos: Sequence[str]) -> int:
        """Return how many of the silos' n tokens are among the n that lie nearest to the update's span."""
        truth = self.tokens(silos)
        factor: Factor = "A" if self._shape.factors == "fedavg" else "B"
        near = nearness(self._rows(update, factor), self._inputs(factor), dimensions=len(truth))
        return len(truth & set(np.argsort(-near)[: len(truth)].tolist()))

    def _rows(self, update: NDArray[np.floating], factor: Factor) -> list[Float64]:
        """Return, for each reader, ΔA float64[r, d_in] or ΔBᵀ's rows float64[d_out, r]."""
        parts: list[Float64] = []
        first = 0
        for name, shape in self._adapter.schema.shapes.items():
            size = int(np.prod(shape))
            if FIRST_BLOCK in name and f".lora_{factor}." in name and any(reader in name for reader in READERS):
                parts.append(update[first : first + size].reshape(shape).astype(np.float64))
            first += size
        return parts

    @torch.no_grad()
    def _inputs(self, factor: Factor) -> list[Float64]:
        """Return, for each reader in the adapter's order, what each token of the vocabulary gives it, float64[V, d]."""
        self._adapter.write(self._start)
        seen: dict[str, Tensor] = {}
        handles = [
            module.register_forward_pre_hook(_keep(seen, name))
            for name, module in self._adapter.model.named_modules()
            if FIRST_BLOCK in name
            and name.endswith(f".lora_{factor}.default")
            and any(reader in name for reader in READERS)
        ]
        self._adapter.model(input_ids=torch.arange(self.vocabulary).unsqueeze(1), use_cache=False)
        for handle in handles:
            handle.remove()
        return [seen[name][:, 0].double().numpy() for name in sorted(seen)]


def nearness(rows: Sequence[Float64], inputs: Sequence[Float64], *, dimensions: int) -> Float64:
    """Return float64[V] in [0, 1]: the share of each token's input in the `dimensions` strongest directions of rows.

    Rows whose inputs are the same (ΔA of several layers) span one space together; otherwise the layers' shares are
    averaged.
    """
    shared = all(np.array_equal(inputs[0], each) for each in inputs)
    groups = [(np.concatenate(rows), inputs[0])] if shared else list(zip(rows, inputs, strict=True))
    shares: list[Float64] = []
    for part, features in groups:
        _, _, directions = np.linalg.svd(part, full_matrices=False)  # [·, d]
        lengths = np.linalg.norm(features, axis=1)
        inside = np.linalg.norm(features @ directions[:dimensions].T, axis=1)
        shares.append(inside / lengths)
    mean: Float64 = np.mean(shares, axis=0)
    return mean


def _keep(seen: dict[str, Tensor], name: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
    def hook(_module: nn.Module, arguments: tuple[Tensor, ...]) -> None:
        seen[name] = arguments[0]

    return hook
