"""The decryptor's signed statement of each opening stands beside the log, and two verifiers hold the log to it."""

import json
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.signed import Signed, sign
from fedcollm_secure import audit_log
from fedcollm_secure.audit_log import openings
from fedcollm_secure.audit_log.events import GatePassed, RoundClosed, StageAnswered, SumDecrypted
from fedcollm_secure.audit_log.log import read_log, read_public_key
from fedcollm_secure.audit_log.log_entry import Entry
from fedcollm_secure.audit_log.logged_parties import check_parties
from fedcollm_secure.audit_log.openings import check_openings
from fedcollm_secure.audit_log.roster_and_manifests import read_roster_of
from fedcollm_secure.audit_log.run_verification import verify_run
from fedcollm_secure.config import parse
from fedcollm_secure.errors import LogError
from fedcollm_secure.operations.run_command import run
from tests.end_to_end.conftest import Quiet

Json = Mapping[str, object]
SECOND_VERIFIER = Path(str(audit_log.__file__)).parent / "verifier" / "verify.mjs"
AGGREGATIONS = {
    "bfv": {"bfv": {"clip": 1.0, "bits": 16, "decryptor": "auditor"}},
    "ckks": {"ckks": {"clip": 1.0, "bits": 16, "decryptor": "auditor"}},
}


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return where the runs of this file stay, so that each is made once."""
    return tmp_path_factory.mktemp("runs")


@pytest.fixture(params=AGGREGATIONS)
def finished(request: pytest.FixtureRequest, kept: Path, tree: Callable[..., Json]) -> Path:
    """Return a finished run under encryption."""
    out = kept / request.param
    if not out.exists():
        run(parse(tree(rounds=1, aggregation=AGGREGATIONS[request.param])), out, resuming=False, show=Quiet())
    return out


@pytest.fixture
def copied(finished: Path, tmp_path: Path) -> Path:
    """Return a copy to change."""
    shutil.copytree(finished, tmp_path / "run")
    return tmp_path / "run"


def _events(out: Path, kind: str) -> list[Json]:
    lines = (out / "audit" / "log.jsonl").read_text().splitlines()
    return [event for line in lines if (event := json.loads(line)["event"])["type"] == kind]


def test_the_statement_is_the_decryptors_about_the_opened_sum(finished: Path) -> None:
    (event,) = _events(finished, "sum_decrypted")
    data = (finished / "audit" / "statements" / f"{event['statement_digest']}.json").read_bytes()

    assert Signed.decode(data).sender == event["decryptor"] == "auditor"
    assert sha256(data).hexdigest() == event["statement_digest"]
    assert verify_run(finished).incomplete is None


def test_the_log_names_who_answered_each_stage_and_what_passed(finished: Path) -> None:
    stages = _events(finished, "stage_answered")

    numbers = [stage["stage"] for stage in stages]
    assert numbers == sorted(set(numbers))
    assert stages[0]["accepted"] == ["auditor"]
    assert [gate["gate"] for gate in _events(finished, "gate_passed")] == ["range"]


def test_a_statement_that_was_changed_is_found(copied: Path) -> None:
    (path,) = (copied / "audit" / "statements").iterdir()
    path.write_bytes(path.read_bytes().replace(b"he-opened", b"he-0pened"))

    with pytest.raises(LogError, match="it is not the one that the log names"):
        verify_run(copied)


@pytest.mark.parametrize("folder", ["statements", "environments"])
def test_a_file_that_no_entry_names_is_found(copied: Path, folder: str) -> None:
    (copied / "audit" / folder / "more.txt").write_text("torch==0.0 -\n")

    with pytest.raises(LogError, match="is named by no entry of the log"):
        verify_run(copied)


def test_a_statement_of_another_kind_is_none(finished: Path) -> None:
    audit = finished / "audit"
    entries = read_log(audit / "log.jsonl").entries
    (entry,) = (entry for entry in entries if isinstance(entry.event, SumDecrypted))
    data = Signed.decode((audit / "statements" / f"{entry.event.statement_digest}.json").read_bytes())
    auditor = Identity.load("auditor", finished / "silos" / "auditor" / "identity.pem")
    roster = read_roster_of(audit, entries, read_public_key(audit / "log.pub"))
    assert roster is not None

    other = sign(auditor, "refusal", data.body).encode()
    event = replace(entry.event, statement_digest=sha256(other).hexdigest())

    with pytest.raises(ProtocolError, match="not by the decryptor"):
        openings._check_statement(audit, other, event, roster)


def test_a_sum_that_was_opened_after_its_round_was_closed_is_found(finished: Path) -> None:
    entries = list(read_log(finished / "audit" / "log.jsonl").entries)
    index = next(entry.index for entry in entries if isinstance(entry.event, SumDecrypted))
    late = entries.pop(index)
    place = 1 + next(place for place, entry in enumerate(entries) if isinstance(entry.event, RoundClosed))
    entries.insert(place, late)

    with pytest.raises(LogError, match="no silos agreed to it"):
        _check(finished, entries)


def test_a_statement_that_is_gone_is_missing_and_not_called_tampering(copied: Path) -> None:
    (path,) = (copied / "audit" / "statements").iterdir()
    path.unlink()

    assert f"statements/{path.name} is missing" in str(verify_run(copied).incomplete)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"opened_digest": "00" * 32}, "about another sum"),
        ({"ciphertexts_digest": "00" * 32}, "about another sum"),
        ({"key_digest": "00" * 32}, "under another key"),
        ({"parameters_digest": "00" * 32}, "under another key"),
        ({"decryptor": "server"}, "not by the decryptor"),
        ({"attempt": 7}, "no silos agreed to it"),
    ],
)
def test_a_log_that_says_otherwise_than_the_statement_is_found(
    finished: Path, changes: dict[str, Any], match: str
) -> None:
    """The keeper itself may write what it likes, and chain it: the statement stands against it."""
    entries = [
        replace(entry, event=replace(entry.event, **changes)) if isinstance(entry.event, SumDecrypted) else entry
        for entry in read_log(finished / "audit" / "log.jsonl").entries
    ]

    with pytest.raises(LogError, match=match):
        _check(finished, entries)


def test_a_sum_that_was_opened_twice_is_found(finished: Path) -> None:
    entries = list(read_log(finished / "audit" / "log.jsonl").entries)
    index = next(entry.index for entry in entries if isinstance(entry.event, SumDecrypted))
    entries.insert(index + 1, replace(entries[index], index=index + 1))

    with pytest.raises(LogError, match="was opened twice"):
        _check(finished, entries)


@pytest.mark.skipif(shutil.which("node") is None, reason="the second verifier needs Node.js")
def test_the_second_verifier_holds_the_log_to_the_statement_too(copied: Path) -> None:
    assert _node(copied) == 0

    (path,) = (copied / "audit" / "statements").iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"he-opened", b"he-0pened"))
    assert _node(copied) == 1

    path.unlink()
    assert _node(copied) == 3


def _check(out: Path, entries: Sequence[Entry]) -> list[str]:
    folder = out / "audit"
    roster = read_roster_of(folder, entries, read_public_key(folder / "log.pub"))
    return check_openings(folder, entries, roster)


def _node(out: Path) -> int:
    return subprocess.run(["node", str(SECOND_VERIFIER), str(out)], capture_output=True, check=False).returncode


@pytest.mark.parametrize(
    ("kind", "changes", "match"),
    [
        (StageAnswered, {"replies": {"ghost-hospital": "00" * 32}}, "others answered than were asked"),
        (GatePassed, {"round": 77}, "round 77, which did not begin"),
        (RoundClosed, {"contributors": ("nobody",)}, "not in the roster"),
    ],
)
def test_who_the_log_names_is_in_the_roster_and_was_asked(
    finished: Path, kind: type, changes: dict[str, Any], match: str
) -> None:
    folder = finished / "audit"
    entries = list(read_log(folder / "log.jsonl").entries)
    roster = read_roster_of(folder, entries, read_public_key(folder / "log.pub"))
    assert roster is not None
    check_parties(entries, roster)
    place = next(entry.index for entry in entries if isinstance(entry.event, kind))
    entries[place] = replace(entries[place], event=replace(entries[place].event, **changes))

    with pytest.raises(LogError, match=match):
        check_parties(entries, roster)
