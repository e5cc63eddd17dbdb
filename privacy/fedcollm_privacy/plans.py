"""The three kinds of plan that a ledger can hold: noise of each silo's own, noise that silos share, a silo's own score.

The first two are what silos train under.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from fedcollm_privacy.plan import RecordPlan
from fedcollm_privacy.score_plan import ScorePlan
from fedcollm_privacy.shared_plan import SharedPlan

TrainingPlan: TypeAlias = RecordPlan | SharedPlan
Plan: TypeAlias = TrainingPlan | ScorePlan


def read_plan(tree: Mapping[str, object]) -> Plan:
    """Read what a plan's `as_json` wrote (`ValueError` for anything else)."""
    if "mechanism" in tree:
        return ScorePlan.from_json(tree)
    return SharedPlan.from_json(tree) if "honest" in tree else RecordPlan.from_json(tree)
