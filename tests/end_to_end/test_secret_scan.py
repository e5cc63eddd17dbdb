"""Canaries in a whole run: no record, update, loss, key, seed or count of a silo reaches what others get to see.

What a fault of the records themselves shows is in `test_secret_errors.py`."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from fedcollm_secure.config import parse
from fedcollm_secure.errors import RunIncomplete
from fedcollm_secure.learning.training import Learner
from fedcollm_secure.operations.evidence.pack import write_pack
from fedcollm_secure.operations.live_progress import make_show
from fedcollm_secure.operations.run_command import run

Make = Callable[..., dict[str, Any]]
WORD, SEED, RECORDS = "canaryzwxq", 987654321, 57  # of each silo


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """Collect what a silo knows alone: its updates and its losses."""
    secrets: dict[str, list[Any]] = {"updates": [], "losses": []}
    update, accumulate = Learner.update, Learner._accumulate

    def watch_update(self: Learner, start: Any, number: int) -> Any:
        secrets["updates"].append(update(self, start, number))
        return secrets["updates"][-1]

    def watch_loss(self: Learner, indices: Any) -> float:
        secrets["losses"].append(accumulate(self, indices))
        return float(secrets["losses"][-1])

    monkeypatch.setattr(Learner, "update", watch_update)
    monkeypatch.setattr(Learner, "_accumulate", watch_loss)
    return secrets


@pytest.fixture
def config(tree: Make, tmp_path: Path) -> dict[str, Any]:
    topics = ("heart", "skin", "eye")
    rows = [{"text": f"{WORD}{n} murmur", "topic": topics[n % 3]} for n in range(4 * RECORDS)]
    path = tmp_path / "secret.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    made = tree(seed=SEED, rounds=1, aggregation={"masked": {}}, audit={"archive": True})
    made["data"]["source"] = {"path": str(path)}
    made["silo"]["weighting"] = "examples"
    return made


def shown(folder: Path) -> str:
    """Return all that others see of a run: the log with all beside it, the archive, the metrics, the pack."""
    seen = [folder / "audit", folder / "archive", folder / "pack"]
    files = [path for one in seen for path in one.rglob("*") if path.is_file()]
    files += [folder / name for name in ("summary.json", "metrics.jsonl", "report.html")]
    return "\n".join(path.read_bytes().decode("latin-1") for path in files if path.is_file())


def private_keys(folder: Path) -> Iterator[bytes]:
    for path in folder.rglob("identity.pem"):
        yield load_pem_private_key(path.read_bytes(), None).private_bytes_raw()  # type: ignore[union-attr]


def integers(value: object) -> Iterator[int]:
    match value:
        case dict():
            for item in value.values():
                yield from integers(item)
        case list():
            for item in value:
                yield from integers(item)
        case int():
            yield value


def test_secret_scan_a_whole_run_shows_no_canary(
    config: dict[str, Any],
    watched: dict[str, list[Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    out = tmp_path / "run"
    run(parse(config), out, resuming=False, show=make_show(1, None))
    write_pack(out, out / "pack")
    captured = capsys.readouterr()
    progress = captured.out + captured.err + caplog.text
    text = shown(out) + progress
    log = (out / "audit/log.jsonl").read_text()

    assert len(watched["updates"]) == 4
    assert watched["losses"]
    assert WORD not in text
    assert str(SEED) not in log + progress + (out / "silos/silo-1/journal.jsonl").read_text()
    for secret in private_keys(out):
        assert secret.hex() not in text
        assert secret.decode("latin-1") not in text
    for loss in watched["losses"]:
        assert f"{loss:.6f}" not in text
    for update in watched["updates"]:
        assert hashlib.sha256(update.tobytes()).hexdigest() not in text  # even a digest would confirm a guess
        assert update.astype("<f4")[:8].tobytes().decode("latin-1") not in text
        largest = float(np.abs(update).max())
        assert f"{largest:.6f}" not in log + progress
    events = [json.loads(line)["event"] for line in log.splitlines()]
    assert RECORDS not in set(integers(events))
    assert 4 * RECORDS in set(integers(events))  # Σw is declared: the scan does find numbers
    assert not re.search(rf"\b{RECORDS}\b", progress)


def test_secret_scan_an_error_in_a_silo_tells_others_no_record_and_no_number(
    config: dict[str, Any],
    watched: dict[str, list[Any]],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    honest = Learner._accumulate
    monkeypatch.setattr(Learner, "_accumulate", lambda self, i: honest(self, i) * (1.0 if len(i) % 2 else float("inf")))
    with pytest.raises(RunIncomplete) as caught:
        run(parse(config), tmp_path / "run", resuming=False, show=make_show(1, None))
    captured = capsys.readouterr()
    text = shown(tmp_path / "run") + captured.out + captured.err + caught.value.diagnostics()

    assert WORD not in text
    assert not re.search(rf"\b{RECORDS}\b", caught.value.diagnostics())
    finite = [loss for loss in watched["losses"] if np.isfinite(loss)]
    assert finite
    assert not any(f"{loss:.4f}" in text for loss in finite)
