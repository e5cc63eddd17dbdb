"""The bench measures what it says. No time is asserted: only counts, bytes, sums and what becomes of figures."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fedcollm_crypto.aggregation import Sum
from fedcollm_secure import cli
from fedcollm_secure.assurance.bench import (
    CHECKOUT,
    Sizes,
    bench,
    bench_words,
    find_flower,
    keystream_floor,
    masked_sum,
    masking_bench,
    masking_worker,
)
from fedcollm_secure.assurance.bench.bench_case import Case, Figures, Row
from fedcollm_secure.assurance.bench.masking_bench import measure_flower
from fedcollm_secure.assurance.bench.masking_targets import targets
from fedcollm_secure.assurance.bench.measuring_process import BenchError
from fedcollm_secure.assurance.bench.peer_environment import Peer
from fedcollm_secure.assurance.bench.repeated_measurement import Attempt, repeat
from fedcollm_secure.errors import ConfigError

CASE = Case(silos=4, parameters=50, dropouts=1, threshold=3, ring_bits=64)
FIGURES = Figures(
    cpu_seconds={"silo_encode": 0.4, "silo_masks": 1.0, "server_relay": 0.6},
    silo_cpu_seconds=0.14,
    server_cpu_seconds=0.6,
    bytes_per_parameter=8.2,
    peak_mib=60.0,
    baseline_mib=50.0,
    repeats=1,
)
PHASES = {*masked_sum.STAGES, "silo_encode", "server_relay", "server_unmask"}


@pytest.fixture
def updates():
    return np.random.default_rng(1).normal(0.0, 0.1, (2, CASE.parameters)).astype(np.float32)


def fake_peer(folder: Path, script: str) -> Peer:
    path = folder / "peer.py"
    path.write_text(script)
    return Peer(python=Path(sys.executable), script=path)


@pytest.mark.parametrize("ring_bits", [32, 64])
def test_an_attempt_charges_every_phase_and_counts_every_byte(updates, ring_bits):
    attempt = masked_sum.attempt(replace(CASE, ring_bits=ring_bits), updates)
    words = (CASE.parameters + 2) * ring_bits // 8

    assert attempt.cpu_seconds.keys() == PHASES
    assert attempt.bytes_per_parameter * CASE.parameters > words + 4 * 64, "four signatures come on top of the words"


def test_all_parties_together_are_the_sum_of_the_phases(updates):
    case = replace(CASE, silos=3, dropouts=0)
    attempt = masked_sum.attempt(case, updates)
    silos = sum(seconds for phase, seconds in attempt.cpu_seconds.items() if phase.startswith("silo"))

    assert attempt.total == pytest.approx(silos + attempt.server_cpu_seconds)


def test_a_wrong_sum_is_no_measurement(updates, monkeypatch):
    honest = masked_sum.aggregate

    def spoiled(*arguments):
        result = honest(*arguments)
        total = result.total.copy()
        total[0] += np.uint64(1000)
        return Sum(total=total, contributors=result.contributors)

    monkeypatch.setattr(masked_sum, "aggregate", spoiled)
    with pytest.raises(RuntimeError, match="not the sum"):
        masked_sum.attempt(CASE, updates)


def test_the_bare_stream_sends_the_words_and_counts_the_silos_that_stay():
    attempt = keystream_floor.attempt(CASE)

    assert attempt.bytes_per_parameter == 8
    assert attempt.cpu_seconds["silo_masks"] == attempt.silo_cpu_seconds * 3


def test_the_worker_refuses_a_system_it_does_not_know(tmp_path):
    with pytest.raises(ValueError, match="expected ours or keystream, got theirs"):
        masking_worker.measure("theirs", CASE, tmp_path)


def test_short_attempts_run_thrice_and_the_middle_one_counts():
    seconds = iter([0.3, 0.1, 0.2, 9.0])
    figures = repeat(lambda: _attempt(next(seconds)))

    assert (figures.repeats, figures.total) == (3, 0.2)
    assert figures.peak_mib >= figures.baseline_mib > 0


def test_a_long_attempt_runs_once():
    figures = repeat(lambda: _attempt(60.0))

    assert (figures.repeats, figures.total) == (1, 60.0)


def _attempt(seconds: float) -> Attempt:
    return Attempt(
        cpu_seconds={"silo_masks": seconds}, silo_cpu_seconds=1.0, server_cpu_seconds=0.0, bytes_per_parameter=8.0
    )


def test_the_peak_of_memory_is_not_that_of_the_process_which_started_it():
    held = bytearray(300 << 20)
    held[:: 1 << 12] = bytes([1]) * len(held[:: 1 << 12])
    read = "from fedcollm_secure.assurance.bench.repeated_measurement import peak_mib; print(peak_mib())"
    peak = subprocess.run([sys.executable, "-c", read], capture_output=True, text=True, check=True).stdout

    assert 1 < float(peak) < 250 < len(held) >> 20


def test_percentages_that_come_to_the_same_number_of_silos_count_once():
    cases = Sizes(silos=(10, 3), parameters=(5,), dropout_percent=(0, 10)).cases(64)

    assert [(case.silos, case.dropouts, case.threshold) for case in cases] == [(3, 0, 3), (10, 0, 7), (10, 1, 7)]


def test_the_long_case_is_left_out_unless_asked_for():
    short, whole = Sizes(long_cases=False).cases(64), Sizes().cases(64)

    assert {(case.silos, case.parameters) for case in whole if case not in short} == {(100, 3_145_728)}


@pytest.mark.parametrize(
    ("sizes", "match"),
    [
        ({"silos": (2,)}, "--silos: expected numbers from 3 up"),
        ({"silos": ()}, "--silos: expected numbers from 3 up"),
        ({"parameters": (0,)}, "--parameters: expected numbers from 1 up"),
        ({"dropout_percent": (101,)}, "--dropouts: expected per cent"),
        ({"silos": (10,), "dropout_percent": (40,)}, "of 10 silos 7 must stay to the end, so 4 can't be lost"),
    ],
)
def test_sizes_that_cannot_be_measured_are_refused(sizes, match):
    with pytest.raises(ConfigError, match=match):
        Sizes(**sizes)


def test_without_the_peers_the_rest_is_measured_and_what_is_missing_is_said():
    said: list[str] = []
    found = bench(Sizes(silos=(3,), parameters=(40,), dropout_percent=(0,)), None, said.append)

    assert [(row["system"], row["ring_bits"]) for row in found["rows"]] == [
        ("ours", 64),
        ("keystream", 64),
        ("ours", 32),
        ("keystream", 32),
    ]
    assert found["rows"][0]["cpu_seconds"].keys() == PHASES
    assert "make bench-peers" in said[0]
    assert "not measured: flower: run `make bench-peers`" in bench_words(found)


def test_a_peer_gets_the_case_and_the_vectors(tmp_path):
    echo = "import sys; open(sys.argv[0] + '.case', 'w').write(sys.argv[1]); "
    peer = fake_peer(tmp_path, echo + f"print({json.dumps(vars(FIGURES))!r})")
    figures = measure_flower(peer, replace(CASE, sampled=2), tmp_path / "updates.npy")
    given = json.loads((tmp_path / "peer.py.case").read_text())

    assert given.pop("updates") == str(tmp_path / "updates.npy")
    assert given == {"silos": 4, "parameters": 50, "dropouts": 1, "threshold": 3, "sampled": 2}
    assert figures == FIGURES


def test_a_peer_that_fails_is_said_with_its_own_words(tmp_path):
    peer = fake_peer(tmp_path, "raise SystemExit('no flwr in here')")

    with pytest.raises(BenchError, match="no flwr in here"):
        measure_flower(peer, CASE, tmp_path / "updates.npy")


def test_a_peer_that_is_killed_is_said_with_its_signal(tmp_path):
    peer = fake_peer(tmp_path, "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")

    with pytest.raises(BenchError, match=r"ended with -9: [\s\S]*without a word"):
        measure_flower(peer, CASE, tmp_path / "updates.npy")


@pytest.mark.parametrize(("every_silo", "sampled"), [(False, 5), (True, 0)])
def test_silos_of_a_peer_are_sampled_in_long_cases_alone(monkeypatch, every_silo, sampled):
    asked: list[tuple[int, int]] = []

    def measured(_peer, case, _updates):
        asked.append((case.silos, case.sampled))
        return FIGURES

    monkeypatch.setattr(masking_bench, "LONG_WORDS", 10 * 10 * 8)
    monkeypatch.setattr(masking_bench, "measure_flower", measured)
    monkeypatch.setattr(masking_bench, "_measure_here", lambda *_: FIGURES)
    sizes = Sizes(silos=(3, 30), parameters=(8,), dropout_percent=(0,), every_silo=every_silo)
    found = bench(sizes, Peer(python=Path("python"), script=Path("script")), lambda _: None)

    assert asked == [(3, 0), (30, sampled)]
    assert [row["system"] for row in found["rows"]] == ["ours", "keystream", "ours", "keystream", "flower"] * 2
    assert found["missing"] == []


def test_flower_is_found_where_environment_and_script_are(tmp_path):
    python = tmp_path / "there" / ".venv-peers" / "bin" / "python"
    script = tmp_path / "there" / "benchmarks" / "masking_flower.py"
    for path in (python, script):
        path.parent.mkdir(parents=True)
        path.touch()

    assert find_flower([tmp_path, tmp_path / "there"]) == Peer(python=python, script=script)


def test_flower_is_not_found_in_an_environment_without_the_script(tmp_path):
    python = tmp_path / ".venv-peers" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.touch()

    assert find_flower([tmp_path]) is None


@pytest.mark.parametrize(
    ("silos", "flower_s", "met"), [(10, 2.0, True), (10, 1.9, False), (100, 20, True), (100, 19, False)]
)
def test_the_target_beside_flower_is_a_ratio_of_all_cpu(silos, flower_s, met):
    case = replace(CASE, silos=silos)
    theirs = replace(FIGURES, cpu_seconds={"silo_masks": flower_s})
    rows = [Row(system="ours", case=case, figures=FIGURES), Row(system="flower", case=case, figures=theirs)]

    assert [(found["ratio"], found["met"]) for found in targets(rows)] == [(pytest.approx(2.0 / flower_s), met)]


@pytest.mark.parametrize(("bare_s", "met"), [(0.06, True), (0.04, False)])
def test_the_target_beside_the_bare_stream_leaves_encoding_out(bare_s, met):
    case = replace(CASE, silos=10, dropouts=0, parameters=3_145_728)
    bare = replace(FIGURES, silo_cpu_seconds=bare_s)
    rows = [Row(system="ours", case=case, figures=FIGURES), Row(system="keystream", case=case, figures=bare)]
    found = targets(rows)[0]

    assert found["ratio"] == pytest.approx((0.14 - 0.04) / bare_s)
    assert found["met"] is met


def test_the_table_says_what_was_sampled():
    rows = [Row(system="flower", case=replace(CASE, sampled=2), figures=FIGURES).as_json()]
    text = bench_words({"rows": rows, "targets": [], "missing": []})

    assert "60 (50)  *2" in text
    assert "that sum was not checked" in text


def test_the_command_refuses_sizes_with_exit_code_2(capsys):
    assert cli.main(["bench", "masking", "--silos", "2"]) == 2
    assert "--silos: expected numbers from 3 up, got [2]" in capsys.readouterr().err


def test_the_command_prints_one_document(capsys, monkeypatch):
    monkeypatch.setattr("fedcollm_secure.assurance.bench.find_flower", lambda _: None)
    monkeypatch.setattr(masking_bench, "RINGS", (64,))
    code = cli.main(["bench", "--silos", "3", "--parameters", "20", "--dropouts", "0", "--json"])
    found = json.loads(capsys.readouterr().out)

    assert code == 0
    assert {"bench", "system", "silos", "parameters", "dropouts", "cpu_seconds", "bytes_per_parameter", "peak_mib"} <= (
        found["rows"][0].keys()
    )


@pytest.mark.skipif(find_flower([CHECKOUT]) is None, reason="needs `make bench-peers`")
@pytest.mark.parametrize("sampled", [0, 2])
def test_flower_adds_up_the_same_vectors(tmp_path, updates, sampled):
    peer = find_flower([CHECKOUT])
    np.save(tmp_path / "updates.npy", updates)
    figures = measure_flower(peer, replace(CASE, sampled=sampled), tmp_path / "updates.npy")

    assert figures.cpu_seconds.keys() == PHASES - {"silo_encode", "silo_consent", "silo_check", "silo_disclosure"}
    assert figures.bytes_per_parameter > 8
