"""The two kinds of plan that a ledger can hold: noise of each silo's own, and noise that the silos share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from fedcollm_privacy.plan import RecordPlan
from fedcollm_privacy.shared_plan import SharedPlan

Plan: TypeAlias = RecordPlan | SharedPlan


def read_plan(tree: Mapping[str, object]) -> Plan:
    """Read what a plan's `as_json` wrote (`ValueError` for anything else)."""
    return SharedPlan.from_json(tree) if "honest" in tree else RecordPlan.from_json(tree)
