"""A run killed at any point: what lies there can be verified and reported, and a resumed run ends as it should."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.requests import MANIFEST
from fedcollm_crypto.masking.requests import Refusal as SignedRefusal
from fedcollm_crypto.signed import Signed, sign
from fedcollm_privacy.ledger import read_ledger
from fedcollm_secure.assemble import prepare, resume, start
from fedcollm_secure.audit_log.events import PartyRefused, RoundClosed
from fedcollm_secure.audit_log.log import read_log
from fedcollm_secure.audit_log.run_verification import verify_run
from fedcollm_secure.config import parse, resolved
from fedcollm_secure.engines.engine import Chunks
from fedcollm_secure.engines.local import LocalEngine
from fedcollm_secure.errors import LogError, RunError
from fedcollm_secure.federation.coordinator import Coordinator
from fedcollm_secure.federation.messages import Begin, Close, decode, encode
from fedcollm_secure.federation.replies import Declined, Refusal, read_reply
from fedcollm_secure.federation.run_directory import RunDirectory
from fedcollm_secure.learning.vectors import digest
from fedcollm_secure.operations.report import write_report
from fedcollm_secure.operations.run_command import run
from tests.end_to_end.conftest import Quiet

Make = Callable[..., dict[str, object]]
MASKED = {"masked": {}}

# Every durable write of a run goes through one of these; the child dies at the k-th of them, before it happens.
CHILD = """
import os, sys
from pathlib import Path
deadline = int(sys.argv[3])
calls = 0
def dying(name):
    original = getattr(os, name)
    def wrapper(*arguments, **keywords):
        global calls
        calls += 1
        if calls == deadline:
            os._exit(137)
        return original(*arguments, **keywords)
    setattr(os, name, wrapper)
from fedcollm_secure.assemble import prepare, start
from fedcollm_secure.config import load
prepared = prepare(load(Path(sys.argv[1])))
for name in ("fsync", "replace", "rename"):
    dying(name)
job = start(prepared, Path(sys.argv[2]), lambda _, __: None)
list(job.rounds())
print(calls)
"""


WRITES = 200  # the durable writes of a whole run of two rounds and four silos, a few more or less


def _die(config: Path, out: Path, deadline: int) -> "subprocess.CompletedProcess[str]":
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    return subprocess.run(
        [sys.executable, "-c", CHILD, str(config), str(out), str(deadline)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def _spent(out: Path, silo: str) -> int:
    """Return how many rounds a silo's ledger was charged for."""
    lines = (out / "silos" / silo / "ledger.jsonl").read_text().splitlines()
    return sum('"reserve' in line for line in lines)


@pytest.mark.parametrize("share", [0.1, 0.35, 0.5, 0.7, 0.95])
def test_a_killed_run_is_readable_and_resumes_without_paying_twice(private: Make, tmp_path: Path, share: float) -> None:
    config, out = tmp_path / "config.yaml", tmp_path / "run"
    config.write_text(resolved(parse(private(rounds=2, aggregation=MASKED))))
    died = _die(config, out, max(1, round(share * WRITES)))
    assert died.returncode == 137, died.stderr
    if (out / "audit" / "log.jsonl").is_file():
        assert verify_run(out).incomplete is not None
        assert write_report(out).is_file()
    run(parse(private(rounds=2, aggregation=MASKED)), out, resuming=True, show=Quiet())

    assert verify_run(out).incomplete is None
    assert [json.loads(line)["round"] for line in (out / "metrics.jsonl").read_text().splitlines()] == [0, 1, 2]
    assert {_spent(out, f"silo-{i}") for i in range(1, 5)} == {2}


def _interrupt(_: object) -> None:
    raise KeyboardInterrupt


def _job_until(prepared: object, out: Path, rounds: int) -> None:
    job = start(prepared, out, lambda _, __: None)  # type: ignore[arg-type]
    lines = job.rounds()
    for _ in range(rounds + 1):
        next(lines)
    job.close()


def test_a_resumed_run_ends_where_an_uninterrupted_one_does(tree: Make, tmp_path: Path) -> None:
    config = parse(tree(rounds=3, aggregation=MASKED))
    run(config, tmp_path / "whole", resuming=False, show=Quiet())
    _job_until(prepare(config), tmp_path / "broken", 1)
    run(config, tmp_path / "broken", resuming=True, show=Quiet())
    whole, broken = ((tmp_path / name / "adapters/slm/adapter_model.safetensors") for name in ("whole", "broken"))

    assert whole.read_bytes() == broken.read_bytes()
    assert verify_run(tmp_path / "broken").incomplete is None


@pytest.mark.parametrize("drawn_before", [0, 1000])
def test_a_resumed_run_with_dropout_ends_where_an_uninterrupted_one_does(
    tree: Make, tmp_path: Path, drawn_before: int
) -> None:
    """Dropout follows seed, party and round, whatever this process drew before: both models' and LoRA's."""
    lora = {"rank": 2, "alpha": 4, "targets": ["q_proj", "v_proj"], "dropout": 0.4}
    config = parse(tree(rounds=3, aggregation=MASKED, lora=lora))
    run(config, tmp_path / "whole", resuming=False, show=Quiet())
    _job_until(prepare(config), tmp_path / "broken", 1)
    torch.rand(drawn_before)
    run(config, tmp_path / "broken", resuming=True, show=Quiet())
    without = parse(tree(rounds=3, aggregation=MASKED, lora={**lora, "dropout": 0.0}))
    run(without, tmp_path / "without", resuming=False, show=Quiet())

    for side in ("slm", "llm"):
        whole, broken, undropped = (
            (tmp_path / name / "adapters" / side / "adapter_model.safetensors").read_bytes()
            for name in ("whole", "broken", "without")
        )
        assert whole == broken
        assert whole != undropped  # dropout was there


def test_a_silo_whose_ledger_was_put_back_sits_out_and_the_others_go_on(private: Make, tmp_path: Path) -> None:
    config, out = parse(private(rounds=2, aggregation=MASKED)), tmp_path / "run"
    job = start(prepare(config), out, lambda _, __: None)
    folder, lines = out / "silos" / "silo-2", job.rounds()
    copy = {path: path.read_bytes() for path in folder.iterdir()}  # all that the silo has, its journal included
    next(lines), next(lines)
    job.close()
    shutil.rmtree(folder)
    folder.mkdir()
    for path, contents in copy.items():
        path.write_bytes(contents)
    run(config, out, resuming=True, show=Quiet())
    events = [entry.event for entry in read_log(out / "audit" / "log.jsonl").entries]
    contributors = [event.contributors for event in events if isinstance(event, RoundClosed)]

    assert PartyRefused(round=2, party="silo-2", reason_code="ledger_rolled_back") in events
    assert contributors[-1] == ("silo-1", "silo-3", "silo-4")
    assert _spent(out, "silo-2") == 0  # nothing was reserved, so nothing was trained
    with pytest.raises(LogError, match="silo-2"):
        verify_run(out)


def test_a_server_that_leaves_a_ledger_out_of_its_log_does_not_hide_an_older_copy(
    private: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgetful(closed: Callable[..., RoundClosed]) -> Callable[..., RoundClosed]:
        def without(*arguments: object) -> RoundClosed:
            event = closed(*arguments)
            return replace(event, ledgers={name: head for name, head in event.ledgers.items() if name != "silo-2"})

        return without

    monkeypatch.setattr(Coordinator, "_closed", forgetful(Coordinator._closed))
    config, out = parse(private(rounds=2, aggregation=MASKED)), tmp_path / "run"
    job = start(prepare(config), out, lambda _, __: None)
    ledger, lines = out / "silos" / "silo-2" / "ledger.jsonl", job.rounds()
    copy = ledger.read_bytes()
    next(lines), next(lines)
    job.close()
    ledger.write_bytes(copy)
    run(config, out, resuming=True, show=Quiet())
    events = [entry.event for entry in read_log(out / "audit" / "log.jsonl").entries]

    assert PartyRefused(round=2, party="silo-2", reason_code="ledger_rolled_back") in events
    assert ledger.read_bytes() == copy  # nothing was reserved, so nothing was trained


def test_what_is_no_adapter_is_refused_before_anything_is_reserved(
    private: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused: list[object] = []
    exchange = LocalEngine.exchange

    def server() -> Identity:
        return Identity.load("server", tmp_path / "run" / "server" / "identity.pem")

    def hostile(self: LocalEngine, requests: Mapping[str, bytes]) -> Iterator[tuple[str, Chunks]]:
        request = decode(bytes(requests.get("silo-1") or b"FedCoLLM\x04\x02"))
        if isinstance(request, Begin) and not refused:
            whole = request.adapter
            for wrong in (whole[:-1], whole[:0], whole * np.float32("nan"), whole + np.float32("inf")):
                manifest = RoundManifest.from_body(Signed.decode(request.payload).body)
                body = replace(manifest, adapter_hash=digest(wrong)).to_body()
                message = encode(replace(request, adapter=wrong, payload=sign(server(), MANIFEST, body).encode()))
                refused.extend(read_reply(reply) for _, reply in exchange(self, {"silo-1": message}))
            assert read_ledger(tmp_path / "run" / "silos" / "silo-1" / "ledger.jsonl") == ()
        yield from exchange(self, requests)

    monkeypatch.setattr(LocalEngine, "exchange", hostile)
    run(parse(private(rounds=1, aggregation=MASKED)), tmp_path / "run", resuming=False, show=Quiet())

    said = [
        SignedRefusal.from_body(Signed.decode(reply.refusal[1:]).body)
        for reply in refused
        if isinstance(reply, Declined)
    ]
    reason = "manifest: expected an adapter of 64 values and a basis, all of them finite"
    assert [(each.reason_code, each.reason) for each in said] == [("malformed", reason)] * 4


def test_a_close_of_a_round_that_never_was_changes_nothing(private: Make, tmp_path: Path) -> None:
    job = start(prepare(parse(private(rounds=1, aggregation=MASKED))), tmp_path / "run", lambda _, __: None)
    early = encode(Close(session=job.session, round=77, adapter="ab" * 32))
    replies = [read_reply(reply) for _, reply in job.coordinator._tools.engine.exchange({"silo-1": early})]
    list(job.rounds())
    job.close()
    events = [entry.event for entry in read_log(tmp_path / "run" / "audit" / "log.jsonl").entries]

    assert [reply.reason_code for reply in replies if isinstance(reply, Refusal)] == ["protocol_violation"]
    assert "silo-1" in next(event for event in events if isinstance(event, RoundClosed)).contributors


def test_a_round_that_died_after_its_sum_goes_on_from_the_sum(tree: Make, tmp_path: Path) -> None:
    config, out = parse(tree(rounds=1, aggregation=MASKED)), tmp_path / "run"
    prepared = prepare(config)
    job = start(prepared, out, lambda _, __: None)
    lines = job.rounds()
    next(lines)
    job.coordinator._sum(1, 0)
    job.close()
    uploads = (out / "silos" / "silo-1" / "stages.jsonl").read_bytes()
    again = resume(prepare(config), out, lambda _, __: None)
    list(again.rounds())
    again.close()

    assert (out / "silos" / "silo-1" / "stages.jsonl").read_bytes() == uploads  # no silo was asked again
    assert RunDirectory(out).aggregate(1) is None


def test_a_run_that_goes_on_is_not_resumed_beside_itself(tree: Make, tmp_path: Path) -> None:
    config, out = parse(tree(rounds=1, aggregation=MASKED)), tmp_path / "run"
    job = start(prepare(config), out, lambda _, __: None)
    next(job.rounds())
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(RunError, match="in use by another process"):
        resume(prepare(config), out, lambda _, __: None)

    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before
    job.close()
    resume(prepare(config), out, lambda _, __: None).close()


def test_another_configuration_cannot_resume(tree: Make, tmp_path: Path) -> None:
    _job_until(prepare(parse(tree())), tmp_path / "run", 0)

    with pytest.raises(RunError, match="differs from the given configuration"):
        run(parse(tree(rounds=5)), tmp_path / "run", resuming=True, show=Quiet())


def test_a_run_that_died_in_its_last_step_is_resumed_to_do_the_rest(
    tree: Make, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config, out = parse(tree(rounds=1, aggregation=MASKED)), tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(Coordinator, "attest", _interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(config, out, resuming=False, show=Quiet())
    entries = len(read_log(out / "audit" / "log.jsonl").entries)
    assert "resume it" in str(verify_run(out).incomplete)
    summary = run(config, out, resuming=True, show=Quiet())

    assert summary["log"] == json.loads((out / "summary.json").read_text())["log"]
    assert verify_run(out).incomplete is None
    assert len(read_log(out / "audit" / "log.jsonl").entries) == entries  # the log was closed, and stays as it was
    with pytest.raises(RunError, match="is finished"):
        run(config, out, resuming=True, show=Quiet())


def test_a_finished_run_cannot_be_resumed(tree: Make, tmp_path: Path) -> None:
    run(parse(tree(rounds=1)), tmp_path / "run", resuming=False, show=Quiet())

    with pytest.raises(RunError, match="is finished; there is nothing to resume"):
        run(parse(tree(rounds=1)), tmp_path / "run", resuming=True, show=Quiet())


def test_an_empty_folder_cannot_be_resumed(tree: Make, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds no run to resume"):
        run(parse(tree()), tmp_path / "nothing", resuming=True, show=Quiet())


def test_a_run_that_died_before_its_first_round_begins_again_in_its_folder(tree: Make, tmp_path: Path) -> None:
    config, out = parse(tree(rounds=1, aggregation=MASKED)), tmp_path / "run"
    start(prepare(config), out, lambda _, __: None).close()
    (out / "mine.txt").write_text("stays")
    with pytest.raises(RunError, match="is not empty"):  # a folder that holds more than a run is nobody's to fill
        run(config, out, resuming=True, show=Quiet())
    assert [path.name for path in out.iterdir()] == ["mine.txt"]

    (out / "mine.txt").unlink()
    start(prepare(config), out, lambda _, __: None).close()
    run(config, out, resuming=True, show=Quiet())
    assert verify_run(out).incomplete is None


def test_a_run_that_is_at_work_before_its_first_round_is_not_begun_again(tree: Make, tmp_path: Path) -> None:
    config, out = parse(tree(rounds=1, aggregation=MASKED)), tmp_path / "run"
    job = start(prepare(config), out, lambda _, __: None)
    with pytest.raises(RunError, match="in use by another process"):
        run(config, out, resuming=True, show=Quiet())
    list(job.rounds())
    job.close()

    assert (out / "adapters" / "state.json").is_file()
