"""Work in processes of their own: errors arrive as they were raised, and whoever stops the first stops them all."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fedcollm_crypto.errors import TooFewSilos
from fedcollm_secure.errors import ConfigError, RunIncomplete
from fedcollm_secure.research import resumable_work
from fedcollm_secure.research.resumable_work import Say, run_all

STOPPED = """
import sys, time
from pathlib import Path
from fedcollm_secure import cli
from fedcollm_secure.cli.stopped_run import stop_on_signals
from fedcollm_secure.research import resumable_work
from tests.research.test_resumable_work import sleeps

def command(_):
    resumable_work.run_all([Path(sys.argv[1]) / str(number) for number in range(4)], sleeps, print)

if __name__ == "__main__":
    import argparse
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.set_defaults(command=command)
    cli.make_parser = lambda: parser
    stop_on_signals()
    sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture(autouse=True)
def two_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resumable_work.os, "cpu_count", lambda: 2)


def sleeps(path: Path, say: Say) -> None:
    path.write_text(str(os.getpid()))
    say("begun")
    time.sleep(600)


def fails(number: int, say: Say) -> None:
    say("read the records")
    if number == 1:
        raise ConfigError("data.source", "expected a file")
    if number == 2:
        raise TooFewSilos("decryption", needed=2, left=1, dropped={"north": "late"})


def dies(_: int, __: Say) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_an_error_arrives_as_it_was_raised_and_is_told_once() -> None:
    said: list[str] = []
    with pytest.raises(ConfigError, match=r"data\.source: expected a file") as raised:
        run_all([0, 1], fails, said.append)

    assert raised.value.where == "data.source"
    assert said == ["read the records"]
    with pytest.raises(TooFewSilos, match="1 silos are left, 2 are needed"):
        run_all([2, 0], fails, said.append)


def test_a_killed_worker_is_told_with_what_to_do() -> None:
    with pytest.raises(RunIncomplete, match=r"runs out of memory.*the same command goes on"):
        run_all([0, 1], dies, lambda _: None)


@pytest.mark.parametrize(("number", "whole_group"), [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_whoever_stops_the_first_process_stops_the_others(
    number: signal.Signals, whole_group: bool, tmp_path: Path
) -> None:
    script = tmp_path / "stopped.py"
    script.write_text(STOPPED)
    folder = tmp_path / "pieces"
    folder.mkdir()
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(__file__).parents[2]), *sys.path])}
    with subprocess.Popen(
        [sys.executable, script, folder], env=environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as run:
        while len([path for path in folder.iterdir() if path.read_text()]) < 2:
            assert run.poll() is None
            time.sleep(0.05)
        (os.killpg if whole_group else os.kill)(run.pid, number)
        told = run.communicate()[1]

    assert run.returncode == 3
    assert "What was finished is kept; the same command goes on" in told
    assert "Traceback" not in told
    assert not any(_lives(int(path.read_text())) for path in folder.iterdir())


def _lives(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    return True
