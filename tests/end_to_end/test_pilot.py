"""docs/pilot.md, typed as it stands there: four folders, four processes, mutual TLS over loopback.

One silo is killed in the middle of the first round and comes back; strangers call meanwhile.
"""

import csv
import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fedcollm_secure.consortium.cards import read_card
from fedcollm_secure.consortium.certificates import make_certificate, to_der
from fedcollm_secure.engines.engine import Patience
from fedcollm_secure.engines.mtls.credentials import Credentials
from fedcollm_secure.engines.mtls.dialler import Dialler, TurnedAway
from fedcollm_secure.learning import icd10cm

PAGE = Path(__file__).parents[2] / "docs" / "pilot.md"
SILOS = ("north", "south", "west")
LONGEST_S = 300


def until(holds: Callable[[], object], what: str) -> None:
    end = time.monotonic() + LONGEST_S
    while not holds():
        assert time.monotonic() < end, f"waited in vain: {what}"
        time.sleep(0.05)


@dataclass(kw_only=True)
class Processes:
    """Starts commands as processes in one folder."""

    folder: Path
    warm: "subprocess.Popen[str]" = field(init=False)
    count: int = 0
    started: list[tuple[int, Path]] = field(default_factory=list[tuple[int, Path]])

    def __post_init__(self) -> None:
        self.warm = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("warm_processes.py"))],
            cwd=self.folder,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def start(self, *arguments: str) -> tuple[int, Path]:
        assert self.warm.stdin
        assert self.warm.stdout
        self.count += 1
        log = self.folder / f"said-{self.count}.log"
        self.warm.stdin.write(json.dumps({"arguments": arguments, "log": str(log)}) + "\n")
        self.warm.stdin.flush()
        self.started.append((int(self.warm.stdout.readline()), log))
        return self.started[-1]

    def end_of(self, log: Path) -> tuple[int, str]:
        until(log.with_suffix(".code").exists, log.read_text() if log.exists() else "")
        return int(log.with_suffix(".code").read_text()), log.read_text()

    def run(self, *arguments: str) -> tuple[int, str]:
        return self.end_of(self.start(*arguments)[1])

    def close(self) -> None:
        assert self.warm.stdin
        assert self.warm.stdout
        for child, log in self.started:
            if not log.with_suffix(".code").exists():  # the test failed before it ended
                os.kill(child, signal.SIGKILL)
        self.warm.stdin.close()
        self.warm.stdout.close()
        self.warm.wait(30)


@pytest.fixture
def processes(tmp_path: Path) -> Iterator[Processes]:
    made = Processes(folder=tmp_path)
    yield made
    made.close()


def blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page, flags=re.DOTALL)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def write_records(folder: Path) -> None:
    rows = icd10cm.rows(icd10cm.split(icd10cm.terms()).private)
    for place, name in enumerate(SILOS):
        with (folder / name / "records.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, ["term", "specialty"], extrasaction="ignore")
            writer.writeheader()
            writer.writerows(rows[place::3][:200])


def turned_away(folder: Path, port: int, name: str, keys: Path) -> str:
    """Return what a caller is told that shows the certificate in `keys` and calls itself `name`."""
    peers = {"server": to_der(read_card(folder / "coordinator" / "member.json").certificate)}
    caller = Dialler(
        name=name,
        host="127.0.0.1",
        port=port,
        credentials=Credentials(certificate=keys / "link.crt", key=keys / "link.pem", peers=peers),
        patience=Patience(alive=10, handshake=10),
        say=lambda _: None,
    )
    with pytest.raises(TurnedAway) as told:
        caller.serve(lambda _: iter(()))
    return str(told.value)


def test_three_hospitals_and_a_coordinator_as_the_page_says(processes: Processes, tmp_path: Path) -> None:
    port = free_port()
    page = PAGE.read_text(encoding="utf-8").replace(":7400", f":{port}")
    (job,) = blocks(page, "yaml")
    (tmp_path / "job.yaml").write_text(job)
    commands = [shlex.split(line)[1:] for block in blocks(page, "sh") for line in block.splitlines()]
    live = [line for line in commands if line[0] in ("serve", "silo") and "--dry-run" not in line]
    first = commands.index(live[0])
    before, after = commands[:first], commands[first + len(live) :]
    assert len(before) == 14
    for line in before:
        plan = next((tmp_path / "coordinator" / "plans").glob("*.json"), None)
        line = [part.replace("PLAN.json", plan.name if plan else "") for part in line]
        code, said = processes.run(*line)
        assert code == 0, said
        if line[1] == "join" and line[-1] == "west":
            write_records(tmp_path)
    (plan,) = (tmp_path / "coordinator" / "plans").glob("*.json")
    started = {line[1]: processes.start(*(part.replace("PLAN.json", plan.name) for part in line)) for line in live}
    serving = started["coordinator"][1]
    until(lambda: "round 1/2" in serving.read_text(), "the first round")
    victim, _ = started["west"]
    os.kill(victim, signal.SIGKILL)
    until(lambda: "west is gone" in serving.read_text(), "that the coordinator sees it")

    keys = tmp_path / "stranger"
    keys.mkdir()
    make_certificate("west", keys / "link.pem", keys / "link.crt", None)
    assert "not in its roster" in turned_away(tmp_path, port, "west", keys)
    assert "is that of south, and it calls itself 'west'" in turned_away(
        tmp_path, port, "west", tmp_path / "south" / "keys"
    )
    assert "none of the roster's" in serving.read_text()
    assert "its certificate is that of south" in serving.read_text()

    code, said = processes.run("silo", "north", str(plan))  # its ledger and journals have their one process
    assert code != 0
    assert "in use" in said or "another process" in said, said
    _, back = processes.start("silo", "west", str(plan))
    for name, log in {**{name: log for name, (_, log) in started.items()}, "west": back}.items():
        code, said = processes.end_of(log)
        assert code == 0, f"{name}: {said}"

    (session,) = (tmp_path / "coordinator" / "runs").iterdir()
    for line in after:
        code, said = processes.run(*(part.replace("SESSION", session.name) for part in line))
        assert code == 0, said
        if line[:2] == ["verify", "coordinator/runs/SESSION"]:
            assert "verified: " in said
            entries = re.search(r"verified: (\d+) entries", said)
            assert entries
            assert f"cosigned by a quorum up to {entries[1]}" in said
    assert (tmp_path / "north" / "sessions" / session.name / "journal.jsonl").is_file()
    assert not list(session.glob("silos/*"))  # nothing of a silo's lies at the coordinator
    spent = [processes.run("budget", f"{name}/ledger.jsonl", "--json")[1] for name in SILOS]
    assert all(len(json.loads(each)["rounds"]) == 2 for each in spent)  # each round paid once, by west as well
    assert not any(json.loads(each)["simulated"] for each in spent)
