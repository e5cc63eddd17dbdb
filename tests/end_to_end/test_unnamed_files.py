"""A run that dies between a file and the line that names it verifies as incomplete, and resumes to a whole one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from fedcollm_secure.assemble import server_job
from fedcollm_secure.audit_log.events import Event, RoundStarted, RunResumed, RunStarted, SumDecrypted
from fedcollm_secure.audit_log.log import AuditLog
from fedcollm_secure.config import parse
from fedcollm_secure.operations.run_command import run
from fedcollm_secure.operations.verify_command import verify_directory
from tests.end_to_end.conftest import Quiet
from tests.second_verifier import needs_node, node

Make = Callable[..., dict[str, Any]]
MASKED = {"masked": {}}
BFV = {"bfv": {"clip": 1.0, "bits": 16, "decryptor": "auditor"}}
DEATHS: dict[str, tuple[dict[str, Any], type[Event], str]] = {
    "before a round is named": (MASKED, RoundStarted, "manifests/1-1.json"),
    "before an opening is": (BFV, SumDecrypted, "statements/"),
    "before what is installed is": (MASKED, RunStarted, "environments/"),
    "before what is installed now is": (MASKED, RunResumed, "environments/"),
}


class Killed(BaseException):
    """Nobody catches it."""


@pytest.fixture
def deadly(monkeypatch: pytest.MonkeyPatch) -> Callable[[type[Event] | None], None]:
    """Return a function that has the log die where it would name this, or go on as it does."""
    real = AuditLog.append

    def until(kind: type[Event] | None) -> None:
        def append(log: AuditLog, event: Event) -> None:
            if kind is not None and isinstance(event, kind):
                raise Killed
            real(log, event)

        monkeypatch.setattr(AuditLog, "append", append)

    return until


@needs_node
@pytest.mark.parametrize("name", DEATHS)
def test_a_file_that_a_crash_kept_from_being_named_is_no_forgery(
    name: str,
    tree: Make,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    deadly: Callable[[type[Event] | None], None],
) -> None:
    aggregation, kind, left = DEATHS[name]
    config, out = parse(tree(rounds=1, aggregation=aggregation)), tmp_path / "run"
    deadly(RoundStarted if kind is RunResumed else kind)
    with pytest.raises(Killed):
        run(config, out, resuming=False, show=Quiet())
    if kind is RunResumed:
        monkeypatch.setattr(server_job, "installed", lambda installed=server_job.installed: installed() + "zzz==1 -\n")
        deadly(kind)
        with pytest.raises(Killed):
            run(config, out, resuming=True, show=Quiet())

    code, found = verify_directory(out, None, None)
    assert code == node(out)[0] == 3, (found["reason"], node(out))
    assert left in str(found["reason"])
    assert left in node(out)[1]["reason"]

    deadly(None)
    run(config, out, resuming=True, show=Quiet())

    assert verify_directory(out, None, None)[0] == node(out)[0] == 0
