"""A whole run in which one silo deals bad shares: it is convicted, the others go on, and everybody can check it."""

from collections.abc import Callable
from pathlib import Path
from secrets import token_bytes
from typing import Any

import pytest

from fedcollm_crypto import shamir
from fedcollm_crypto.masking import attempt
from fedcollm_crypto.masking.attempt import Place
from fedcollm_secure import cli
from fedcollm_secure.assemble import prepare, start
from fedcollm_secure.audit_log.events import PartyConvicted, PartyRefused, RoundClosed, RoundStarted, SumAgreed
from fedcollm_secure.audit_log.log import read_log
from fedcollm_secure.audit_log.run_verification import verify_run
from fedcollm_secure.config import parse
from fedcollm_secure.errors import LogError
from fedcollm_secure.operations.run_command import run
from tests.end_to_end.conftest import Quiet

Make = Callable[..., dict[str, Any]]
BAD = "silo-2"


@pytest.fixture
def bad_dealer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let one silo deal each recipient a share of another secret; every box opens."""
    honest = attempt.deal_shares

    def deal(place: Place, secrets: Any, channels: Any, randomness: Any) -> attempt.Dealt:
        if place.me != BAD:
            return honest(place, secrets, channels, randomness)
        boxes, contents = {}, {}
        for party in place.hellos:
            other = attempt.replace(secrets, seed=token_bytes(shamir.SECRET_BYTES))
            dealt = honest(place, other, channels, randomness)
            boxes[party], contents[party] = dealt.boxes[party], dealt.contents[party]
        return attempt.Dealt(boxes=boxes, contents=contents)

    monkeypatch.setattr(attempt, "deal_shares", deal)


@pytest.mark.usefixtures("bad_dealer")
def test_a_run_with_a_dealer_of_bad_shares_convicts_it_and_goes_on(
    tree: Make, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "run"
    run(parse(tree(rounds=2, aggregation={"masked": {}})), out, resuming=False, show=Quiet())
    events = [entry.event for entry in read_log(out / "audit" / "log.jsonl").entries]
    convicted = [event for event in events if isinstance(event, PartyConvicted)]
    closed = [event for event in events if isinstance(event, RoundClosed)]
    honest = sorted({silo for event in events if isinstance(event, RoundStarted) for silo in event.cohort} - {BAD})

    assert [(event.round, event.attempt, event.party, event.fault) for event in convicted] == [(1, 1, BAD, "seed")]
    assert [sorted(event.contributors) for event in closed] == [honest, honest]
    assert [sorted(event.survivors) for event in events if isinstance(event, SumAgreed)][1:] == [honest, honest]
    assert not any(isinstance(event, PartyRefused) for event in events)
    assert verify_run(out).incomplete is None
    assert cli.main(["verify", str(out)]) == 0
    capsys.readouterr()

    proof = out / "audit" / "proofs" / f"{convicted[0].proof_digest}.json"
    proof.write_bytes(proof.read_bytes().replace(b'"seed"', b'"key"'))
    with pytest.raises(LogError, match=f"the proof against {BAD}"):
        verify_run(out)


@pytest.mark.usefixtures("bad_dealer")
def test_a_resumed_run_leaves_the_convicted_out(tree: Make, tmp_path: Path) -> None:
    config, out = parse(tree(rounds=2, aggregation={"masked": {}})), tmp_path / "run"
    job = start(prepare(config), out, lambda _, __: None)
    lines = job.rounds()
    next(lines), next(lines)
    job.close()
    run(config, out, resuming=True, show=Quiet())
    started = [e.event for e in read_log(out / "audit" / "log.jsonl").entries if isinstance(e.event, RoundStarted)]

    assert [(event.round, BAD in event.cohort) for event in started] == [(1, True), (1, False), (2, False)]
    assert verify_run(out).incomplete is None


def test_nobody_is_convicted_in_an_honest_run(tree: Make, tmp_path: Path) -> None:
    out = tmp_path / "run"
    run(parse(tree(rounds=1, aggregation={"masked": {}})), out, resuming=False, show=Quiet())
    entries = read_log(out / "audit" / "log.jsonl").entries

    assert not any(isinstance(entry.event, PartyConvicted) for entry in entries)
    assert not (out / "audit" / "proofs").exists()
