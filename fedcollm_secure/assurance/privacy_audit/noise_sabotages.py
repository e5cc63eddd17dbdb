"""Ways to get the noise wrong: missing in places or at times, too little, of another shape, or the same one again."""

import math
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import cast
from unittest.mock import patch

import numpy as np

from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure.assurance.privacy_audit.sabotage_scene import Float64, Scene, change_noise, silence

LATE = 3
CUT = 2.0


def no_noise(stack: ExitStack, _scene: Scene) -> None:
    """Add zeros."""
    silence(stack, lambda: True)


def layer_no_noise(stack: ExitStack, scene: Scene) -> None:
    """Leave one whole LoRA matrix without noise: the middle one."""

    def change(noise: Float64, _std: float) -> Float64:
        sizes = scene.sizes if sum(scene.sizes) == len(noise) else [len(noise) // 2, len(noise)]
        first = sum(sizes[: len(sizes) // 2])
        noise[first : first + sizes[len(sizes) // 2]] = 0.0
        return noise

    change_noise(stack, change)


def half_noise(stack: ExitStack, _scene: Scene) -> None:
    """Give every other entry none, and the rest √2 times as much: the same over all."""

    def change(noise: Float64, _std: float) -> Float64:
        noise[::2] = 0.0
        return noise * 2**0.5

    change_noise(stack, change)


def optimizer_no_noise(stack: ExitStack, scene: Scene) -> None:
    """Add none under AdamW, and all of it under plain descent."""
    silence(stack, lambda: scene.optimizer == "adamw")


def late_rounds(stack: ExitStack, scene: Scene) -> None:
    """Add none from round LATE on."""
    silence(stack, lambda: scene.round >= LATE)


def other_silo(stack: ExitStack, scene: Scene) -> None:
    """Add none in one silo, not the largest."""
    silence(stack, lambda: scene.learner is not None and scene.learner.name == scene.silo)


def skip_empty(stack: ExitStack, scene: Scene) -> None:
    """Let a batch of nobody change nothing: it gets no noise."""
    silence(stack, lambda: not scene.batch)


def skip_last_empty(stack: ExitStack, scene: Scene) -> None:
    """Do that in the last round alone."""
    silence(stack, lambda: not scene.batch and scene.learner is not None and scene.round == scene.learner.rounds)


def small_share(stack: ExitStack, _scene: Scene) -> None:
    """Divide the variance by the cohort once more, as if the plan's were that of the whole noise."""
    share_variance = cast(Callable[[SharedPlan], int], SharedPlan.__dict__["share_variance"].fget)

    def divided(plan: SharedPlan) -> int:
        return max(9, share_variance(plan) // plan.silos)

    stack.enter_context(patch.object(SharedPlan, "share_variance", property(divided)))


def same_noise(stack: ExitStack, scene: Scene) -> None:
    """Draw noise once a silo and round, and use it at every step; a share once a silo, for all its rounds."""
    kept = dict[tuple[str, int, int], Float64]()

    def change(noise: Float64, _std: float) -> Float64:
        key = (_name(scene), scene.round if _steps(scene) > 1 else 0, len(noise))
        return kept.setdefault(key, noise.copy()).copy()

    change_noise(stack, change)


def pair_noise(stack: ExitStack, scene: Scene) -> None:
    """Take back at every second step what the step before added."""
    last = dict[tuple[str, int], Float64]()

    def change(noise: Float64, _std: float) -> Float64:
        key = (_name(scene), len(noise))
        if key in last:
            return -last.pop(key)
        last[key] = noise.copy()
        return noise

    change_noise(stack, change)


def batch_noise(stack: ExitStack, scene: Scene) -> None:
    """Scale the noise by the batch that was drawn, as a noisy mean over it would."""

    def change(noise: Float64, _std: float) -> Float64:
        return noise * scene.batch / _batch_size(scene)

    change_noise(stack, change)


def average_noise(stack: ExitStack, scene: Scene) -> None:
    """Draw noise for each microbatch and average it."""

    def change(noise: Float64, _std: float) -> Float64:
        at_once = scene.learner.rows if scene.learner is not None else 1
        averaged: Float64 = noise / math.sqrt(max(1, -(-scene.batch // at_once)))
        return averaged

    change_noise(stack, change)


def centred_noise(stack: ExitStack, _scene: Scene) -> None:
    """Centre the noise, so that it has no bias."""
    change_noise(stack, lambda noise, _: noise - noise.mean())


def cut_noise(stack: ExitStack, _scene: Scene) -> None:
    """Cut the noise at CUT standard deviations and widen what is left to the same variance."""

    def change(noise: Float64, std: float) -> Float64:
        cut: Float64 = np.clip(noise, -CUT * std, CUT * std)
        size = float(cut.std())
        widened: Float64 = cut * (std / size) if size else cut
        return widened

    change_noise(stack, change)


def laplace_noise(stack: ExitStack, _scene: Scene) -> None:
    """Draw from Laplace's distribution, of the same variance."""

    def change(noise: Float64, std: float) -> Float64:
        drawn: Float64 = np.random.default_rng().laplace(0.0, std / 2**0.5, noise.shape)
        return drawn

    change_noise(stack, change)


def half_precision(stack: ExitStack, _scene: Scene) -> None:
    """Draw the noise in float16."""

    def change(noise: Float64, std: float) -> Float64:
        return (noise / std).astype(np.float16).astype(np.float64) * std if std else noise

    change_noise(stack, change)


def seeded_noise(stack: ExitStack, scene: Scene) -> None:
    """Draw from a generator whose seed is made of the silo, the round and the step."""

    def change(noise: Float64, std: float) -> Float64:
        seed = [*_name(scene).encode(), scene.round, scene.step]
        drawn: Float64 = np.random.default_rng(seed).normal(0.0, std, noise.shape)
        return drawn

    change_noise(stack, change)


def _name(scene: Scene) -> str:
    return scene.learner.name if scene.learner is not None else ""


def _steps(scene: Scene) -> int:
    return (scene.learner.settings.steps or 1) if scene.learner is not None else 1


def _batch_size(scene: Scene) -> int:
    return scene.learner.settings.batch_size if scene.learner is not None else 1


NOISE_WAYS: Mapping[str, Callable[[ExitStack, Scene], None]] = {
    "layernonoise": layer_no_noise,
    "halfnoise": half_noise,
    "optimizernonoise": optimizer_no_noise,
    "laterounds": late_rounds,
    "othersilo": other_silo,
    "skipempty": skip_empty,
    "lastempty": skip_last_empty,
    "smallshare": small_share,
    "samenoise": same_noise,
    "pairnoise": pair_noise,
    "batchnoise": batch_noise,
    "averagenoise": average_noise,
    "centrednoise": centred_noise,
    "cutnoise": cut_noise,
    "laplacenoise": laplace_noise,
    "float16noise": half_precision,
    "seednoise": seeded_noise,
    "nonoise": no_noise,  # the last, whatever else is broken
}
