"""Noise in shares inside the masked sum: silo-level privacy, and DP-SGD whose every step is one sum."""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch

from fedcollm_crypto.aggregation import Chunks
from fedcollm_privacy import dpsgd
from fedcollm_privacy.discrete import discrete_gaussian
from fedcollm_privacy.plan import RecordPlan
from fedcollm_privacy.shared_plan import SharedPlan
from fedcollm_secure.assemble import Prepared, prepare, start
from fedcollm_secure.config import parse
from fedcollm_secure.engines.engine import Engine
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.federation import contribution
from fedcollm_secure.federation.guarantees import guarantees, visible_to
from fedcollm_secure.learning.factors import Deltas
from fedcollm_secure.learning.training import Learner, clip_vector
from fedcollm_secure.operations.check_command import check

Make = Callable[..., dict[str, object]]
MASKED = {"masked": {"clip": 1.0, "bits": 32}}
SILO = {"silo_dp": {"epsilon": 8.0, "delta": 1e-5, "clip_norm": 0.05, "least_signal_to_noise": 0.1}}
JOINT = {"record_dp": {"epsilon": 8.0, "delta": 1e-5, "clip_norm": 0.02, "sampling_rate": 0.2, "noise": "joint"}}
STEP = {"steps": 1, "batch_size": 8, "learning_rate": 5.0, "optimizer": "sgd"}


@pytest.fixture
def by_silo(tree: Make) -> Make:
    return lambda **changes: tree(**{"privacy": SILO, "aggregation": MASKED, "distill": {"steps": 0}, **changes})


@pytest.fixture
def joint(tree: Make) -> Make:
    def make(**changes: object) -> dict[str, object]:
        parts = {"privacy": JOINT, "aggregation": MASKED, "silo": STEP, "distill": {"steps": 0}}
        return tree(**{**parts, **changes})

    return make


def _run(prepared: Prepared, out: Path) -> list[Mapping[str, object]]:
    job = start(prepared, out, lambda _, __: None)
    lines = list(job.rounds())
    job.close()
    return lines


def _plan(prepared: Prepared) -> SharedPlan:
    assert isinstance(prepared.plan, SharedPlan)
    return prepared.plan


@pytest.fixture
def shares(monkeypatch: pytest.MonkeyPatch) -> list[np.ndarray]:
    """Return the noise that each silo draws, in order."""
    drawn: list[np.ndarray] = []

    def spy(length: int, variance: int) -> np.ndarray:
        drawn.append(discrete_gaussian(length, variance))
        return drawn[-1]

    monkeypatch.setattr(contribution, "discrete_gaussian", spy)
    return drawn


def test_a_silos_noise_is_its_share_and_the_sum_holds_all_of_them(
    by_silo: Make, tmp_path: Path, shares: list[np.ndarray]
) -> None:
    prepared = prepare(parse(by_silo(rounds=1)))
    theta, plan = prepared.server_slm.read(), _plan(prepared)
    updates = [prepared.learner(name).update(theta, 1) for name in prepared.silos]
    _run(prepared, tmp_path / "run")
    noise = np.sum(shares, axis=0) * plan.grid / len(shares)
    drawn = np.concatenate(shares) / np.sqrt(float(plan.share_variance))

    assert len(shares) == 4
    assert prepared.server_slm.read() - theta == pytest.approx(np.mean(updates, axis=0) + noise, abs=1e-6)
    assert np.abs(noise).max() > 1e-3
    assert np.std(drawn) == pytest.approx(1, abs=6 / np.sqrt(2 * len(drawn)))  # six of its standard deviations


class FirstAttemptLost:
    """An engine that loses two silos' consents in the first attempt, after every vector was sent."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._exchanges = 0

    def parties(self) -> Sequence[str]:
        return self._engine.parties()

    def wait(self, parties: Iterable[str], least: int) -> frozenset[str]:
        return self._engine.wait(parties, least)

    def exchange(self, requests: Mapping[str, bytes]) -> Iterator[tuple[str, Chunks]]:
        self._exchanges += 1
        for party, reply in self._engine.exchange(requests):
            if self._exchanges != 6 or party in ("silo-1", "silo-2"):
                yield party, reply


def test_a_repeated_attempt_sends_the_same_noise(by_silo: Make, tmp_path: Path, shares: list[np.ndarray]) -> None:
    job = start(prepare(parse(by_silo(rounds=1))), tmp_path / "run", lambda _, __: None)
    tools = job.coordinator._tools
    job.coordinator._tools = replace(tools, engine=FirstAttemptLost(tools.engine))
    list(job.rounds())
    job.close()
    ledger = (tmp_path / "run" / "silos" / "silo-3" / "ledger.jsonl").read_text()

    assert (tmp_path / "run" / "audit" / "log.jsonl").read_text().count("round_started") == 2
    assert len(shares) == 4  # a second noise on the same update would be a second look at it
    assert ledger.count('"release"') == 1


def test_noise_is_calibrated_for_the_fewest_honest_silos(by_silo: Make) -> None:
    plan = _plan(prepare(parse(by_silo())))

    assert (plan.silos, plan.honest) == (4, 2)  # of four silos three must stay, one of which may be in league
    total = np.sqrt(2.0 * plan.share_variance) * plan.grid
    assert total == pytest.approx(plan.noise_multiplier * 0.05, rel=1e-6)


def test_a_silos_update_is_clipped_to_the_tightened_norm(by_silo: Make) -> None:
    prepared = prepare(parse(by_silo(silo={"steps": 4, "batch_size": 8, "learning_rate": 0.5})))
    update = prepared.learner("silo-1").update(prepared.server_slm.read(), 1)

    assert np.linalg.norm(update.astype(np.float64)) == pytest.approx(_plan(prepared).tightened_clip_norm, rel=1e-6)
    assert _plan(prepared).tightened_clip_norm < 0.05


def test_an_update_that_diverged_counts_as_zero(by_silo: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    prepared = prepare(parse(by_silo()))
    monkeypatch.setattr(Learner, "_accumulate", lambda _, __: float("nan"))

    assert not np.any(prepared.learner("silo-1").update(prepared.server_slm.read(), 1))


def test_clipping_a_vector_shortens_it_and_never_lengthens_it() -> None:
    long, short = np.array([3.0, 4.0], dtype=np.float32), np.array([0.3, 0.4], dtype=np.float32)

    assert clip_vector(long, 1.0).tolist() == pytest.approx([0.6, 0.8])
    assert clip_vector(short, 1.0).tolist() == pytest.approx([0.3, 0.4])
    assert clip_vector(np.zeros(2, dtype=np.float32), 1.0).tolist() == [0, 0]
    assert clip_vector(np.array([np.inf, 1.0], dtype=np.float32), 1.0).tolist() == [0, 0]


def test_the_ring_holds_the_noise(by_silo: Make) -> None:
    prepared = prepare(parse(by_silo()))

    assert prepared.encoding.noise_allowance == _plan(prepared).noise_allowance > 0
    assert prepared.encoding.largest_sum < 2 ** (prepared.encoding.ring_bits - 1)


def test_a_plan_whose_noise_drowns_everything_is_refused(by_silo: Make) -> None:
    useless = {"silo_dp": {"epsilon": 0.1, "delta": 1e-5, "clip_norm": 0.05}}

    with pytest.raises(ConfigError, match="noise would drown the updates: with 4 silos, 64 parameters") as refused:
        prepare(parse(by_silo(privacy=useless)))
    assert refused.value.exit_code == 2


def test_a_run_of_silo_dp_is_paid_for_and_says_so(by_silo: Make, tmp_path: Path) -> None:
    config = parse(by_silo())
    lines = _run(prepare(config), tmp_path / "run")
    said = {row.property: row for row in guarantees(config)}
    spent = cast(Mapping[str, Mapping[str, float]], lines[-1]["silos"])

    assert all(0 < each["epsilon"] <= 8.0 for each in spent.values())
    assert said["A silo's whole contribution is protected in the sum"].holds
    assert "noise that the silos share" in visible_to(config, 4)["server"]
    assert check(config)["unit"] == {"unit": "silo", "epsilon": 8.0, "delta": 1e-5}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"aggregation": {"unsafe_plain": {}}}, "protects the sum alone; use masked or bfv"),
        ({"factors": "exact"}, "exact sends two vectors a round"),
        ({"silo": {"steps": 1, "weighting": "examples"}}, "expected uniform under silo_dp"),
        ({"silo": {"steps": 1, "optimizer_state": "kept"}}, "kept is not offered under silo_dp"),
        ({"privacy": {"silo_dp": {**SILO["silo_dp"], "epsilon": 0}}}, "epsilon: expected a positive number"),
    ],
)
def test_what_does_not_fit_silo_dp_is_refused(by_silo: Make, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(by_silo(**changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"silo": {**STEP, "steps": 2}}, "silo.steps: expected 1 under noise: joint"),
        ({"factors": "rolora"}, "rolora does not fit noise: joint"),
        ({"aggregation": {"unsafe_plain": {}}}, "protects the sum alone; use masked or bfv"),
        ({"silo": {**STEP, "weight_decay": 0.1}}, "weight_decay: expected 0"),
        ({"privacy": {"record_dp": {**JOINT["record_dp"], "noise_multiplier": 1.0}}}, "is calibrated to epsilon"),
        (
            {"privacy": {"record_dp": {**JOINT["record_dp"], "unit": {"subject": "site"}, "silos_per_subject": 2}}},
            "expected 1 under noise: joint",
        ),
    ],
)
def test_what_does_not_fit_joint_noise_is_refused(joint: Make, changes: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse(joint(**changes))


class Recorded:
    """A source of randomness that remembers nothing but repeats itself: the same bytes for the same seed."""

    def __init__(self, seed: int) -> None:
        self._stream = np.random.default_rng(seed)

    def __call__(self, size: int) -> bytes:
        return self._stream.bytes(size)


def test_joint_steps_equal_central_dp_sgd_with_the_same_draws_and_the_same_noise(
    joint: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shares: list[np.ndarray]
) -> None:
    """Every silo's draw and noise as one central loop would have them: T steps in float64 end in the same adapter."""
    rounds = 3
    prepared = prepare(parse(joint(rounds=rounds)))
    plan, theta = _plan(prepared), prepared.server_slm.read()
    draws = iter(Recorded(seed) for seed in range(100))
    original = dpsgd.gradient_sum
    monkeypatch.setattr(dpsgd, "gradient_sum", lambda **kw: original(**{**kw, "random": next(draws)}))
    _run(prepared, tmp_path / "run")
    joint_theta = prepared.server_slm.read()

    central, seed = theta.astype(np.float64), 0
    adapter = prepared.silo_slm
    for step in range(rounds):
        total = np.zeros(len(theta))
        for name in prepared.silos:
            learner = prepared.learner(name)
            adapter.write(central.astype(np.float32))
            total += original(
                model=adapter.model,
                parameters=adapter.parameters,
                clip_norm=plan.tightened_clip_norm,
                sampling_rate=plan.sampling_rate,
                population=len(learner.records),
                losses=learner._losses,
                random=Recorded(seed),
            ).numpy()
            seed += 1
        noise = np.sum(shares[step * 4 : step * 4 + 4], axis=0) * plan.grid * plan.batch_size
        central -= 5.0 * (total + noise) / plan.batch_size

    assert joint_theta == pytest.approx(central, abs=2e-6)
    assert np.abs(central - theta).max() > 1e-2


def test_an_empty_draw_is_noise_alone_and_no_error(joint: Make) -> None:
    prepared = prepare(parse(joint()))
    learner = prepared.learner("silo-1")
    plan = replace(_plan(prepared), sampling_rate=1e-9)

    assert not np.any(replace(learner, plan=plan).update(prepared.server_slm.read(), 1))


def test_one_record_moves_the_gradient_by_no_more_than_its_share(joint: Make) -> None:
    prepared = prepare(parse(joint()))
    plan, learner = replace(_plan(prepared), sampling_rate=1.0, noise_multiplier=9.0), prepared.learner("silo-1")
    theta = prepared.server_slm.read()
    whole = replace(learner, plan=plan).update(theta, 1).astype(np.float64)
    without = replace(learner, plan=plan, records=learner.records[1:]).update(theta, 1)

    assert 0.9 * plan.sensitivity < np.linalg.norm(whole - without) <= plan.sensitivity


def test_joint_noise_is_smaller_than_the_noise_of_silos_on_their_own(joint: Make) -> None:
    """The noise of the mean gradient, for one record's clip norm: σ·C/√n alone, σ·C·√(n/h)/n together."""
    plan = _plan(prepare(parse(joint())))
    own = RecordPlan.calibrated(
        epsilon=8.0, delta=1e-5, clip_norm=0.02, sampling_rate=0.2, steps_per_round=1, rounds=2, batch_size=8
    )
    alone = own.noise_multiplier * own.clip_norm / np.sqrt(4)
    together = np.sqrt(4.0 * plan.share_variance) * plan.grid * plan.batch_size / 4

    assert together == pytest.approx(alone / np.sqrt(plan.honest), rel=0.01)


def test_joint_training_with_adamw_keeps_its_state_between_rounds(joint: Make, tmp_path: Path) -> None:
    silo = {**STEP, "optimizer": "adamw", "learning_rate": 0.01}
    prepared = prepare(parse(joint(silo=silo)))
    lines = _run(prepared, tmp_path / "run")

    assert isinstance(prepared.rule, Deltas)
    assert (tmp_path / "run" / "server" / "joint.safetensors").is_file()
    assert json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1]) == lines[-1]
    assert torch.isfinite(torch.from_numpy(prepared.server_slm.read())).all()


def test_shared_noise_goes_through_ciphertexts_with_masks_inside(
    by_silo: Make, tmp_path: Path, shares: list[np.ndarray]
) -> None:
    prepared = prepare(parse(by_silo(rounds=1, aggregation={"bfv": {"bits": 24}})))
    theta, plan = prepared.server_slm.read(), _plan(prepared)
    updates = [prepared.learner(name).update(theta, 1) for name in prepared.silos]
    _run(prepared, tmp_path / "run")
    expected = np.mean(updates, axis=0) + np.sum(shares, axis=0) * plan.grid / len(shares)

    assert prepared.server_slm.read() - theta == pytest.approx(expected, abs=plan.grid)
