"""Bytes and folders of a stranger end in a refusal, at once and cheaply: A20."""

from pathlib import Path

import pytest

from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.signed import Signed
from fedcollm_secure.assurance.attacks import hostile_bytes
from fedcollm_secure.assurance.attacks.hostile_bytes import hangs, nested, run_with_a_fifo, unsigned
from fedcollm_secure.assurance.attacks.twins.trusting_reader import TwinServer


def test_a_reader_without_bounds_raises_at_some_depths_pays_for_strangers_and_hangs() -> None:
    outcome = hostile_bytes.against_twin()

    assert outcome.succeeded
    assert outcome.figures["replies_that_raised"] > 0
    assert outcome.figures["readers_that_hang"] == 1


def test_every_depth_and_every_folder_ends_in_a_refusal() -> None:
    outcome = hostile_bytes.against_us()

    assert not outcome.succeeded
    assert outcome.reason == "too_deep, too_full, unsigned, no_regular_file"
    assert outcome.figures["replies_that_raised"] == outcome.figures["readers_that_hang"] == 0


def test_the_twins_own_parser_takes_the_depth_that_its_walk_does_not() -> None:
    twin = TwinServer()

    def raises(depth: int) -> bool:
        try:
            twin.absorb("silo-01", unsigned(nested(depth)))
        except RecursionError:
            return True
        return False

    assert any(raises(depth) for depth in range(400, 1001, 5))


def test_without_the_bounds_a_signed_body_would_come_out_as_another_error(monkeypatch: pytest.MonkeyPatch) -> None:
    message = Signed.decode(unsigned(nested(100_000), kind="shares"))
    with pytest.raises(ProtocolError, match="at most 16"):
        _ = message.body
    monkeypatch.setattr("fedcollm_crypto.canonical.check_bounds", lambda *_: None)

    with pytest.raises(RecursionError):
        _ = message.body


def test_without_the_regular_file_a_verifier_would_wait_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    from fedcollm_secure.operations.verify_command import verify_directory

    monkeypatch.setattr("fedcollm_secure.audit_log.run_verification.require_plain", lambda _: None)
    monkeypatch.setattr(
        "fedcollm_secure.audit_log.untrusted_files.read_regular", lambda path, *_: Path(path).read_bytes()
    )
    with run_with_a_fifo() as folder:
        assert hangs(lambda run: verify_directory(run, None, None), folder)
