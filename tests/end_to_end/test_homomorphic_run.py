"""Whole runs under homomorphic encryption: the same bits as in the clear, a decryptor that fails, refusals at load."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import cast

import pytest
import yaml

from fedcollm_crypto.homomorphic.decryptor import Decryptor
from fedcollm_secure.audit_log.run_verification import verify_run
from fedcollm_secure.cli import main
from fedcollm_secure.config import parse
from fedcollm_secure.errors import ConfigError, RunIncomplete
from fedcollm_secure.federation.attestation import Attestation
from fedcollm_secure.operations.run_command import run
from tests.end_to_end.conftest import Quiet

Make = Callable[..., dict[str, object]]
PLAIN = {"unsafe_plain": {"clip": 1.0, "bits": 16}}
BFV = {"bfv": {"clip": 1.0, "bits": 16, "decryptor": "auditor"}}
CKKS = {"ckks": {"clip": 1.0, "bits": 16, "decryptor": "auditor"}}


def _run(tree: Mapping[str, object], out: Path) -> Mapping[str, object]:
    return run(parse(tree), out, resuming=False, show=Quiet())


def _weights(out: Path) -> bytes:
    return (out / "adapters" / "slm" / "adapter_model.safetensors").read_bytes()


@pytest.mark.parametrize("weighting", ["uniform", "examples"])
def test_plain_bfv_and_ckks_runs_end_in_the_same_bits(tree: Make, tmp_path: Path, weighting: str) -> None:
    silo = {"steps": 2, "batch_size": 8, "learning_rate": 0.01, "weighting": weighting}
    for name, aggregation in (("plain", PLAIN), ("bfv", BFV), ("ckks", CKKS)):
        _run(tree(silo=silo, rounds=1, aggregation=aggregation), tmp_path / name)

    assert _weights(tmp_path / "plain") == _weights(tmp_path / "bfv") == _weights(tmp_path / "ckks")
    assert verify_run(tmp_path / "bfv").incomplete is None


def test_a_private_run_under_bfv_reports_its_decryptor(private: Make, tmp_path: Path) -> None:
    summary = _run(private(rounds=1, aggregation=BFV), tmp_path / "run")
    visible = cast(Mapping[str, str], summary["visible_to"])
    roster = json.loads((tmp_path / "run" / "audit" / "roster.json").read_text())

    assert visible["auditor"].startswith("uniform values")
    assert {member["id"]: member["role"] for member in roster["roster"]["members"]}["auditor"] == "decryptor"
    assert (tmp_path / "run" / "silos" / "auditor" / "stages.jsonl").read_text().count("he-opening") == 1


def test_a_post_quantum_run_under_bfv_ends_in_the_same_bits(tree: Make, tmp_path: Path) -> None:
    _run(tree(rounds=1, aggregation=PLAIN), tmp_path / "plain")
    _run(tree(rounds=1, aggregation=BFV, security={"post_quantum": True}), tmp_path / "bfv")

    assert _weights(tmp_path / "plain") == _weights(tmp_path / "bfv")


def test_a_decryptor_that_fails_costs_an_attempt_and_no_round(
    tree: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, calls = Decryptor.handle, iter(range(100))
    # The key, then nothing where the sum was to be opened: the first attempt is lost, the second is not.
    monkeypatch.setattr(Decryptor, "handle", lambda self, request: [b""] if next(calls) == 1 else answer(self, request))
    summary = _run(tree(rounds=1, aggregation=BFV), tmp_path / "run")
    log = (tmp_path / "run" / "audit" / "log.jsonl").read_text()

    assert summary["rounds_done"] == 1
    assert log.count("round_started") == 2
    assert "auditor" in log


@pytest.mark.parametrize("aggregation", [BFV, CKKS], ids=["bfv", "ckks"])
def test_a_sum_that_the_decryptor_does_not_find_in_the_log_is_not_opened(
    tree: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aggregation: Mapping[str, object]
) -> None:
    monkeypatch.setattr(Attestation, "tell", lambda *_: None)

    with pytest.raises(RunIncomplete, match="a head of the log that the decryptor was not shown"):
        _run(tree(rounds=1, aggregation=aggregation), tmp_path / "run")

    log = (tmp_path / "run" / "audit" / "log.jsonl").read_text()
    assert '"reason_code":"unlogged_sum"' in log
    assert "he-opening" not in (tmp_path / "run" / "silos" / "auditor" / "stages.jsonl").read_text()


def test_without_a_decryptor_the_run_stops_and_says_so(
    tree: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Decryptor, "handle", lambda *_: [b""])

    with pytest.raises(RunIncomplete, match="decryption"):
        _run(tree(rounds=1, aggregation=BFV), tmp_path / "run")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"degree": 4096}, "less than 128 bits of security"),
        ({"degree": 8000}, "degree must be one of"),
        ({"primes": [60, 60, 60]}, "primes must be two"),
        ({"primes": [50, 60]}, "two of 60 bits"),
        ({"decryptor": "silo-1"}, "a name that neither the server nor a silo has"),
    ],
)
def test_a_weak_or_impossible_encryption_is_exit_2(
    tree: Make, tmp_path: Path, change: dict[str, object], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "weak_he.yaml"
    config.write_text(yaml.safe_dump(tree(aggregation={"bfv": {"bits": 16, **change}})), encoding="utf-8")

    assert main(["check", str(config)]) == 2
    assert message in capsys.readouterr().err


def test_ckks_has_no_post_quantum_profile(tree: Make) -> None:
    with pytest.raises(ConfigError, match="use bfv"):
        run(
            parse(tree(aggregation=CKKS, security={"post_quantum": True})),
            Path("never"),
            resuming=False,
            show=Quiet(),
        )


def test_check_says_whom_ckks_trusts(tree: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "ckks.yaml"
    config.write_text(yaml.safe_dump(tree(aggregation=CKKS)), encoding="utf-8")

    assert main(["check", str(config)]) == 0
    assert "auditor is a trusted aggregator that recomputes the sum" in capsys.readouterr().out
