"""Each rule against its definition with whole matrices in float64; sums alone reach the server."""

from collections.abc import Sequence

import numpy as np
import pytest

from fedcollm_secure.learning.adapter import Schema
from fedcollm_secure.learning.factors import ExactProducts, Pass, Rule, make_rule
from fedcollm_secure.learning.factors.layout import Layout
from fedcollm_secure.learning.factors.low_rank import cut_to_rank

RANK, SILOS = 3, 4
MODULES = {"k": (7, 12), "q": (16, 9)}  # height, width
SHAPES = {
    f"{name}.lora_{side}.default.weight": shape
    for name, (height, width) in MODULES.items()
    for side, shape in (("A", (RANK, width)), ("B", (height, RANK)))
}
SCHEMA = Schema(shapes=SHAPES)
LAYOUT = Layout(schema=SCHEMA)
ONLY_B = Schema(shapes={name: shape for name, shape in SHAPES.items() if ".lora_B." in name})


def _vector(seed: int, length: int = SCHEMA.length) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(length).astype(np.float32)


def _products(vector: np.ndarray) -> list[np.ndarray]:
    return [b @ a for b, a in (place.cut(vector) for place in LAYOUT.places)]


def _changes(rule: Rule, round_number: int, length: int = SCHEMA.length) -> list[np.ndarray]:
    """Return what each silo's training changed; a factor that is not trained stays."""
    mask = Layout(schema=SCHEMA if length == SCHEMA.length else ONLY_B).mask(rule.trained(round_number))
    return [np.where(mask, _vector(100 * round_number + silo, length), np.float32(0)) for silo in range(SILOS)]


def _merged(rule: Rule, start: np.ndarray, changes: Sequence[np.ndarray], round_number: int) -> np.ndarray:
    asked = Pass(round=round_number)
    means: list[np.ndarray] = []
    for number in range(rule.passes):
        if number:
            asked = Pass(round=round_number, number=number, basis=rule.basis(means[-1]))
        shares = [rule.share(start, change, asked) for change in changes]
        assert {share.shape for share in shares} == {(rule.length(asked),)}
        means.append(_mean(shares))
    return rule.merge(start, means, asked).theta


def _mean(shares: Sequence[np.ndarray]) -> np.ndarray:
    return np.asarray(np.mean(shares, axis=0, dtype=np.float64))


def _rule(name: str, silos: int = SILOS) -> Rule:
    return make_rule(name, ONLY_B if name == "ffa" else SCHEMA, silos=silos, seed=5)  # type: ignore[arg-type]


def test_fedavg_is_the_mean_of_both_factors_and_not_of_their_product() -> None:
    rule, start = _rule("fedavg"), _vector(0)
    changes = _changes(rule, 1)
    theta = _merged(rule, start, changes, 1)

    assert theta == pytest.approx(start + np.mean(changes, axis=0, dtype=np.float64), abs=1e-6)
    mean = np.mean([_products(start + change)[0] for change in changes], axis=0)
    assert np.abs(_products(theta)[0] - mean).max() > 0.1


def test_ffa_sends_b_alone() -> None:
    rule, start = _rule("ffa"), _vector(0, ONLY_B.length)
    changes = _changes(rule, 1, ONLY_B.length)

    assert _merged(rule, start, changes, 1) == pytest.approx(start + np.mean(changes, axis=0), abs=1e-6)


@pytest.mark.parametrize(("name", "round_number"), [("rolora", 1), ("rolora", 2), ("fedsvd", 1)])
def test_one_factor_at_a_time_gives_the_mean_of_products(name: str, round_number: int) -> None:
    rule, start = _rule(name), _vector(0)
    changes = _changes(rule, round_number)
    theta = _merged(rule, start, changes, round_number)

    for module, product in enumerate(_products(theta)):
        expected = np.mean([_products(start + change)[module] for change in changes], axis=0)
        assert product == pytest.approx(expected, abs=1e-5)


def test_rolora_sends_b_in_odd_rounds_and_a_in_even_ones() -> None:
    rule = _rule("rolora")

    assert [rule.trained(t) for t in (1, 2, 3, 4)] == ["B", "A", "B", "A"]
    assert [rule.length(Pass(round=t)) for t in (1, 2)] == [(7 + 16) * RANK, (12 + 9) * RANK]


def test_fedsvd_settles_on_the_same_product_with_orthonormal_rows_and_fixed_signs() -> None:
    rule, theta = _rule("fedsvd"), _vector(0)
    settled = rule.settle(theta)

    for place, before, after in zip(LAYOUT.places, _products(theta), _products(settled), strict=True):
        b, a = place.cut(settled)
        assert after == pytest.approx(before, abs=1e-5)
        assert a @ a.T == pytest.approx(np.eye(RANK), abs=1e-6)
        assert (a[np.arange(RANK), np.abs(a).argmax(axis=1)] > 0).all()
        assert b.T @ b == pytest.approx(np.diag(np.diag(b.T @ b)), abs=1e-5)
    assert rule.settle(settled) == pytest.approx(settled, abs=1e-5)


def test_fedsvd_keeps_a_ready_to_learn_where_b_is_zero() -> None:
    theta = _vector(0)
    for place in LAYOUT.places:
        b, a = place.cut(theta)
        place.put(theta, np.zeros_like(b), a)
    _, a = LAYOUT.places[0].cut(_rule("fedsvd").settle(theta))

    assert a @ a.T == pytest.approx(np.eye(RANK), abs=1e-6)


@pytest.mark.parametrize("name", ["fedavg", "rolora", "exact"])
def test_other_rules_settle_on_what_is_there(name: str) -> None:
    assert (_rule(name).settle(_vector(0)) == _vector(0)).all()


def _best(start: np.ndarray, changes: Sequence[np.ndarray]) -> tuple[list[np.ndarray], float]:
    """Return the best rank-r approximation of the mean product of each module, and what it leaves out."""
    approximations, lost, whole = [], 0.0, 0.0
    for module in range(len(MODULES)):
        mean = np.mean([_products(start.astype(np.float64) + change)[module] for change in changes], axis=0)
        u, s, vt = np.linalg.svd(mean)
        approximations.append((u[:, :RANK] * s[:RANK]) @ vt[:RANK])
        lost, whole = lost + (s[RANK:] ** 2).sum(), whole + (s**2).sum()
    return approximations, float(np.sqrt(lost / whole))


def test_exact_is_the_mean_of_products_cut_to_the_rank_with_its_error() -> None:
    rule, start = _rule("exact"), _vector(0)
    changes = _changes(rule, 1)
    first = Pass(round=1)
    means = [_mean([rule.share(start, change, first) for change in changes])]
    second = Pass(round=1, number=1, basis=rule.basis(means[0]))
    means.append(_mean([rule.share(start, change, second) for change in changes]))
    merged = rule.merge(start, means, second)
    expected, error = _best(start, changes)

    for product, best in zip(_products(merged.theta), expected, strict=True):
        assert product == pytest.approx(best, abs=2e-5)
    assert merged.cut_error == pytest.approx(error, abs=1e-6)
    assert error > 0.1


def test_exact_with_too_narrow_a_sketch_would_not_be_exact() -> None:
    start = _vector(0)
    rule = ExactProducts(layout=LAYOUT, silos=0, seed=5)  # s = r, below the rank of the mean
    theta = _merged(rule, start, _changes(rule, 1), 1)
    expected, _ = _best(start, _changes(rule, 1))

    assert np.abs(_products(theta)[1] - expected[1]).max() > 0.1


def test_exact_of_silos_that_agree_loses_nothing() -> None:
    rule, start, change = _rule("exact"), _vector(0), _vector(1)
    theta = _merged(rule, start, [change] * SILOS, 1)

    for product, expected in zip(_products(theta), _products(start + change), strict=True):
        assert product == pytest.approx(expected, abs=2e-5)


def test_a_pass_names_its_basis_in_what_the_manifest_says_of_the_vector() -> None:
    one, two = np.ones(4, dtype=np.float32), np.zeros(4, dtype=np.float32)
    named = {Pass(round=1, number=1, basis=basis).schema_digest("s") for basis in (one, two)}

    assert Pass(round=1).schema_digest("s") == "s"
    assert len({*named, "s"}) == 3


def test_a_rule_fits_its_own_passes_and_no_other() -> None:
    exact, once = _rule("exact"), _rule("fedavg")
    basis = np.zeros(exact.length(Pass(round=1)), dtype=np.float32)

    assert exact.fits(Pass(round=1))
    assert exact.fits(Pass(round=1, number=1, basis=basis))
    assert not exact.fits(Pass(round=1, number=1, basis=basis[1:]))
    assert not exact.fits(Pass(round=1, number=1, basis=np.full_like(basis, np.nan)))
    assert not exact.fits(Pass(round=1, number=2, basis=basis))
    assert not once.fits(Pass(round=1, number=1))
    assert not once.fits(Pass(round=1, basis=basis))


@pytest.mark.parametrize("name", ["fedsvd", "exact"])
def test_a_module_narrower_than_the_rank_is_refused(name: str) -> None:
    narrow = Schema(shapes={"q.lora_A.default.weight": (4, 3), "q.lora_B.default.weight": (8, 4)})

    with pytest.raises(ValueError, match=r"rank 4 exceeds the module's 8 x 3"):
        make_rule(name, narrow, silos=3, seed=0)  # type: ignore[arg-type]


def test_a_cut_to_full_rank_loses_nothing() -> None:
    left, right = _vector(1, 20).reshape(5, 4).astype(np.float64), _vector(2, 24).reshape(6, 4).astype(np.float64)
    cut = cut_to_rank(left, right, 4)

    assert cut.b @ cut.a == pytest.approx(left @ right.T, abs=1e-12)
    assert cut.lost == 0
