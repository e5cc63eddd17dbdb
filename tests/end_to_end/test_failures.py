"""A command that fails under `--json` prints one document on stdout, whatever failed; exit codes stay what they are.

And a run that is stopped by a signal, or whose reader goes away, ends with a sentence or goes on.
"""

import argparse
import errno
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import yaml
from safetensors import SafetensorError

from fedcollm_crypto import errors as crypto_errors
from fedcollm_crypto.durable import NotDurable, NotWritten
from fedcollm_crypto.lines import InUse
from fedcollm_privacy import errors as privacy_errors
from fedcollm_secure import cli, errors
from fedcollm_secure.cli import make_parser
from fedcollm_secure.cli.failure import UsageError

Make = Callable[..., dict[str, object]]
PRIVATE = "patient Meier"  # stands for what an error that nobody foresaw may hold
FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "run/x")

CLASSES: list[tuple[Exception, str, str, int]] = [
    (UsageError("argument --seeds: invalid int value", "usage: …\n", "--seeds"), "usage", "--seeds", 2),
    (errors.ConfigError("privacy.record_dp.epsilon", "expected …"), "configuration", "privacy.record_dp.epsilon", 2),
    (errors.DataError("north.csv", "row 3: an empty cell"), "configuration", "north.csv", 2),
    (errors.NotStarted("x is not empty"), "not_started", "", 2),
    (errors.Interrupted("stopped by SIGTERM"), "interrupted", "", 3),
    (errors.DiskFailed("run/x", "run/x could not be written"), "disk", "run/x", 3),
    (errors.RunIncomplete("too few silos"), "incomplete", "", 3),
    (errors.RefusedByPolicy("the budget is exhausted"), "refused", "", 4),
    (errors.TrainingError("not finite"), "training_failed", "", 1),
    (errors.LogError("does not follow", 3), "log_does_not_verify", "", 1),
    (errors.RunError("config.yaml is not YAML"), "run_unreadable", "", 1),
    (errors.FedCoLLMError("something"), "failed", "", 1),
    (crypto_errors.TooFewSilos("sum", needed=3, left=1, dropped={}), "too_few_silos", "", 1),
    (crypto_errors.Refused("floor", "too few"), "silo_refused", "", 1),
    (crypto_errors.BadSum("range", "out of range"), "protocol_violation", "", 1),
    (crypto_errors.ProtocolError("malformed"), "protocol_violation", "", 1),
    (crypto_errors.CryptoError("no key"), "cryptography", "", 1),
    (
        privacy_errors.BudgetExhausted(quantity="epsilon", needed=9, spent=8, budget=8),
        "budget_exhausted",
        "",
        4,
    ),
    (privacy_errors.LedgerError("broken", 2), "ledger", "", 1),
    (privacy_errors.UnsupportedEvent(accountant="RDP", event="X"), "privacy", "", 1),
    (privacy_errors.PrivacyError("no"), "privacy", "", 1),
    (InUse("x is in use"), "in_use", "", 2),
    (NotWritten(Path("run/x"), FULL), "disk", "run/x", 3),
    (NotDurable(Path("run/x"), FULL), "disk", "run/x", 3),
    (FULL, "disk", "run/x", 3),
    (OSError("no number, no name"), "disk", "", 3),
    (PermissionError(errno.EACCES, "Permission denied", b"run/x"), "disk", "run/x", 3),
    (SafetensorError("Error while serializing: I/O error: No space left on device"), "disk", "", 3),
    (SafetensorError(PRIVATE), "internal", "", 1),
    (ValueError(PRIVATE), "internal", "", 1),
    (RuntimeError(PRIVATE), "internal", "", 1),
]


def failing(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def command(_: argparse.Namespace) -> int:
        raise error

    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    parser.set_defaults(command=command)
    monkeypatch.setattr(cli, "make_parser", lambda: parser)


@pytest.mark.parametrize(("error", "code", "key", "exit_code"), CLASSES, ids=lambda value: type(value).__name__)
def test_every_kind_of_error_is_one_document_with_its_code(
    error: Exception,
    code: str,
    key: str,
    exit_code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    failing(monkeypatch, error)
    assert cli.main(["--json"]) == exit_code
    told = json.loads(capsys.readouterr().out)

    assert list(told) == ["error"]
    assert list(told["error"]) == ["code", "key", "message", "remedy"]
    assert (told["error"]["code"], told["error"]["key"]) == (code, key)
    assert told["error"]["message"]
    assert told["error"]["remedy"]
    assert PRIVATE not in str(told)

    assert cli.main([]) == exit_code
    told = capsys.readouterr()
    assert told.out == ""
    assert "fedcollm-secure: " in told.err
    assert ("Traceback" in told.err) == (code == "internal")


def test_every_class_of_our_errors_is_among_these() -> None:
    def below(kind: type[Exception]) -> set[type[Exception]]:
        return {kind}.union(*(below(one) for one in kind.__subclasses__()))

    families = (errors.FedCoLLMError, crypto_errors.CryptoError, privacy_errors.PrivacyError)
    told = {type(error) for error, _, _, _ in CLASSES}
    public = {kind for family in families for kind in below(family) if kind.__module__.endswith(".errors")}

    assert public <= told


def test_an_interrupt_is_one_document_too(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    failing(monkeypatch, KeyboardInterrupt())

    assert cli.main(["--json"]) == 3
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "interrupted"


COMMANDS = {
    "run": ["run", "nowhere.yaml"],
    "check": ["check", "nowhere.yaml"],
    "compare": ["compare", "nowhere.yaml"],
    "study": ["study", "nowhere.yaml"],
    "report": ["report", "nowhere"],
    "verify": ["verify", "nowhere"],
    "budget": ["budget", "nowhere"],
    "gain": ["gain", "nowhere", "north"],
    "try": ["try", "nowhere", "text"],
    "attack": ["attack", "A0"],
    "audit": ["audit", "nowhere.yaml", "--claimed", "2"],
    "examples": ["examples", "taken"],
    "bench": ["bench", "masking", "--silos", "1"],
    "consortium": ["consortium", "invite", "north", "--in", "nowhere"],
    "serve": ["serve", "nowhere", "nowhere.json", "nowhere.yaml"],
    "silo": ["silo", "nowhere", "nowhere.json"],
}


def commands() -> dict[str, argparse.ArgumentParser]:
    choices = next(action for action in make_parser()._actions if action.choices).choices
    assert isinstance(choices, dict)
    return choices


def test_every_command_is_among_these() -> None:
    assert COMMANDS.keys() | {"schema"} == commands().keys()  # `schema` reads nothing that could be missing


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_that_cannot_begin_prints_one_document(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "rules.yaml").write_text("mine")
    code = cli.main([*COMMANDS[name], "--json"])
    told = json.loads(capsys.readouterr().out)["error"]

    assert code == 2
    assert told["code"] in ("configuration", "usage", "not_started")
    assert told["key"] or told["code"] != "configuration"
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]


@pytest.mark.parametrize("name", COMMANDS)
@pytest.mark.parametrize("option", ["--json", "--js"])
def test_every_command_prints_one_document_for_a_usage_error(
    name: str, option: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main([*COMMANDS[name], option, "--no-such-option"]) == 2
    told = json.loads(capsys.readouterr().out)["error"]

    assert told["code"] == "usage"
    assert "--no-such-option" in told["message"]


def test_a_usage_error_for_a_person_shows_how_the_command_is_typed(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["compare", "x.yaml", "--seeds", "many"]) == 2
    told = capsys.readouterr()

    assert told.out == ""
    assert told.err.startswith("usage: fedcollm-secure compare")
    assert "invalid int value" in told.err


@pytest.mark.parametrize("arguments", [[], ["--json"], ["nothing", "--json"]])
def test_no_command_at_all_is_a_usage_error(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(arguments) == 2
    assert (json.loads(capsys.readouterr().out)["error"]["code"] == "usage") if arguments else True


def written(path: Path, tree: dict[str, object]) -> Path:
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return path


def started(arguments: Sequence[object], **streams: object) -> "subprocess.Popen[str]":
    command = [sys.executable, "-m", "fedcollm_secure", *map(str, arguments)]
    return subprocess.Popen(command, text=True, **streams)  # type: ignore[call-overload, no-any-return]


def wait_for(path: Path, process: "subprocess.Popen[str]") -> None:
    while not path.exists():
        assert process.poll() is None, "the run ended before it was stopped"
        time.sleep(0.02)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_a_run_with_a_sentence_and_it_can_be_resumed(
    number: signal.Signals, tree: Make, tmp_path: Path
) -> None:
    config, out = written(tmp_path / "c.yaml", tree(rounds=400)), tmp_path / "run"
    with started(["run", config, "--out", out], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        wait_for(out / "adapters" / "state.json", run)
        run.send_signal(number)
        told = run.communicate()

    assert run.returncode == 3
    assert told[0] == ""
    assert f"stopped by {number.name}. " in told[1]
    assert (
        f"complete rounds are kept in {out}. Go on with: fedcollm-secure run {config} --out {out} --resume" in told[1]
    )
    assert "Traceback" not in told[1]
    assert cli.main(["verify", str(out)]) == 3  # incomplete, and sound

    arguments = ["run", config, "--out", out, "--resume", "--json"]
    with started(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as again:
        assert again.stderr is not None
        while "round 0/400" not in again.stderr.readline():
            pass
        again.send_signal(number)
        assert json.loads(again.communicate()[0])["error"]["code"] == "interrupted"


def test_a_signal_before_anything_was_written_says_so(tree: Make, tmp_path: Path) -> None:
    config, out = written(tmp_path / "c.yaml", tree()), tmp_path / "run"
    with started(["run", config, "--out", out], stderr=subprocess.PIPE) as run:
        assert run.stderr is not None
        while "loading the models" not in run.stderr.readline():
            pass
        run.send_signal(signal.SIGTERM)
        told = run.stderr.read()

    assert f"Nothing was begun in {out}. Start again with: fedcollm-secure run {config}" in told
    assert run.returncode == 3
    assert not out.exists()


def test_a_run_goes_on_when_whoever_reads_its_progress_leaves(tree: Make, tmp_path: Path) -> None:
    config, out = written(tmp_path / "c.yaml", tree(rounds=1)), tmp_path / "run"
    with started(["run", config, "--out", out], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as run:
        assert run.stderr is not None
        assert run.stdout is not None
        run.stderr.readline()
        run.stderr.close()
        told = run.stdout.read()

    assert "1 of 1 rounds" in told
    assert run.returncode == 0


def test_a_reader_of_the_result_that_leaves_changes_no_exit_code(tree: Make, tmp_path: Path) -> None:
    config = written(tmp_path / "c.yaml", tree())
    for arguments, code in (["check", config], 0), (["check", config, "--json", "--bad"], 2):
        with started(arguments, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as done:
            assert done.stdout is not None
            assert done.stderr is not None
            done.stdout.close()
            told = done.stderr.read()

        assert (told, done.returncode) == ("", code)


def test_a_quiet_run_says_nothing_but_its_result_and_its_error(
    tree: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config, out = written(tmp_path / "c.yaml", tree(rounds=1)), str(tmp_path / "run")
    assert cli.main(["run", str(config), "--out", out, "--quiet"]) == 0
    told = capsys.readouterr()
    assert (told.err, told.out.splitlines()[0][:13]) == ("", "1 of 1 rounds")

    assert cli.main(["run", str(config), "--out", out, "--quiet"]) == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert told.err.count("\n") == 1
    assert "is not empty" in told.err
