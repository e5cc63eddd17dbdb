"""The server's part of DP-SGD with shared noise: one optimiser step from the noised sum of the silos' gradients."""

from dataclasses import dataclass
from pathlib import Path

import torch

from fedcollm_secure.config.training import LocalTraining
from fedcollm_secure.learning.factors.layout import Float64
from fedcollm_secure.learning.optimise import load_optimizer, make_optimizer, make_schedule, save_optimizer


@dataclass(frozen=True, kw_only=True)
class ServerStep:
    """The silos' optimiser settings, used once a round on their common gradient.

    Guarantee: it reads the noised sum alone, so it is post-processing and costs no ε.
    """

    settings: LocalTraining
    rounds: int
    silos: int
    optimizer_file: Path

    def __call__(self, mean: Float64, round_number: int) -> Float64:
        """Return the change of θ, float64[k], from the mean of Σ clip(∇) / batch_size over the silos in the sum.

        The gradient is that mean times the number of silos in the consortium: `batch_size` is the public normaliser of
        all silos' records together. Silos that are missing are taken to be like the others.
        """
        change = torch.nn.Parameter(torch.zeros(len(mean), dtype=torch.float64))
        optimizer = make_optimizer(self.settings.optimizer, [change], self.settings.learning_rate, 0.0)
        if round_number > 1:
            load_optimizer(optimizer, self.optimizer_file)
        make_schedule(optimizer, self.settings, total_steps=self.rounds, done=round_number - 1)
        change.grad = torch.from_numpy(mean * self.silos)
        optimizer.step()
        save_optimizer(optimizer, self.optimizer_file)
        found: Float64 = change.detach().numpy()
        return found
