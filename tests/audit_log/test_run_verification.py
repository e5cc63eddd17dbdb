"""A run directory verifies as a whole: any file the log vouches for is found when it was changed."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedcollm_crypto.keys import Identity
from fedcollm_privacy.ledger import Ledger
from fedcollm_secure.audit_log.events import RoundClosed, RunFinished, RunStopped
from fedcollm_secure.audit_log.file_digests import folder_digest, summary_digest
from fedcollm_secure.audit_log.journal import HeadRefused, Journal
from fedcollm_secure.audit_log.log import AuditLog, Head, read_log, read_public_key
from fedcollm_secure.audit_log.run_verification import verify_run
from fedcollm_secure.errors import LogError, RunError
from tests.witnessed_log import DIGEST, PLAN, lost_sum, round_closed, without_a_sum

Begin = Callable[..., Any]


def write_adapters(folder: Path, number: int) -> tuple[str, str]:
    for name in ("slm", "llm"):
        adapter = folder / "adapters" / name
        adapter.mkdir(parents=True, exist_ok=True)
        (adapter / "adapter_model.safetensors").write_bytes(f"{name} after round {number}".encode())
        (adapter / "adapter_config.json").write_text('{"r": 8}')
    return folder_digest(folder / "adapters" / "slm"), folder_digest(folder / "adapters" / "llm")


def spend(folder: Path, silo: str, number: int) -> str:
    path = folder / "silos" / silo / "ledger.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    with Ledger.open(path, population=silo, epsilon=8.0, delta=1e-5, simulated=True) as ledger:
        ledger.reserve(session="test", round=number, plan=PLAN)
        ledger.release(session="test", round=number, digest=DIGEST)
        return ledger.head


def close_round(log, number: int) -> None:
    folder = log.folder
    before = folder_digest(folder / "adapters" / "slm") if number > 1 else DIGEST
    small, large = write_adapters(folder, number)
    ledgers = {silo: spend(folder, silo, number) for silo in ("north", "south")}
    log.begin(1, number=number)
    log.log.append(lost_sum(number))
    said = {"adapter_before": before, "adapter_after": small, "llm_adapter_digest": large}
    spent = {"north": "1.5", "south": "1.5"}
    log.log.append(round_closed(number, ledgers=ledgers, epsilon=spent, **said))


def finish(log) -> None:
    summary: dict[str, object] = {"name": "test", "rounds_done": 2, "seconds": {"train": 1.5}}
    log.log.append(RunFinished(summary_digest=summary_digest(summary)))
    log.attest()
    summary["log"] = {"size": log.log.head.size, "root": log.log.head.root}
    (log.folder / "summary.json").write_text(json.dumps(summary, indent=1))


@pytest.fixture(scope="module")
def finished(witnessed: Begin, tmp_path_factory: pytest.TempPathFactory) -> Path:
    log = witnessed(tmp_path_factory.mktemp("finished") / "run", config="name: test\nrounds: 2\n")
    close_round(log, 1)
    log.attest()
    close_round(log, 2)
    log.attest()
    finish(log)
    return log.folder


@pytest.fixture
def run(finished: Path, tmp_path: Path) -> Path:
    return shutil.copytree(finished, tmp_path / "run")


@pytest.fixture
def killed(run: Path) -> Path:
    """The same run, killed after round 2: no summary, and no last entry, which nobody had cosigned yet."""
    drop_entries(run, 1)
    (run / "audit" / "checkpoints" / "8.txt").unlink()
    for journal in run.glob("silos/*/journal.jsonl"):
        journal.write_bytes(b"".join(journal.read_bytes().splitlines(keepends=True)[:-1]))
    (run / "summary.json").unlink()
    return run


def reopened(run: Path) -> AuditLog:
    """Go on with the log of `witnessed`, whose keeper's key is fixed."""
    keeper = Identity.generate("server", lambda count: hashlib.shake_256(b"server/0").digest(count))
    return AuditLog.open(run / "audit", keeper, "fedcollm-secure/test")


def drop_entries(run: Path, count: int) -> None:
    log = run / "audit" / "log.jsonl"
    log.write_bytes(b"".join(log.read_bytes().splitlines(keepends=True)[:-count]))


def test_a_finished_run_verifies(run: Path) -> None:
    verified = verify_run(run, public_key=read_public_key(run / "audit" / "log.pub"))

    summary = json.loads((run / "summary.json").read_text())
    assert verified.incomplete is None
    assert {"size": verified.entries, "root": verified.root} == summary["log"]
    assert verified.signed == verified.cosigned == verified.entries == 8


def replace_in(name: str, old: str, new: str) -> Callable[[Path], None]:
    def tamper(run: Path) -> None:
        text = (run / name).read_text()
        assert old in text
        (run / name).write_text(text.replace(old, new))

    return tamper


def copy_over(source: str, target: str) -> Callable[[Path], None]:
    def tamper(run: Path) -> None:
        shutil.copyfile(run / source, run / target)

    return tamper


def roll_back_ledger(run: Path) -> None:
    ledger = run / "silos" / "north" / "ledger.jsonl"
    ledger.write_bytes(b"".join(ledger.read_bytes().splitlines(keepends=True)[:-1]))


def cut_log_before_the_end(run: Path) -> None:
    lines = (run / "audit" / "log.jsonl").read_bytes().splitlines(keepends=True)
    (run / "audit" / "log.jsonl").write_bytes(b"".join([lines[0], lines[1], lines[3]]))


def edit_roster(old: str, new: str) -> Callable[[Path], None]:
    return replace_in("audit/roster.json", old, new)


TAMPERINGS: dict[str, tuple[Callable[[Path], object], str]] = {
    "score in the summary": (replace_in("summary.json", "1.5", "1.4"), "summary.json was changed"),
    "head in the summary": (replace_in("summary.json", '"size": 8', '"size": 7'), "names another head"),
    "summary that is no JSON": (replace_in("summary.json", "{", "["), "not JSON"),
    "summary that is a list": (lambda run: (run / "summary.json").write_text("[]"), "one JSON object"),
    "configuration": (replace_in("config.yaml", "test", "tests"), "config.yaml is not the configuration"),
    "adapter weights": (replace_in("adapters/slm/adapter_model.safetensors", "2", "1"), "adapters/slm is not"),
    "adapter scale": (replace_in("adapters/llm/adapter_config.json", "8", "9"), "adapters/llm is not"),
    "file beside the adapter": (lambda run: (run / "adapters/llm/x").touch(), "adapters/llm is not"),
    "file named to forge a digest": (lambda run: (run / "adapters/llm/x\ny").touch(), "newline or a backslash"),
    "link in the adapter": (lambda run: (run / "adapters/llm/x").symlink_to("/dev/null"), "is a link"),
    "ledger entry": (replace_in("silos/north/ledger.jsonl", '"round":1', '"round":0'), "silos/north/ledger.jsonl"),
    "ledger of somebody else": (
        copy_over("silos/south/ledger.jsonl", "silos/north/ledger.jsonl"),
        "replaced or rolled back",
    ),
    "ledger rolled back": (roll_back_ledger, "replaced or rolled back"),
    "ledger emptied": (
        lambda run: (run / "silos/north/ledger.jsonl").write_text("") and None,
        "no complete entry",
    ),
    "log entry deleted": (cut_log_before_the_end, "it says it is entry 3"),
    "log key": (lambda run: (run / "audit/log.pub").write_text("00" * 32 + "\n"), "small order"),
    "roster's policy": (edit_roster('"colluding":1', '"colluding":0'), "roster.json: the signature"),
    "roster that is no JSON": (edit_roster("{", "["), "roster.json: not canonical JSON"),
    "journal entry": (replace_in("silos/north/journal.jsonl", '"index":1', '"index":2'), "silos/north/journal.jsonl"),
}


@pytest.mark.parametrize("name", TAMPERINGS)
def test_whatever_the_log_vouches_for_cannot_be_changed(name: str, run: Path) -> None:
    tamper, reason = TAMPERINGS[name]
    tamper(run)

    with pytest.raises(LogError, match=reason):
        verify_run(run)


@pytest.fixture
def fork(witnessed: Begin, run: Path) -> Path:
    """Another log of the same name, by the same keeper, and cosigned by the same silos: no honest ones."""
    other = witnessed(run.parent / "fork").extend(1, 2, 3)
    return other.folder


def test_a_roster_of_another_epoch_is_stale_however_well_it_is_signed(witnessed: Begin, run: Path) -> None:
    other = witnessed(run.parent / "other", epoch=2)
    shutil.copyfile(other.folder / "audit" / "roster.json", run / "audit" / "roster.json")

    with pytest.raises(LogError, match="not the roster that the run was started under: it is stale") as caught:
        verify_run(run)
    assert caught.value.first_bad == 0


def test_a_silo_that_cosigned_another_log_shows_that_the_log_forked(run: Path, fork: Path) -> None:
    shutil.copyfile(fork / "silos/north/journal.jsonl", run / "silos/north/journal.jsonl")

    with pytest.raises(LogError, match="is not this log's: it forked"):
        verify_run(run)


def test_a_cosignature_of_another_head_does_not_verify(run: Path, fork: Path) -> None:
    mine, theirs = (
        (one / "audit/checkpoints/4.txt").read_text(encoding="utf-8").splitlines(keepends=True) for one in (run, fork)
    )
    forged = [theirs[place] if line.startswith("— north") else line for place, line in enumerate(mine)]
    (run / "audit/checkpoints/4.txt").write_text("".join(forged), encoding="utf-8")

    with pytest.raises(LogError, match="the cosignature of north does not verify"):
        verify_run(run)


def test_cosignatures_below_the_quorum_leave_the_last_entries_on_the_keepers_word(run: Path) -> None:
    path = run / "audit/checkpoints/8.txt"
    kept = [line for line in path.read_text(encoding="utf-8").splitlines(True) if not line.startswith("— west")]
    path.write_text("".join(kept), encoding="utf-8")

    found = verify_run(run)

    assert "cosigned by 2 of 3 silos, 3 are needed; from entry 7 on" in str(found.incomplete)
    assert (found.signed, found.cosigned) == (8, 7)


def test_without_the_roster_no_cosignature_counts(run: Path) -> None:
    (run / "audit/roster.json").unlink()

    assert "roster.json is missing, so no cosignature was checked" in str(verify_run(run).incomplete)


def test_a_tail_cannot_be_cut_where_a_silos_journal_is_at_hand(run: Path) -> None:
    drop_entries(run, 1)
    (run / "audit/checkpoints/8.txt").unlink()

    with pytest.raises(LogError, match=r"the log was cut: silos/north/journal\.jsonl holds a head of 8"):
        verify_run(run)


def test_a_silo_that_was_shown_another_log_says_so(run: Path) -> None:
    journal = Journal(run / "silos/north/journal.jsonl")
    note = (run / "audit/checkpoints/4.txt").read_text(encoding="utf-8")
    journal.append(HeadRefused(note=note, reason="forked_log"))
    journal.close()

    with pytest.raises(LogError, match="the silo was shown another log"):
        verify_run(run)


def test_a_log_that_was_rewritten_with_its_key_is_found_by_who_holds_the_key_or_a_head(
    witnessed: Begin, run: Path
) -> None:
    key, held = read_public_key(run / "audit/log.pub"), read_log(run / "audit/log.jsonl").head_at(2)
    other = witnessed(run.parent / "other", keeper="server/stranger", config="name: test\nrounds: 2\n")
    for number in (1, 2):
        close_round(other, number)
    finish(other)
    for name in ("adapters", "audit", "silos", "summary.json"):
        _replace(other.folder / name, run / name)
    assert verify_run(run).incomplete is None  # the directory alone cannot know: it vouches for itself

    with pytest.raises(LogError, match=r"the keeper did not sign it|roster\.json: the signature"):
        verify_run(run, public_key=key)
    with pytest.raises(LogError, match="rewritten"):
        verify_run(run, held=held)


def _replace(source: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
        shutil.copytree(source, target)
    else:
        shutil.copyfile(source, target)


def test_a_head_held_elsewhere_finds_a_tail_that_was_cut(run: Path) -> None:
    whole = verify_run(run)
    held = Head(size=whole.entries, root=whole.root)
    assert verify_run(run, held=held) == whole
    drop_entries(run, 1)
    shutil.rmtree(run / "audit" / "checkpoints")

    with pytest.raises(LogError, match="was cut"):
        verify_run(run, held=held)


def test_a_killed_run_is_incomplete_and_not_bad(killed: Path) -> None:
    assert verify_run(killed).incomplete == "the run did not finish; 2 rounds were closed"


def test_a_run_killed_while_it_wrote_to_the_log_is_incomplete(killed: Path) -> None:
    with (killed / "audit" / "log.jsonl").open("ab") as log:
        log.write(b'{"body":{"event"')

    assert "torn" in str(verify_run(killed).incomplete)


def test_a_run_killed_before_its_first_entry_is_incomplete(tmp_path: Path) -> None:
    AuditLog.create(tmp_path / "audit", Identity.generate("server"), "test")
    (tmp_path / "silos" / "north").mkdir(parents=True)
    (tmp_path / "silos" / "north" / "ledger.jsonl").touch()

    assert "never begun" in str(verify_run(tmp_path).incomplete)


def test_a_run_killed_between_the_log_and_the_adapters_is_incomplete(killed: Path) -> None:
    write_adapters(killed, 1)

    assert "did not finish" in str(verify_run(killed).incomplete)


def test_a_finished_run_must_hold_the_last_adapters(run: Path) -> None:
    write_adapters(run, 1)

    with pytest.raises(LogError, match="adapters/slm"):
        verify_run(run)


def test_a_killed_run_may_not_hold_older_or_foreign_adapters(killed: Path) -> None:
    write_adapters(killed, 0)

    with pytest.raises(LogError, match="adapters/slm"):
        verify_run(killed)


def test_a_run_killed_in_its_first_round_may_still_hold_the_initial_adapters(witnessed: Begin, tmp_path: Path) -> None:
    log = witnessed(tmp_path)
    small, _ = write_adapters(tmp_path, 0)
    for event in without_a_sum(1, adapter_before=small):
        log.log.append(event)
    assert "did not finish" in str(verify_run(tmp_path).incomplete)

    (tmp_path / "adapters" / "slm" / "adapter_config.json").write_text("{}")

    with pytest.raises(LogError, match="adapters/slm"):
        verify_run(tmp_path)


def test_a_stopped_run_that_was_not_closed_says_why(killed: Path) -> None:
    reopened(killed).append(RunStopped(reason="too_few_silos", rounds_done=2))

    assert "too_few_silos" in str(verify_run(killed).incomplete)


@pytest.mark.parametrize("name", ["summary.json", "config.yaml", "adapters/llm", "silos/north/ledger.jsonl"])
def test_what_is_missing_is_named_and_is_not_called_tampering(name: str, run: Path) -> None:
    path = run / name
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink()

    assert verify_run(run).incomplete == f"{name} is missing"


def test_entries_after_the_end_or_a_second_beginning_are_refused(run: Path, tmp_path: Path) -> None:
    log = reopened(run)
    log.append(RunStopped(reason="afterthought", rounds_done=2))
    with pytest.raises(LogError, match="follow run_finished") as caught:
        verify_run(run)
    assert caught.value.first_bad == 8

    other = AuditLog.create(tmp_path / "other" / "audit", Identity.generate("server"), "test")
    other.append(RunStopped(reason="no_beginning", rounds_done=0))
    with pytest.raises(LogError, match="begins with run_started"):
        verify_run(tmp_path / "other")


def test_a_folder_without_a_log_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is missing"):
        verify_run(tmp_path)


def test_a_folder_digest_can_be_repeated_with_coreutils(run: Path) -> None:
    command = "find . -type f -printf '%P\\n' | LC_ALL=C sort | xargs -d '\\n' sha256sum | sha256sum"

    printed = subprocess.run(["sh", "-c", command], cwd=run / "silos", capture_output=True, text=True, check=True)

    assert printed.stdout.split()[0] == folder_digest(run / "silos")


def test_a_summary_digest_leaves_out_the_log_and_nothing_else() -> None:
    summary = {"b": 1.5, "a": [1, None, "ä"]}
    assert summary_digest({**summary, "log": {"size": 3}}) == summary_digest(dict(reversed(summary.items())))
    assert summary_digest({**summary, "b": 1.25}) != summary_digest(summary)

    with pytest.raises(ValueError, match="not JSON compliant"):
        summary_digest({"loss": float("nan")})


@pytest.mark.parametrize("number", [1, 4])
def test_a_round_that_is_closed_twice_or_out_of_turn_is_found(killed: Path, number: int) -> None:
    log = reopened(killed)
    events = [entry.event for entry in read_log(killed / "audit" / "log.jsonl").entries]
    again = next(event for event in events if isinstance(event, RoundClosed))
    log.append(replace(again, round=number))

    with pytest.raises(LogError, match=f"round {number} is closed after round 2: rounds close once") as caught:
        verify_run(killed)
    assert caught.value.first_bad == log.head.size - 1
