"""What is installed is listed beside the log, and the log names the list."""

from pathlib import Path
from typing import Any

import pytest

from fedcollm_secure.audit_log.environment import check_environments, closure, installed
from fedcollm_secure.audit_log.log import read_log
from fedcollm_secure.errors import LogError


def test_the_list_names_the_program_and_what_it_needs() -> None:
    lines = installed().splitlines()

    names = [line.partition("==")[0] for line in lines]
    assert {"fedcollm-secure", "torch", "cryptography"} <= set(names)
    assert names == sorted(names)
    assert all(len(line.split()) == 2 for line in lines)


def test_a_distribution_that_is_not_there_is_left_out() -> None:
    assert closure("no-such-distribution") == {}


def test_a_list_that_was_changed_is_found_and_one_that_is_gone_is_named(witnessed: Any, tmp_path: Path) -> None:
    log = witnessed(tmp_path / "run")
    audit, entries = log.folder / "audit", read_log(log.path).entries
    (listed,) = (audit / "environments").iterdir()

    assert check_environments(audit, entries) == []

    listed.write_text("torch==0.0 -\n")
    with pytest.raises(LogError, match="not what the log names"):
        check_environments(audit, entries)

    listed.unlink()
    assert check_environments(audit, entries) == [f"environments/{listed.name} is missing"]
