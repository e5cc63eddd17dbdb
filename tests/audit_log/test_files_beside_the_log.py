"""What lies beside the log, and what the log says of it: both verifiers hold the one to the other."""

import os
import socket
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from fedcollm_secure.audit_log.events import Event, GatePassed, GateRejected, RoundStarted, SumAgreed
from fedcollm_secure.audit_log.log import read_log
from fedcollm_secure.audit_log.logged_gates import asked_gates
from fedcollm_secure.audit_log.roster_and_manifests import check_manifests
from fedcollm_secure.audit_log.untrusted_files import MAX_DEPTH
from fedcollm_secure.config import parse, resolved
from fedcollm_secure.errors import LogError
from fedcollm_secure.operations.verify_command import verify_directory, verify_log
from tests.second_verifier import needs_node, node
from tests.witnessed_log import round_closed, round_lines, without_a_sum

Begin = Callable[..., Any]
Json = dict[str, object]
MASKED = round_lines()
GATES = "name: test\ngates:\n  max_norm: {}\n  max_loss_increase: {}\n  trust_region: {}\nseed: 1\n"
NONE, ALL, NORM, REGION = (
    GATES.format(*settings)
    for settings in (("null",) * 3, ("1.5", "0.1", "0.5"), ("1.5", "null", "null"), ("null", "null", "0.5"))
)


def said(*gates: Event, lines: list[Event] = MASKED) -> list[Event]:
    """Return the lines of a round with these gates' words before the sum's."""
    spoken = [line for line in lines if not isinstance(line, GatePassed)]
    return [*spoken[:-2], *gates, *spoken[-2:]]


def passed(*gates: str) -> list[Event]:
    return [GatePassed(round=1, gate=gate) for gate in gates]


def rejected(gate: str) -> Event:
    return GateRejected(round=1, gate=gate, reason="above_limit")


SPOKEN: dict[str, tuple[str, list[Event], str | None]] = {
    "none asked": (NONE, said(*passed("range")), None),
    "all asked, all passed": (ALL, said(*passed("range", "norm", "auxiliary_loss", "trust_region")), None),
    "the norm rejected": (ALL, said(rejected("norm"), *passed("trust_region")), None),
    "the trust region rejected": (REGION, said(*passed("range"), rejected("trust_region")), None),
    "no sum, and the trust region spoke": (
        REGION,
        [*without_a_sum(1)[:2], *passed("trust_region"), round_closed(1)],
        None,
    ),
    "the norm says nothing": (NORM, said(*passed("range")), "the gate norm says nothing"),
    "the loss says nothing": (ALL, said(*passed("range", "norm", "trust_region")), "auxiliary_loss says nothing"),
    "the trust region says nothing": (REGION, said(*passed("range")), "the gate trust_region says nothing"),
    "no sum, and it says nothing": (REGION, without_a_sum(1), "the gate trust_region says nothing"),
    "one that nobody asked": (NONE, said(*passed("range", "norm")), "norm is no gate that config.yaml asks for"),
    "one that nobody asked rejected it": (NONE, said(rejected("norm")), "norm is no gate that config.yaml asks for"),
    "one that nobody asked, without a sum": (
        NORM,
        [*without_a_sum(1)[:2], *passed("trust_region"), round_closed(1)],
        "trust_region is no gate that config.yaml asks for",
    ),
    "a configuration in flow style": ("name: test\ngates: {max_norm: 1.5}\n", said(*passed("range")), "otherwise than"),
    "a configuration with quoted keys": (
        'name: test\n"gates":\n  max_norm: 1.5\n',
        said(*passed("range")),
        "a plain key",
    ),
    "a configuration that is indented": (
        " name: test\n gates:\n  max_norm: 1.5\n",
        said(*passed("range")),
        "a plain key",
    ),
    "a configuration with two beginnings": (NONE + ALL, said(*passed("range")), "stands there twice"),
    "a configuration with another line break": (
        "name: test\u2028gates:\n  max_norm: 1.5\n",
        said(*passed("range")),
        "a plain key",
    ),
}


def logged(witnessed: Begin, folder: Path, lines: list[Event], **changes: object) -> Any:
    """Write the lines into a log that silos cosign."""
    log = witnessed(folder, **changes)
    for line in lines:
        if isinstance(line, RoundStarted):
            log.begin(line.attempt, number=line.round)
        else:
            log.log.append(line)
    log.attest()
    return log


@pytest.mark.parametrize("name", SPOKEN)
def test_the_gates_that_spoke_are_those_that_the_configuration_asks_for(
    name: str, witnessed: Begin, tmp_path: Path
) -> None:
    config, lines, reason = SPOKEN[name]
    log = logged(witnessed, tmp_path / "run", lines, config=config)

    code, found = verify_directory(log.folder, None, None)

    assert code == (3 if reason is None else 1), found["reason"]  # the run did not finish
    assert (reason or "the run did not finish") in str(found["reason"])


@needs_node
@pytest.mark.parametrize("name", SPOKEN)
def test_both_hold_the_gates_to_the_configuration(name: str, witnessed: Begin, tmp_path: Path) -> None:
    config, lines, _ = SPOKEN[name]
    log = logged(witnessed, tmp_path / "run", lines, config=config)

    code, found = node(log.folder)
    ours, ours_found = verify_directory(log.folder, None, None)
    assert (code, found["first_bad"]) == (ours, ours_found["first_bad"]), (found["reason"], ours_found["reason"])


@pytest.mark.parametrize(
    ("gates", "asked"),
    [
        ({}, set()),
        ({"max_norm": 1e-05, "trust_region": 2}, {"norm", "trust_region"}),
        ({"max_loss_increase": 1e30}, {"auxiliary_loss"}),
    ],
)
def test_gates_are_read_as_a_run_writes_them(gates: Json, asked: set[str], tree: Callable[..., Json]) -> None:
    assert asked_gates(resolved(parse(tree(gates=gates)))) == asked


LISTED = f"numpy==2.1.0 -\ntorch==2.8.0+cpu {'ab' * 32}\n"
SOFTWARE: dict[str, tuple[str, dict[str, str], str | None]] = {
    "as listed": (LISTED, {"torch": "2.8.0+cpu", "numpy": "2.1.0"}, None),
    "another version": (LISTED, {"torch": "2.8.1"}, "the log says torch 2.8.1, and what was installed 2.8.0+cpu"),
    "one that is not listed": (LISTED, {"peft": "0.1"}, "the log says peft 0.1, and what was installed None"),
    "a list of something else": ("torch 2.8.0\n", {}, "is no list of distributions"),
    "a list with one of them twice": (LISTED + LISTED, {"torch": "2.8.0+cpu"}, "is no list of distributions"),
    "a list that is cut": (LISTED[:-1], {}, "is no list of distributions"),
}


@pytest.mark.parametrize("name", SOFTWARE)
def test_the_versions_that_the_log_names_are_those_that_were_installed(
    name: str, witnessed: Begin, tmp_path: Path
) -> None:
    installed, software, reason = SOFTWARE[name]
    log = logged(witnessed, tmp_path / "run", [], installed=installed, software=software)

    code, found = verify_directory(log.folder, None, None)

    assert code == (3 if reason is None else 1), found["reason"]
    assert (reason or "the run did not finish") in str(found["reason"])


@needs_node
@pytest.mark.parametrize("name", SOFTWARE)
def test_both_hold_the_versions_to_the_list(name: str, witnessed: Begin, tmp_path: Path) -> None:
    installed, software, _ = SOFTWARE[name]
    log = logged(witnessed, tmp_path / "run", [], installed=installed, software=software)

    code, found = node(log.folder)
    ours, ours_found = verify_directory(log.folder, None, None)
    assert (code, found["first_bad"]) == (ours, ours_found["first_bad"]), (found["reason"], ours_found["reason"])


OTHERWISE: dict[str, tuple[type[Event], dict[str, Any], str]] = {
    "another cohort": (RoundStarted, {"cohort": ("north", "south", "west")}, "what its manifest does not"),
    "another adapter": (RoundStarted, {"adapter_digest": "cd" * 32}, "what its manifest does not"),
    "another plan": (RoundStarted, {"plan_digest": "cd" * 32}, "what its manifest does not"),
    "another pass": (SumAgreed, {"linear_pass": 1}, "of another pass than its manifest asks for"),
    "too few": (SumAgreed, {"survivors": ("north",)}, "over 1 silos, its manifest asks for 2"),
}


@pytest.mark.parametrize("name", OTHERWISE)
def test_what_the_log_says_of_an_attempt_is_what_its_manifest_says(name: str, witnessed: Begin, tmp_path: Path) -> None:
    kind, changes, reason = OTHERWISE[name]
    contents = read_log(logged(witnessed, tmp_path / "run", MASKED).path)
    audit = tmp_path / "run" / "audit"
    assert check_manifests(audit, contents, None, "") == []
    entries = [
        replace(entry, event=replace(entry.event, **changes)) if isinstance(entry.event, kind) else entry
        for entry in contents.entries
    ]

    with pytest.raises(LogError, match=reason):
        check_manifests(audit, replace(contents, entries=tuple(entries)), None, "")


@needs_node
def test_both_hold_an_attempt_to_its_manifest(witnessed: Begin, tmp_path: Path) -> None:
    """A cohort that was widened before it was logged: the digest in the line is still the manifest's."""
    log = witnessed(tmp_path / "run")
    log.begin(1)
    asked = next(entry.event for entry in read_log(log.path).entries if isinstance(entry.event, RoundStarted))
    other = witnessed(tmp_path / "other")
    manifests = log.folder / "audit" / "manifests"
    manifests.rename(other.folder / "audit" / "manifests")
    other.log.append(replace(asked, cohort=("north", "south", "west")))
    other.attest()

    code, found = node(other.folder)
    ours, ours_found = verify_directory(other.folder, None, None)
    assert (code, found["first_bad"]) == (ours, ours_found["first_bad"]) == (1, 1)


def lay_a_socket(path: Path) -> None:
    there = os.getcwd()
    os.chdir(path.parent)  # a socket's path is short
    try:
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.chdir(there)


def lay_deep(path: Path) -> None:
    path.joinpath(*["x"] * MAX_DEPTH).mkdir(parents=True)


STRANGE: dict[str, Callable[[Path], object]] = {
    "a link": lambda run: (run / "silos" / "north" / "link").symlink_to("/dev/null"),
    "a link to nowhere": lambda run: (run / "link").symlink_to("nowhere"),
    "a FIFO": lambda run: os.mkfifo(run / "silos" / "fifo"),
    "a FIFO in the log's folder": lambda run: os.mkfifo(run / "audit" / "manifests" / "fifo"),
    "a socket": lambda run: lay_a_socket(run / "silos" / "north" / "socket"),
    "too deep": lambda run: lay_deep(run / "silos"),
    "a statement that nothing names": lambda run: write(run / "audit" / "statements" / "more.json"),
    "a list that nothing names": lambda run: write(run / "audit" / "environments" / "more.txt"),
    "a file where statements belong": lambda run: (run / "audit" / "statements").write_bytes(b""),
}


def write(path: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(b"")


@needs_node
@pytest.mark.parametrize("name", STRANGE)
def test_both_refuse_what_is_no_evidence(name: str, witnessed: Begin, tmp_path: Path) -> None:
    log = logged(witnessed, tmp_path / "run", MASKED)
    assert node(log.folder)[0] == verify_directory(log.folder, None, None)[0] == 3
    STRANGE[name](log.folder)

    assert node(log.folder)[0] == verify_directory(log.folder, None, None)[0] == 1


MISSING = ["manifests/1-1.json", f"environments/{sha256(b'').hexdigest()}.txt", "roster.json", "log.pub"]


@needs_node
@pytest.mark.parametrize("name", MISSING)
def test_both_say_what_is_missing_where_the_logs_folder_is_all_that_is_there(
    name: str, witnessed: Begin, tmp_path: Path
) -> None:
    audit = logged(witnessed, tmp_path / "run", MASKED).folder / "audit"
    assert verify_log(audit / "log.jsonl", None, None)[0] == 0
    (audit / name).unlink()

    code, found = node(audit)
    ours, ours_found = verify_log(audit / "log.jsonl", None, None)
    assert code == ours == 3
    assert f"{name} is missing" in found["reason"]
    assert f"{name} is missing" in str(ours_found["reason"])
