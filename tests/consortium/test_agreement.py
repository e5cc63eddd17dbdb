"""A silo's law: each clause cites its line, and each has a plan that it refuses."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fedcollm_secure.config import parse
from fedcollm_secure.config.plan import Plan, make_plan_of, read_plan
from fedcollm_secure.config.policy import load_policy
from fedcollm_secure.consortium.agreement import Clause, hold
from fedcollm_secure.errors import ConfigError

LAW = """\
accept:
  consortium: pilot
data: {columns: [text, topic], rows: 5}
privacy:
  epsilon_total: 8.0
  delta_total: 2.0e-5
  epsilon_per_plan: 8.0
  delta_per_plan: 1.0e-5
sums:
  min_cohort: 3
  trust_region: 0.5
models: {max_rank: 4}
work: {rounds: 3}
"""

Trees = Callable[..., dict[str, object]]
PERSONS = {"unit": {"subject": {"column": "topic"}}, "silos_per_subject": 1}
DP = {"epsilon": 8.0, "delta": 1e-5, "clip_norm": 1.0, "sampling_rate": 0.2}


def plan_from(tree: dict[str, object], consortium: str = "pilot") -> Plan:
    return make_plan_of(
        parse(tree),
        nonce="00" * 16,
        consortium=consortium,
        epoch=1,
        roster="00" * 32,
        silos=("north", "south", "west"),
        digests=("11" * 32, "22" * 32),
        tokenizer="33" * 32,
        context=64,
        known=("eye", "skin"),
    )


def refused(tmp_path: Path, plan: Plan, law: str = LAW) -> dict[str, Clause]:
    path = tmp_path / "policy.yaml"
    path.write_text(law)
    policy, lines = load_policy(path)
    return {clause.key: clause for clause in hold(plan, policy, lines) if not clause.holds}


@pytest.fixture
def good(private: Trees) -> Trees:
    return lambda **changes: private(**{"aggregation": {"masked": {}}, "gates": {"trust_region": 0.5}, **changes})


def test_a_plan_within_all_limits_is_agreed_to(tmp_path: Path, good: Trees) -> None:
    assert not refused(tmp_path, plan_from(good()))


@pytest.mark.parametrize(
    ("changes", "key", "line"),
    [
        ({"rounds": 4}, "work.rounds", 13),
        ({"lora": {"rank": 8}}, "models.max_rank", 12),
        ({"lora": {"rank": 2, "rank_pattern": {"q_proj": 8}}}, "models.max_rank", 12),
        ({"lora": {"rank": 2, "modules_to_save": ["embed_tokens"]}}, "models.whole_modules", 0),
        ({"gates": {}}, "sums.trust_region", 11),
        ({"gates": {"trust_region": 0.6}}, "sums.trust_region", 11),
        ({"aggregation": {"unsafe_plain": {}}}, "sums.modes", 0),
        ({"aggregation": {"bfv": {}}}, "sums.modes", 0),
        ({"privacy": {"non_private": {}}}, "privacy.non_private", 0),
        ({"security": {"colluding": 0}}, "sums.colluding", 0),
        ({"privacy": {"record_dp": {**DP, "epsilon": 0.1, "noise_multiplier": 0.9}}}, "privacy.noise", 0),
        ({"privacy": {"record_dp": {**DP, **PERSONS}}}, "privacy.person", 0),
        ({"security": {"adversary": "semi_honest"}}, "sums.adversary", 0),
        ({"security": {"allow_two_party": True, "min_cohort": 2}}, "sums.min_cohort", 10),
    ],
)
def test_each_clause_refuses(tmp_path: Path, good: Trees, changes: dict[str, object], key: str, line: int) -> None:
    found = refused(tmp_path, plan_from(good(**changes)))
    assert key in found
    assert found[key].line == line
    assert "REFUSES" in found[key].words


def test_who_asks_for_what_is_held_to_the_law(tmp_path: Path, good: Trees) -> None:
    plan = plan_from(good())
    assert refused(tmp_path, plan_from(good(), consortium="other")).keys() == {"accept.consortium"}
    assert refused(tmp_path, plan, LAW.replace("[text, topic]", "[text]")).keys() == {"data.columns"}
    assert refused(tmp_path, plan, LAW.replace("epsilon_per_plan: 8.0", "epsilon_per_plan: 7.9")).keys() == {
        "privacy.epsilon_per_plan"
    }
    assert refused(tmp_path, plan, LAW.replace("delta_per_plan: 1.0e-5", "delta_per_plan: 1.0e-6")).keys() == {
        "privacy.delta_per_plan"
    }
    assert refused(tmp_path, plan, LAW.replace("max_rank: 4", f"slm: ['{'44' * 32}']")).keys() == {"models.slm"}
    only = LAW.replace("consortium: pilot", f"consortium: pilot\n  plans: ['{'55' * 32}']")
    assert refused(tmp_path, plan, only).keys() == {"accept.plans"}
    assert not refused(tmp_path, plan, only.replace("55" * 32, plan.digest))


@pytest.mark.parametrize(
    "law", [LAW + "hours: always\n", LAW.replace("delta_total", "deltas"), "accept: {consortium: x}\n"]
)
def test_a_law_with_an_unknown_or_a_missing_key_is_none(tmp_path: Path, good: Trees, law: str) -> None:
    with pytest.raises(ConfigError):
        refused(tmp_path, plan_from(good()), law)


def test_a_plan_has_one_text_and_no_path_in_it(tmp_path: Path, good: Trees) -> None:
    tree = good()
    plan = plan_from(tree)
    assert str(tmp_path) not in plan.text
    assert str(tree["models"]) not in plan.text
    assert read_plan(plan.text) == plan
    assert read_plan(plan.text).digest == plan.digest
    assert replace(plan, nonce="01" * 16).digest != plan.digest
    with pytest.raises(ConfigError, match="spelt otherwise"):
        read_plan(plan.text.replace("epoch: 1", "epoch:  1"))
    with pytest.raises(ConfigError, match="unknown key"):
        read_plan(plan.text + "more: 1\n")


def test_a_plan_for_persons_must_mean_those_of_the_law(tmp_path: Path, good: Trees) -> None:
    plan = plan_from(good(privacy={"record_dp": {**DP, **PERSONS}}))
    law = LAW.replace("delta_per_plan: 1.0e-5", "delta_per_plan: 1.0e-5\n  person: topic")

    assert "privacy.person" not in refused(tmp_path, plan, law)


def test_what_a_plan_says_cannot_steer_the_terminal_that_shows_it() -> None:
    clause = Clause(key="data.columns", line=3, allows="text", asked="text\r\x1b[8m", holds=False)

    assert clause.words.isprintable()
