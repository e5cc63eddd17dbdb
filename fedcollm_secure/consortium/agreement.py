"""A silo's law, held against a plan: each clause with its line in `policy.yaml`, what it allows, and what is asked.

The plan is checked before anything is opened; how many records there are is the silo's own business, and is held
against its law by itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from fedcollm_secure.config.plan import Plan
from fedcollm_secure.config.policy import Policy
from fedcollm_secure.config.protection import NonPrivate, PerSubject, RecordDP, SiloDP
from fedcollm_secure.config.schema import tag_of
from fedcollm_secure.errors import printable

ADVERSARIES = ("semi_honest", "malicious")  # the weaker first


@dataclass(frozen=True, kw_only=True)
class Clause:
    """One limit of the law: its key and line (0 where the file leaves it out), what it says, what the plan asks."""

    key: str
    line: int
    allows: str
    asked: str
    holds: bool

    @property
    def words(self) -> str:
        """Return the clause for a person."""
        where = f"line {self.line}" if self.line else "by default"
        verdict = "agrees" if self.holds else "REFUSES"
        return printable(f"{verdict}  {self.key} ({where}) allows {self.allows}; the plan asks {self.asked}")


class _Note(Protocol):
    def __call__(self, key: str, allows: object, asked: object, *, holds: bool) -> None: ...


def hold(plan: Plan, policy: Policy, lines: Mapping[str, int]) -> tuple[Clause, ...]:
    """Return every clause of the law, with what this plan asks of it."""
    found: list[Clause] = []

    def clause(key: str, allows: object, asked: object, *, holds: bool) -> None:
        found.append(Clause(key=key, line=lines.get(key, 0), allows=str(allows), asked=str(asked), holds=holds))

    accept, sums = policy.accept, policy.sums
    clause("accept.consortium", accept.consortium, plan.consortium, holds=plan.consortium == accept.consortium)
    named = accept.plans if isinstance(accept.plans, tuple) else ()
    allowed = accept.plans if isinstance(accept.plans, str) else ", ".join(each[:16] for each in named)
    clause("accept.plans", allowed, plan.digest[:16], holds=not named or plan.digest in named)
    columns = (*plan.data.task.columns, *_persons(plan))
    may = set(policy.data.columns)
    clause("data.columns", ", ".join(policy.data.columns), ", ".join(columns), holds=may >= set(columns))
    _privacy(plan, policy, clause)
    mode, security = tag_of(plan.aggregation), plan.security
    clause("sums.modes", ", ".join(sums.modes), mode, holds=mode in sums.modes)
    clause("sums.min_cohort", sums.min_cohort, security.min_cohort, holds=security.min_cohort >= sums.min_cohort)
    clause("sums.colluding", sums.colluding, security.colluding, holds=security.colluding >= sums.colluding)
    strong = ADVERSARIES.index(security.adversary) >= ADVERSARIES.index(sums.adversary)
    clause("sums.adversary", sums.adversary, security.adversary, holds=strong)
    hybrid = security.post_quantum or not sums.post_quantum
    clause("sums.post_quantum", sums.post_quantum, security.post_quantum, holds=hybrid)
    within = sums.trust_region is None or (plan.gates.trust_region or float("inf")) <= sums.trust_region
    clause("sums.trust_region", sums.trust_region, plan.gates.trust_region, holds=within)
    slm, models = plan.models.slm.digest, policy.models
    allowed = "any" if models.slm is None else ", ".join(each[:16] for each in models.slm)
    clause("models.slm", allowed, slm[:16], holds=models.slm is None or slm in models.slm)
    rank = max((plan.lora.rank, *(plan.lora.rank_pattern or {}).values()))
    clause("models.max_rank", models.max_rank, rank, holds=rank <= models.max_rank)
    whole = plan.lora.modules_to_save or ()
    may_be_whole = ", ".join(models.whole_modules) or "none"
    clause("models.whole_modules", may_be_whole, ", ".join(whole) or "none", holds={*whole} <= {*models.whole_modules})
    clause("work.rounds", policy.work.rounds, plan.rounds, holds=plan.rounds <= policy.work.rounds)
    return tuple(found)


def _privacy(plan: Plan, policy: Policy, clause: _Note) -> None:
    law, asked = policy.privacy, plan.privacy
    if isinstance(asked, NonPrivate):
        clause("privacy.non_private", law.non_private, "no differential privacy", holds=law.non_private)
        return
    unit = "silo" if isinstance(asked, SiloDP) else "subject" if isinstance(asked.unit, PerSubject) else "record"
    clause("privacy.units", ", ".join(law.units), unit, holds=unit in law.units)
    stated = asked.noise_multiplier if isinstance(asked, RecordDP) else None
    noise = "noise calibrated to epsilon" if stated is None else f"noise_multiplier {stated:g}, whatever that costs"
    clause("privacy.noise", "noise calibrated to epsilon", noise, holds=stated is None)
    if unit == "subject":
        (person,) = _persons(plan)
        clause("privacy.person", law.person or "no column of persons", person, holds=person == law.person)
    epsilon = asked.epsilon + plan.evaluate.own_epsilon
    clause("privacy.epsilon_per_plan", law.epsilon_per_plan, f"{epsilon:g}", holds=epsilon <= law.epsilon_per_plan)
    delta = law.delta_per_plan
    clause("privacy.delta_per_plan", f"{delta:g}", f"{asked.delta:g}", holds=asked.delta <= delta)


def _persons(plan: Plan) -> tuple[str, ...]:
    privacy = plan.privacy
    return (privacy.unit.column,) if isinstance(privacy, RecordDP) and isinstance(privacy.unit, PerSubject) else ()
