"""Canaries in every cell, and every fault that records can have: no message, line or traceback shows one.

Each fault is tried by `check`, which must refuse with 2 before anything is written, and names the file; then by `run`,
which must refuse alike. `--show-values` is the twin: the scan does find a canary where one is shown.
"""

import gzip
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pytest
import yaml
from pyarrow import parquet

from fedcollm_secure import cli
from fedcollm_secure.cli import main

Make = Callable[..., dict[str, object]]
CANARY = "canaryzwxq"
HEADER = f"text,topic,pid,{CANARY}col\n"
ROW = f"rash {CANARY},skin,{CANARY}p,{CANARY}x\n"


def silo(*lines: str, header: str = HEADER) -> bytes:
    return (header + "".join([ROW] * 30) + "".join(lines)).encode()


def packed(rows: list[dict[str, object]], path: Path) -> bytes:
    parquet.write_table(pa.Table.from_pylist(rows), path)
    return path.read_bytes()


CELLS = {"text": f"rash {CANARY}", "topic": "skin", "pid": f"{CANARY}p"}
FAULTS: dict[str, tuple[str, Callable[[Path], bytes]]] = {
    "no header": ("x.csv", lambda _: silo(header="")),
    "another header": ("x.csv", lambda _: silo(header=f"{CANARY}a,topic,pid,{CANARY}b\n")),
    "a header twice": ("x.csv", lambda _: silo(header=f"text,{CANARY},{CANARY},topic\n")),
    "another delimiter": ("x.csv", lambda _: silo().replace(b",", b"^")),
    "too few fields": ("x.csv", lambda _: silo(f"{CANARY},skin\n")),
    "too many fields": ("x.csv", lambda _: silo(f"{CANARY},skin,{CANARY},{CANARY},{CANARY}\n")),
    "a stray quote": ("x.csv", lambda _: silo(f'"{CANARY}"{CANARY}",skin,p,x\n')),
    "an open quote": ("x.csv", lambda _: silo(f'"{CANARY},skin,p,x\n')),
    "latin-1": ("x.csv", lambda _: silo().replace(b"rash", b"r\xe4sh")),
    "utf-16": ("x.csv", lambda _: silo().decode().encode("utf-16-le")),
    "an empty text": ("x.csv", lambda _: silo(f" ,skin,{CANARY},x\n")),
    "an empty label": ("x.csv", lambda _: silo(f"{CANARY},,{CANARY},x\n")),
    "an empty person": ("x.csv", lambda _: silo(f"{CANARY},skin,,x\n")),
    "a label in other letters": ("x.csv", lambda _: silo(f"{CANARY},SKIN,p,x\n")),
    "unknown labels": ("x.csv", lambda _: silo().replace(b",skin", f",{CANARY}label".encode())),
    "another packing": ("x.csv", lambda _: gzip.compress(silo())),
    "torn packing": ("x.csv.gz", lambda _: gzip.compress(silo())[:-9]),
    "no rows": ("x.csv", lambda _: HEADER.encode()),
    "not json": ("x.jsonl", lambda _: json.dumps(CELLS).encode() + f"\n{CANARY}\n".encode()),
    "a list": ("x.jsonl", lambda _: json.dumps([CANARY]).encode()),
    "a map for a text": ("x.jsonl", lambda _: json.dumps({**CELLS, "text": {CANARY: CANARY}}).encode()),
    "a list for a label": ("x.jsonl", lambda _: json.dumps({**CELLS, "topic": [CANARY]}).encode()),
    "a column twice": (
        "x.jsonl",
        lambda _: json.dumps(CELLS)[:-1].encode() + f', "{CANARY}": 1, "{CANARY}": 2}}'.encode(),
    ),
    "not parquet": ("x.parquet", lambda _: CANARY.encode() * 9),
    "bytes for a text": ("x.parquet", lambda folder: packed([{**CELLS, "text": CANARY.encode()}], folder / "b")),
    "another column": ("x.parquet", lambda folder: packed([{CANARY: CANARY}], folder / "b")),
}


def configuration(private: Make, folder: Path, name: str, content: bytes, task: object = None) -> Path:
    """Write a configuration in which one of three silos holds what is at fault."""
    (folder / name).write_bytes(content)
    for good in ("south", "west"):
        (folder / f"{good}.csv").write_bytes(silo().replace(b"rash", good.encode()))
    files = {"north": name, "south": "south.csv", "west": "west.csv"}
    unit = {"subject": "pid"}
    tree = private(aggregation={"masked": {}})
    tree["privacy"] = {"record_dp": {**tree["privacy"]["record_dp"], "unit": unit, "silos_per_subject": 3}}  # type: ignore[index]
    tree["data"] |= {"silos": {"files": files}} | ({"task": task} if task else {})  # type: ignore[operator]
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(tree))
    return path


@pytest.mark.parametrize("fault", FAULTS)
def test_no_fault_of_records_shows_a_cell_and_check_refuses_what_run_would(
    fault: str, private: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, content = FAULTS[fault]
    path = configuration(private, tmp_path, name, content(tmp_path))

    assert main(["check", str(path)]) == 2
    assert main(["run", str(path), "--out", str(tmp_path / "run")]) == 2
    said = "".join(capsys.readouterr())
    assert name in said or "data.silos.north" in said
    assert CANARY not in said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("fault", ["another header", "a label in other letters", "unknown labels"])
def test_values_are_shown_to_whoever_asks_for_them(
    fault: str, private: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    name, content = FAULTS[fault]
    path = configuration(private, tmp_path, name, content(tmp_path))

    assert main(["check", str(path)]) == 2
    assert "--show-values prints it" in capsys.readouterr().err
    assert main(["check", str(path), "--show-values"]) == 2
    assert "there stands: " in capsys.readouterr().err


def test_a_right_choice_that_is_none_is_not_shown(
    private: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = {"multiple_choice": {"prompt": "{text}", "choices": ["topic", "pid"], "answer": f"{CANARY}col"}}
    path = configuration(private, tmp_path, "x.csv", silo(), task)
    for file in ("all", "test", "aux"):
        asked = [{"text": f"{file} {n}", "topic": "a", "pid": "b", f"{CANARY}col": 0} for n in range(30)]
        (tmp_path / "data" / f"{file}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in asked))

    assert main(["check", str(path)]) == 2
    said = capsys.readouterr().err.replace(f"'{CANARY}col'", "")  # the configuration's own word
    assert "index from 0 to 1" in said
    assert CANARY not in said


AS_SETTINGS = {
    "records.csv": f"{CANARY},{CANARY}\n{CANARY}: {CANARY},1\n",
    "records.jsonl": json.dumps({CANARY: CANARY, "name": CANARY, "rounds": 1}) + "\n",
    "one.yaml": f"{CANARY}, {CANARY}\n",
    "map.yaml": f"{CANARY}: {CANARY}\n{CANARY} note: x\n",
    "twice.yaml": f"{CANARY}: {CANARY}\n{CANARY}: x\n",
    "list.yaml": f"- {CANARY}\n",
    "tab.yaml": f"{CANARY}:\t{CANARY}\n\t{CANARY}: x\n",
    "alias.yaml": f"a: *{CANARY}\n",
    "tag.yaml": f"a: !{CANARY} b\n",
    "colon.yaml": f"a: {CANARY}: {CANARY}\n",
    "quote.yaml": f'a: "{CANARY}\n',
    "latin.yaml": f"{CANARY}: \xe4\n",
}


@pytest.mark.parametrize(
    "command", ["check", "run", "compare", "study", "audit", "budget", "report", "verify", "verify log"]
)
@pytest.mark.parametrize("file", AS_SETTINGS)
def test_records_where_something_else_belongs_are_not_printed(
    command: str, file: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / file
    path.write_bytes(AS_SETTINGS[file].encode("latin-1"))
    further = ["--claimed", "1"] if command == "audit" else []

    assert main([*command.split(), str(path), *further]) in (1, 2)
    said = "".join(capsys.readouterr())
    assert CANARY not in said
    assert file in said or command not in ("check", "run", "compare", "study", "audit")


@pytest.mark.parametrize("shown", [False, True])
def test_a_fault_of_ours_shows_where_it_came_up_and_not_what_it_read(
    shown: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(arguments: object) -> int:
        raise KeyError(CANARY)

    monkeypatch.setattr(cli, "make_parser", lambda: SimpleNamespace(parse_args=fail))
    monkeypatch.setattr(sys, "argv", ["fedcollm-secure", "check", *["--show-values"][: int(shown)]])
    with pytest.raises(SystemExit) as left:
        cli.entry()
    said = capsys.readouterr().err

    assert left.value.code == 1
    assert "KeyError" in said
    assert "in fail" in said
    assert (CANARY in said) == shown


def test_a_whole_process_shows_no_more(tmp_path: Path) -> None:
    path = tmp_path / "records.yaml"
    path.write_text(f"{CANARY},{CANARY}\n" * 99)
    found = subprocess.run(
        [sys.executable, "-m", "fedcollm_secure", "check", str(path)], capture_output=True, text=True
    )

    assert found.returncode == 2
    assert CANARY not in found.stdout + found.stderr
    assert "Traceback" not in found.stderr
