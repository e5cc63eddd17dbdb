import ast
import itertools
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats

import fedcollm_privacy
from fedcollm_privacy.noise import gaussian

COUNT = 200_000


def test_dp_noise_has_the_asked_standard_deviation() -> None:
    noise = gaussian((COUNT,), 3.0).numpy()

    # The standard deviation of a sample's variance is σ² √(2/n), of its mean σ/√n: five of each.
    assert abs(noise.var() / 9.0 - 1.0) < 5 * math.sqrt(2 / COUNT)
    assert abs(noise.mean()) < 5 * 3.0 / math.sqrt(COUNT)


def test_dp_noise_is_normal() -> None:
    noise = gaussian((COUNT,), 1.0).numpy()

    assert stats.kstest(noise, "norm").pvalue > 1e-6
    assert abs(stats.kurtosis(noise)) < 5 * math.sqrt(24 / COUNT)


def test_dp_noise_of_wrong_scale_would_be_noticed() -> None:
    noise = gaussian((COUNT,), 1.05).numpy()

    assert stats.kstest(noise, "norm").pvalue < 1e-6
    assert abs(noise.var() - 1.0) > 5 * math.sqrt(2 / COUNT)


@pytest.mark.parametrize("lag", [1, COUNT // 4, COUNT // 2])
def test_dp_noise_coordinates_do_not_share_their_summands(lag: int) -> None:
    noise = gaussian((COUNT,), 1.0).numpy()
    shifted = np.roll(noise, lag)

    assert abs(np.corrcoef(noise, shifted)[0, 1]) < 5 / math.sqrt(COUNT)
    assert abs(np.corrcoef(noise**2, shifted**2)[0, 1]) < 5 / math.sqrt(COUNT)


def test_dp_noise_uses_each_random_byte_once() -> None:
    asked: list[int] = []

    def count(size: int) -> bytes:
        asked.append(size)
        return bytes(range(256)) * (size // 256) + bytes(size % 256)

    gaussian((10, 20), 1.0, count)

    assert asked == [10 * 20 * 4 * 8]


def test_dp_noise_matches_box_muller_by_hand() -> None:
    """One value is half the sum of four normals, from the four 53-bit uniforms (w + 1) / 2⁵³ of its four words."""
    u = [0.25, 0.5, 0.125, 0.75]
    stream = b"".join((int(each * 2**64) - 2**11).to_bytes(8, "little") for each in u)
    first, second = math.sqrt(-2 * math.log(u[0])), math.sqrt(-2 * math.log(u[1]))
    angles = 2 * math.pi * u[2], 2 * math.pi * u[3]
    expected = sum(
        radius * wave(angle)
        for (radius, angle), wave in itertools.product(zip((first, second), angles, strict=True), (math.cos, math.sin))
    )

    assert gaussian((1,), 2.0, lambda _: stream).item() == pytest.approx(2.0 * expected / 2)


@pytest.mark.parametrize("stream", [b"\0", b"\xff"])
def test_dp_noise_is_finite_at_both_ends_of_the_generator(stream: bytes) -> None:
    assert torch.isfinite(gaussian((7,), 1.0, lambda size: stream * size)).all()


def test_dp_noise_has_shape_and_dtype() -> None:
    noise = gaussian((2, 3), 0.0)

    assert noise.shape == (2, 3)
    assert noise.dtype == torch.float64
    assert not noise.any()


@pytest.mark.parametrize("std", [-1.0, float("nan"), float("inf")])
def test_dp_noise_of_impossible_scale_is_refused(std: float) -> None:
    with pytest.raises(ValueError, match="std"):
        gaussian((1,), std)


def test_csprng_noise_ignores_every_global_seed() -> None:
    draws = []
    for _ in range(2):
        torch.manual_seed(0)
        np.random.seed(0)
        draws.append(gaussian((8,), 1.0))

    assert not torch.equal(*draws)


SEEDABLE = {"rand", "randn", "randint", "randperm", "normal", "bernoulli", "multinomial", "manual_seed", "Generator"}
SEEDABLE |= {name + "_" for name in ("normal", "uniform", "random", "bernoulli", "exponential", "geometric", "cauchy")}
SEEDABLE |= {"rand_like", "randn_like", "randint_like", "dropout", "default_rng", "RandomState", "Poisson", "Normal"}


def seedable_names(source: str) -> list[str]:
    """Return what would draw from a seedable generator: `import random`, `np.random`, `torch.randn`, `x.normal_()` …"""
    found: list[str] = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            module = getattr(node, "module", None) or ""
            if module == "collections.abc":
                continue
            names = [module, *(alias.name for alias in node.names)]
            found += [name for name in names if name.split(".")[-1] in SEEDABLE | {"random", "distributions"}]
        if isinstance(node, ast.Attribute):
            owner = node.value.id if isinstance(node.value, ast.Name) else ""
            if node.attr in SEEDABLE or (node.attr == "random" and owner in {"np", "numpy", "torch"}):
                found.append(node.attr)
    return found


@pytest.mark.parametrize("path", sorted(Path(fedcollm_privacy.__file__).parent.rglob("*.py")), ids=lambda p: p.name)
def test_csprng_no_seedable_generator_is_used_in_the_privacy_room(path: Path) -> None:
    assert seedable_names(path.read_text()) == []


@pytest.mark.parametrize(
    "source",
    [
        "import random",
        "from random import gauss",
        "import numpy.random",
        "from torch import randn",
        "np.random.normal(0, 1)",
        "torch.randn(3)",
        "x.normal_()",
        "np.random.default_rng()",
    ],
)
def test_csprng_lint_notices_a_seedable_generator(source: str) -> None:
    assert seedable_names(source)
