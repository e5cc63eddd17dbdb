"""The bench of encrypted sums measures what it says. No time is asserted."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from fedcollm_crypto.homomorphic.worker import Worker
from fedcollm_secure import cli
from fedcollm_secure.assurance.bench import bench_he, encrypted_sum, encryption_bench, he_words, tenseal_peer
from fedcollm_secure.errors import ConfigError

UPDATES = [np.linspace(-1, 1, 4096, dtype=np.float32), np.linspace(0.5, -0.5, 4096, dtype=np.float32)]
SECONDS = {"ours bfv-packed": 1.0, "ours bfv": 2.0, "ours ckks": 3.0, "nvflare": 4.0, "tutorial": 5.0}
BYTES = {"ours bfv-packed": 8.0, "ours bfv": 15.0, "ours ckks": 30.0, "nvflare": 60.0, "tutorial": 80.0}


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Measure nothing; return what was asked for."""
    asked: list[str] = []

    def fake(command: Sequence[str]) -> str:
        *_, system, silos, path = command
        asked.append(f"{system} {silos} {np.load(Path(path)).shape[1]}")
        figures = {"cpu_seconds": {"all": SECONDS[system]}, "bytes_per_parameter": BYTES[system]}
        return "\n" + json.dumps(figures | {"peak_mib": 200.0, "baseline_mib": 50.0, "repeats": 1})

    monkeypatch.setattr(encryption_bench, "printed_by", fake)
    return asked


def test_every_case_gets_a_row_a_system_and_its_targets(faked: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = cli.main(["bench", "he", "--silos", "4", "--parameters", "100", "--json"])
    found = json.loads(capsys.readouterr().out)

    assert code == 0
    assert faked == [f"{system} 4 100" for system in encryption_bench.SYSTEMS]
    assert [row["system"] for row in found["rows"]] == ["ours"] * 3 + ["nvflare", "tutorial"]
    assert {"bench", "silos", "parameters", "dropouts", "cpu_seconds", "peak_mib"} <= set(found["rows"][0])
    assert [target["ratio"] for target in found["targets"]] == pytest.approx([8 / 60, 15 / 60, 1 / 4])
    assert all(target["met"] for target in found["targets"])


def test_a_missed_target_is_said_to_be_one(faked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SECONDS, "ours bfv-packed", 2.0)
    found = bench_he((4,), (100,), lambda _: None)

    assert "MISSED 0.500 of at most 0.333: a third of the CPU" in he_words(found)
    assert len(faked) == 5


def test_the_longest_case_is_measured_where_asked_for(faked: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encryption_bench, "PARAMETERS", (1000, 2_000_000))
    bench_he(None, None, lambda _: None)

    assert "nvflare 100 1000" in faked
    assert "nvflare 10 2000000" in faked
    assert "nvflare 100 2000000" not in faked
    with pytest.raises(ConfigError, match="numbers from 3 up"):
        bench_he((2,), None, lambda _: None)


@pytest.mark.parametrize("mode", encrypted_sum.MODES)
def test_our_attempt_is_exact_and_accounts_for_every_phase(mode: encrypted_sum.Mode) -> None:
    with Worker() as worker:
        accounts = encrypted_sum.attempt(mode, 3, UPDATES, worker)

    assert set(accounts.seconds) == {"key", "encrypt", "open", "other", "add"}
    assert all(seconds > 0 for seconds in accounts.seconds.values())
    assert min(accounts.sent.values()) > 16_384 * 7.5


def test_the_width_of_packed_entries_leaves_room_for_a_hundred_silos() -> None:
    for silos in (3, 4, 10, 100):
        encoding = encrypted_sum.encoding_of("bfv-packed", silos)
        assert encrypted_sum.packing_of("bfv-packed", encoding).per_slot == 2
    assert encrypted_sum.encoding_of("bfv-packed", 4).bits == 16


@pytest.mark.parametrize("system", sorted(tenseal_peer.SETTINGS))
def test_the_peers_add_up_what_we_add_up(system: str) -> None:
    seconds, sent = tenseal_peer.attempt(system, 3, UPDATES)

    assert set(seconds) == {"encrypt", "add", "decrypt"}
    assert sent > 24 * 100_000  # a ciphertext for each of 24 layers, however short


def test_a_wrong_mean_is_no_measurement(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(encrypted_sum, "_vector", lambda encoded, number: encoded[0])

    with Worker() as worker, pytest.raises(RuntimeError, match="no measurement"):
        encrypted_sum.attempt("bfv-packed", 3, UPDATES, worker)
