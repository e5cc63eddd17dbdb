"""A server that keeps two logs finds no second quorum, and honest silos hold its signature as evidence: A10."""

from pathlib import Path

import pytest

from fedcollm_crypto.errors import Refused
from fedcollm_secure.assurance.attacks import forked_log
from fedcollm_secure.audit_log.journal import HeadRefused
from fedcollm_secure.audit_log.witness import View


def test_two_signed_chains_are_both_believed() -> None:
    assert forked_log.against_twin().succeeded


def test_the_second_log_gets_no_quorum_and_is_refused_where_the_first_was_seen() -> None:
    outcome = forked_log.against_us()

    assert not outcome.succeeded
    assert outcome.reason == "no_second_quorum, forked_log"
    assert outcome.figures == {"logs_believed": 0, "quorum": 4, "silos_that_refused": 2}
    assert "the keeper signed two logs" in outcome.told


def test_a_silo_that_was_shown_both_keeps_the_servers_signature(tmp_path: Path) -> None:
    attacker = forked_log.Attacker(tmp_path)
    attacker.show(attacker.honest, ["silo-01"])

    assert attacker.show(attacker.forged, ["silo-01"]) == {"silo-01": "forked_log"}

    evidence = attacker.journals["silo-01"].entries[-1]
    assert isinstance(evidence, HeadRefused)
    assert evidence.note == attacker.forged.checkpoint_shown().encode()
    attacker.close()


def test_without_the_consistency_proof_both_logs_get_their_quorum(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedcollm_secure.audit_log.witness.verify_consistency", lambda *_: None)

    assert forked_log.against_us().succeeded


def test_a_quorum_of_a_bare_majority_would_let_one_liar_make_two(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedcollm_secure.audit_log.checkpoint_folder.quorum", lambda witnesses, _: witnesses // 2 + 1)

    assert forked_log.against_us().figures["logs_believed"] == 2


def test_a_silo_in_league_needs_a_second_memory(tmp_path: Path) -> None:
    attacker = forked_log.Attacker(tmp_path)
    attacker.show(attacker.honest, ["silo-01"])
    log = attacker.forged
    view = View(note=log.checkpoint().encode(), old=log.head.size, proof=())

    with pytest.raises(Refused, match="two roots"):
        attacker.witnesses["silo-01"].cosign(view)
    attacker.close()
