"""A silo's law: what it takes part in, whatever a plan asks. A key that is not here refuses the whole file.

Budgets have no default, as in every file of this program; a limit that is left out is written here as it then is.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import TypeAdapter

from fedcollm_secure.config.load import parse_as, read_map
from fedcollm_secure.config.require import require
from fedcollm_secure.config.setting import Setting, Several, Text
from fedcollm_secure.config.yaml12 import lines_of

POLICY_NAME = "policy.yaml"


@dataclass(frozen=True, kw_only=True)
class Accept(Setting):
    """For whom. `plans`: any that keeps to all limits, or these digests alone."""

    consortium: Text
    plans: Literal["any-within-limits"] | Several[Text] = "any-within-limits"


@dataclass(frozen=True, kw_only=True)
class DataLaw(Setting):
    """What may be read: these columns of the site's file; `rows`: at least so many records, or nobody is hidden."""

    columns: Several[Text]
    rows: int = 100


@dataclass(frozen=True, kw_only=True)
class PrivacyLaw(Setting):
    """What may be spent: by the data set in all (its ledger), and by one plan. `units`: whom a plan must protect.

    Plans add up in both, ε and δ: a data set whose `delta_total` is one plan's δ takes part in one plan.

    `person`: the column that names persons; a plan that protects subjects must mean these. `non_private`: whether a
    plan without differential privacy is taken at all; a data set takes part in one such plan and no other, since sums
    of two can be subtracted. Noise is always the one calibrated to a plan's ε.
    """

    epsilon_total: float
    delta_total: float
    epsilon_per_plan: float
    delta_per_plan: float
    units: Several[Literal["record", "subject", "silo"]] = ("record", "subject")
    person: Text | None = None
    non_private: bool = False

    def __post_init__(self) -> None:
        """Refuse numbers for which no guarantee exists."""
        for name in ("epsilon_total", "epsilon_per_plan"):
            value = getattr(self, name)
            require(0 < value < float("inf"), f"{name}: expected a positive number, got {value}")
        for name in ("delta_total", "delta_per_plan"):
            value = getattr(self, name)
            require(0 < value < 1, f"{name}: expected a number in (0, 1), got {value}")


@dataclass(frozen=True, kw_only=True)
class SumsLaw(Setting):
    """How a sum must be hidden; `trust_region`: the largest that a plan may allow, null for none asked."""

    modes: Several[Literal["masked"]] = ("masked",)
    min_cohort: int = 3
    colluding: int = 1
    adversary: Literal["malicious", "semi_honest"] = "malicious"
    post_quantum: bool = False
    trust_region: float | None = None


@dataclass(frozen=True, kw_only=True)
class ModelsLaw(Setting):
    """Which small models may be trained, by digest (null: whichever the site names), and what of them may travel.

    `max_rank`: of the LoRA pairs. `whole_modules`: which modules may train whole beside them (`lora.modules_to_save`).
    """

    slm: Several[Text] | None = None
    max_rank: int = 64
    whole_modules: Several[Text] = ()


@dataclass(frozen=True, kw_only=True)
class WorkLaw(Setting):
    """How much work: rounds of one plan."""

    rounds: int = 100


@dataclass(frozen=True, kw_only=True)
class Policy(Setting):
    """One silo's law."""

    accept: Accept
    data: DataLaw
    privacy: PrivacyLaw
    sums: SumsLaw = SumsLaw()
    models: ModelsLaw = ModelsLaw()
    work: WorkLaw = WorkLaw()


def load_policy(path: Path) -> tuple[Policy, dict[str, int]]:
    """Read a policy, and in which line each of its keys stands. Raises: ConfigError."""
    policy = parse_as(Policy, _reader(), read_map(path))
    return policy, lines_of(path.read_text(encoding="utf-8-sig"))


@cache
def _reader() -> TypeAdapter[Policy]:
    return TypeAdapter(Policy)
