"""Manifests and checkpoints of another run, roster, model or plan than the log's: both verifiers find them."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from fedcollm_crypto.checkpoint import Checkpoint
from fedcollm_secure.audit_log.events import RunFinished
from fedcollm_secure.operations.verify_command import verify_log
from tests.second_verifier import needs_node, node

pytestmark = needs_node

Begin = Callable[..., Any]
DIGEST, OTHER = "ab" * 32, "cd" * 32


def both(log: Any) -> tuple[int, int | None, str]:
    """Return exit code, first bad entry and our reason, on which both agree."""
    code, found = node(log.folder / "audit")
    ours, ours_found = verify_log(log.path, None, None)
    assert (code, found["first_bad"]) == (ours, ours_found["first_bad"]), (found["reason"], ours_found["reason"])
    return ours, found["first_bad"], str(ours_found["reason"])


CONTRARY: dict[str, tuple[Mapping[str, Any], str]] = {
    "another session": ({"session_id": "another"}, "is of another run"),
    "another consortium": ({"consortium_id": "others"}, "another consortium, epoch, policy or server"),
    "another epoch": ({"epoch": 2}, "another consortium, epoch, policy or server"),
    "another policy": ({"policy_hash": OTHER}, "another consortium, epoch, policy or server"),
    "another server": ({"server": "north"}, "another consortium, epoch, policy or server"),
    "another base model": ({"base_model_hash": OTHER}, "another base model or privacy plan than the first"),
    "a plan where there is none": ({"dp_plan_hash": OTHER}, "a privacy plan, or none, otherwise than run_started says"),
    "the head of another log": (
        {"log_checkpoint": Checkpoint(origin="fedcollm-secure/other", size=0, root=bytes(32)).text},
        "shown another log than this one",
    ),
}


@pytest.mark.parametrize("name", CONTRARY)
def test_a_manifest_that_contradicts_the_run_is_found(name: str, witnessed: Begin, tmp_path: Path) -> None:
    changes, reason = CONTRARY[name]
    log = witnessed(tmp_path / "run").extend(1)
    log.begin(2, **changes)
    log.attest()

    assert both(log)[:2] == (1, 2)
    assert reason in both(log)[2]


PLANS: dict[str, tuple[str, tuple[str, str], int]] = {
    "none": ("non_private", ("", ""), 0),
    "one": ("record_dp", (DIGEST, DIGEST), 0),
    "none where there is one": ("record_dp", ("", ""), 1),
    "two": ("record_dp", (DIGEST, OTHER), 1),
}


@pytest.mark.parametrize("name", PLANS)
def test_all_manifests_have_the_plan_that_the_run_has(name: str, witnessed: Begin, tmp_path: Path) -> None:
    privacy, plans, code = PLANS[name]
    log = witnessed(tmp_path / "run", privacy=privacy)
    for attempt, plan in enumerate(plans, start=1):
        log.begin(attempt, dp_plan_hash=plan)
    log.log.append(RunFinished(summary_digest=DIGEST))
    log.attest()

    assert both(log)[0] == code


def test_checkpoints_are_of_the_run_that_the_log_names(witnessed: Begin, tmp_path: Path) -> None:
    log = witnessed(tmp_path / "run", run_id="another")
    log.attest()

    assert both(log)[0] == 1
