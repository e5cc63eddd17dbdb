"""What the server saw can be added up again, views can be compared, and one entry can be proven by itself."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.logproof import LogProof
from fedcollm_secure import cli
from fedcollm_secure.audit_log.checkpoint_folder import CheckpointFolder
from fedcollm_secure.audit_log.log import LOG_NAME, read_log
from fedcollm_secure.config import parse
from fedcollm_secure.errors import ConfigError
from fedcollm_secure.operations.run_command import run
from fedcollm_secure.operations.verify_command import (
    verify_budget,
    verify_directory,
    verify_equivocation,
    verify_inclusion,
    verify_log,
    verify_round,
)
from tests.end_to_end.conftest import Quiet

Make = Callable[..., dict[str, object]]


@pytest.fixture
def config(private: Make) -> dict[str, object]:
    return private(rounds=1, aggregation={"masked": {}}, audit={"archive": True})


@pytest.fixture
def archived(config: dict[str, object], tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of one run, which is made once."""
    once = tmp_path_factory.getbasetemp() / "archived"
    if not once.exists():
        run(parse(config), once, resuming=False, show=Quiet())
    return shutil.copytree(once, tmp_path / "run")


def change_byte(path: Path, place: int) -> None:
    data = bytearray(path.read_bytes())
    data[place] ^= 1
    path.write_bytes(data)


def test_an_archived_round_adds_up_again_and_any_changed_byte_is_found(archived: Path):
    code, found = verify_round(1, archived, None)
    assert (code, found["contributors"]) == (0, ("silo-1", "silo-2", "silo-3", "silo-4"))

    vector = archived / "archive/1-1/3/silo-2.bin"
    original = vector.read_bytes()
    change_byte(vector, 100)
    assert verify_round(1, archived, None)[1]["reason"] == (
        "archive/1-1: the replies of silo-2 are not those that the log vouches for"
    )
    vector.write_bytes(original)
    change_byte(archived / "archive/1-1/adapter.bin", 3)
    assert "adapter.bin is not the adapter" in str(verify_round(1, archived, None)[1]["reason"])


def test_a_sum_that_the_server_made_up_is_found_by_adding_up_again(
    config: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    import hashlib

    monkeypatch.setattr("fedcollm_secure.federation.released_sum.sha256", lambda: hashlib.sha256(b"made up"))
    run(parse(config), tmp_path / "run", resuming=False, show=Quiet())
    assert verify_directory(tmp_path / "run", None, None)[0] == 0  # nobody changed the log: the lie is in it

    code, found = verify_round(1, tmp_path / "run", None)

    assert code == 1
    assert "sum_digest is" in str(found["reason"])


@pytest.mark.parametrize("factors", ["exact", "fedsvd"])
def test_every_linear_pass_of_a_post_quantum_round_adds_up_again(factors: str, tree: Make, tmp_path: Path):
    security, audit = {"post_quantum": True}, {"archive": True}
    changes = {"rounds": 1, "factors": factors, "aggregation": {"masked": {}}, "security": security, "audit": audit}
    run(parse(tree(**changes)), tmp_path / "run", resuming=False, show=Quiet())

    assert verify_directory(tmp_path / "run", None, None)[0] == 0
    code, found = verify_round(1, tmp_path / "run", None)
    assert (code, found["passes"]) == (0, 2 if factors == "exact" else 1)
    change_byte(tmp_path / f"run/archive/1-{found['passes']}/3/silo-2.bin", 100)
    assert verify_round(1, tmp_path / "run", None)[0] == 1


def test_a_round_that_was_not_archived_or_not_run_is_incomplete(archived: Path):
    shutil.rmtree(archived / "archive")

    assert "kept no transcript" in str(verify_round(1, archived, None)[1]["reason"])
    code, found = verify_round(7, archived, None)
    assert (code, found["reason"]) == (3, "the log holds no sum of round 7: it was not closed, or gave none")


def test_an_archive_of_updates_in_the_clear_is_refused(tree: Make):
    with pytest.raises(ConfigError, match="expected masked: no other round can be added up again"):
        parse(tree(audit={"archive": True}))


def test_a_ledger_is_held_against_what_the_log_commits_to(archived: Path, tmp_path: Path):
    ledger = archived / "silos/silo-1/ledger.jsonl"
    code, found = verify_budget(ledger, None)
    assert (code, found["reason"]) == (0, "ε was recomputed, and is what the log commits to in 1 rounds")

    elsewhere = tmp_path / "silo-1" / "ledger.jsonl"
    elsewhere.parent.mkdir()
    shutil.copyfile(archived / "silos/silo-2/ledger.jsonl", elsewhere)
    assert "no log is at hand" in str(verify_budget(elsewhere, None)[1]["reason"])
    code, found = verify_budget(elsewhere, archived / "audit" / LOG_NAME)
    assert code == 1
    assert "lacks the head that the log commits to" in str(found["reason"])


def test_an_epsilon_that_was_made_up_is_found(
    config: dict[str, object], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("fedcollm_privacy.ledger.Ledger.epsilon_spent", lambda _: 0.125)
    run(parse(config), tmp_path / "run", resuming=False, show=Quiet())

    code, found = verify_budget(tmp_path / "run/silos/silo-1/ledger.jsonl", None)

    assert code == 1
    assert "the log says 0.125000" in str(found["reason"])


def test_views_of_one_log_agree_and_those_of_two_do_not(
    config: dict[str, object], archived: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    journal = archived / "silos/silo-1/journal.jsonl"
    notes = sorted((archived / "audit/checkpoints").iterdir(), key=lambda path: int(path.stem))
    assert verify_equivocation(archived, journal)[0] == 0
    assert verify_equivocation(notes[-1], journal)[0] == 0
    assert verify_equivocation(notes[0], notes[-1])[0] == 3  # no size in common: only the log itself can tell

    copy = shutil.copytree(archived, tmp_path / "copy")
    code, found = verify_equivocation(archived, copy)
    assert (code, str(found["reason"]).startswith("the two logs are equal: ")) == (0, True)

    forked = shutil.copytree(archived, tmp_path / "forked")
    log = forked / "audit" / LOG_NAME
    log.write_bytes(log.read_bytes().replace(b'"total_weight":4', b'"total_weight":5'))
    assert verify_equivocation(archived, forked)[0] == verify_equivocation(journal, log)[0] == 1

    run(parse(config), tmp_path / "other", resuming=False, show=Quiet())
    code, found = verify_equivocation(archived, tmp_path / "other")
    assert code == 3
    assert "heads of different logs" in str(found["reason"])


def proof_of(run: Path, index: int) -> LogProof:
    contents, note = read_log(run / "audit" / LOG_NAME), CheckpointFolder(run / "audit").last()
    assert note is not None
    lines = (run / "audit" / LOG_NAME).read_bytes().split(b"\n")
    path = contents.tree.inclusion_proof(index, len(contents.entries))
    return LogProof(entry=lines[index], index=index, path=tuple(path), checkpoint=note)


def test_one_entry_is_proven_by_one_file(archived: Path, tmp_path: Path):
    proof, file = proof_of(archived, 1), tmp_path / "1.tlog-proof"
    file.write_text(proof.encode(), encoding="utf-8")
    assert LogProof.decode(proof.encode()) == proof

    code, found = verify_inclusion(file, archived, None)
    assert (code, found["cosigners"]) == (0, 4)
    assert json.loads(str(found["entry"]))["index"] == 1

    forged = LogProof(entry=proof.entry.replace(b'"index":1', b'"index":2'), **_rest(proof))
    file.write_text(forged.encode(), encoding="utf-8")
    assert verify_inclusion(file, archived, None)[0] == 1
    uncosigned = LogProof(**{**vars(proof), "checkpoint": _without_silos(proof)})
    file.write_text(uncosigned.encode(), encoding="utf-8")
    assert "cosigned by 0 silos, 3 are needed" in str(verify_inclusion(file, archived, None)[1]["reason"])
    with pytest.raises(ConfigError, match="expected --key"):
        verify_inclusion(file, None, None)


def _rest(proof: LogProof) -> dict[str, object]:
    return {name: value for name, value in vars(proof).items() if name != "entry"}


def _without_silos(proof: LogProof):
    return type(proof.checkpoint)(text=proof.checkpoint.text, signatures=proof.checkpoint.signatures[:1])


@pytest.mark.parametrize(
    ("old", "new", "reason"),
    [
        ("@v1", "@v2", "were expected"),
        ("extra ", "more ", "the entry and its index"),
        ("index 1", "index 01", "the entry and its index"),
        ("\n\n", "\n", "canonical base64"),
        ("index 1\n", "index 1\nAAAA\n", "hashes of 32 bytes"),
    ],
)
def test_a_file_that_is_no_proof_is_refused(old: str, new: str, reason: str, archived: Path):
    with pytest.raises(ProtocolError, match=reason):
        LogProof.decode(proof_of(archived, 1).encode().replace(old, new, 1))


def test_a_log_file_verifies_with_its_checkpoints_alone(archived: Path, tmp_path: Path):
    shutil.copytree(archived / "audit", tmp_path / "audit")

    code, found = verify_log(tmp_path / "audit" / LOG_NAME, None, None)

    assert (code, found["signed"], found["cosigned"]) == (0, found["entries"], found["entries"])


def test_the_command_takes_each_form_and_refuses_others(archived: Path, capsys: pytest.CaptureFixture[str]):
    ledger, journal = archived / "silos/silo-1/ledger.jsonl", archived / "silos/silo-1/journal.jsonl"
    good = [
        ["round", "1", archived],
        ["round", "1", archived, "--recompute"],
        ["budget", ledger, "--log", archived / "audit" / LOG_NAME],
        ["equivocation", archived, journal],
        [archived, "--key", archived / "audit/log.pub"],
    ]
    bad = [
        ["round", "one", archived],
        ["equivocation", archived],
        ["gossip", "x"],
    ]

    assert [cli.main(["verify", *map(str, words)]) for words in good] == [0, 0, 0, 0, 0]
    assert [cli.main(["verify", *map(str, words)]) for words in bad] == [2, 2, 2]
    assert "verified" in capsys.readouterr().out
