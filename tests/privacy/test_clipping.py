import math

import pytest
import torch

from fedcollm_privacy.clipping import clip_factors


def factor(norm: float, *, clip: float = 2.0, usable: bool = True) -> float:
    squared = torch.tensor([norm]).double().square()
    return clip_factors(squared, clip, usable=torch.tensor([usable])).item()


@pytest.mark.parametrize(("norm", "expected"), [(0.0, 1.0), (1e-30, 1.0), (1.0, 1.0), (4.0, 0.5), (2e15, 1e-15)])
def test_factor_follows_the_table(norm: float, expected: float) -> None:
    assert factor(norm) == pytest.approx(expected, rel=2e-6)


@pytest.mark.parametrize("norm", [math.nan, math.inf])
def test_gradient_that_is_not_finite_contributes_nothing(norm: float) -> None:
    assert factor(norm) == 0.0


def test_unusable_record_contributes_nothing() -> None:
    assert factor(1.0, usable=False) == 0.0


def test_contribution_is_never_longer_than_the_clip_norm() -> None:
    torch.manual_seed(0)
    norms = torch.logspace(-10, 10, 2001, dtype=torch.float64)

    assert (clip_factors(norms.square(), 0.3) * norms).max() <= 0.3


def test_factor_of_one_record_does_not_depend_on_the_others() -> None:
    together = clip_factors(torch.tensor([1.0, math.nan, 1e9, 25.0]), 2.0)

    assert [
        clip_factors(torch.tensor([value]), 2.0).item() for value in (1.0, math.nan, 1e9, 25.0)
    ] == together.tolist()


@pytest.mark.parametrize("clip", [0.0, -1.0, math.nan, math.inf])
def test_impossible_clip_norm_is_refused(clip: float) -> None:
    with pytest.raises(ValueError, match="clip_norm"):
        clip_factors(torch.ones(1), clip)
