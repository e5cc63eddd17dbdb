"""The bench of the log measures a log of the length that it says, with proofs that hold."""

import json

import pytest

from fedcollm_secure import cli
from fedcollm_secure.assurance.bench import log_bench
from fedcollm_secure.audit_log.run_verification import verify_log


def test_a_row_says_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    verified: list[int] = []

    def watch(path):
        found = verify_log(path)
        verified.append(len(found.contents.entries))
        assert found.attested.signed_size == verified[-1]
        return found

    monkeypatch.setattr(log_bench, "verify_log", watch)

    figures = log_bench.measure(300)

    assert verified == [figures.entries] == [300]
    assert figures.proof_hashes in (9, 10)  # ⌈log2 300⌉, and one more for a consistency proof
    assert min(figures.append_cpu_us, figures.proof_cpu_us, figures.verify_cpu_s, figures.sign_cpu_us) > 0


def test_the_command_prints_a_row_a_size(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", "log", "--entries", "250,200", "--json"]) == 0

    rows = json.loads(capsys.readouterr().out)["rows"]
    assert [row["entries"] for row in rows] == [200, 250]
    assert set(rows[0]["cpu_seconds"]) == {"append", "prove", "verify"}
    assert "250" in log_bench.log_words(rows)


def test_a_log_that_leaves_nothing_to_measure_is_exit_2() -> None:
    assert cli.main(["bench", "log", "--entries", "3"]) == 2
