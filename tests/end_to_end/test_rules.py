"""Every rule under masks: the same bits as in the clear, over one set of silos, and void where that set breaks."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest

from fedcollm_crypto.aggregation import Chunks
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.requests import Refusal as SignedRefusal
from fedcollm_crypto.plain import REQUEST
from fedcollm_crypto.signed import Signed
from fedcollm_secure.assemble import prepare, start
from fedcollm_secure.audit_log.events import GateRejected, RoundClosed, RoundStarted
from fedcollm_secure.audit_log.log import LOG_NAME, read_log
from fedcollm_secure.config import parse
from fedcollm_secure.engines.engine import Engine
from fedcollm_secure.federation.messages import Begin, decode, encode
from fedcollm_secure.federation.replies import Declined, read_reply

Make = Callable[..., dict[str, object]]
MASKED = {"masked": {"clip": 1.0, "bits": 24}}


def _run(tree: Mapping[str, object], out: Path) -> tuple[np.ndarray, list[Mapping[str, object]]]:
    prepared = prepare(parse(tree))
    job = start(prepared, out, lambda _, __: None)
    lines = list(job.rounds())
    job.close()
    return prepared.server_slm.read(), lines


def _events(out: Path) -> list[object]:
    log = read_log(out / "audit" / LOG_NAME)
    return [entry.event for entry in log.entries]


@pytest.mark.parametrize(("factors", "rounds"), [("ffa", 1), ("rolora", 2), ("fedsvd", 1)])
def test_a_masked_run_ends_in_the_same_bits_as_a_plain_one(
    tree: Make, tmp_path: Path, factors: str, rounds: int
) -> None:
    distill = {"steps": 0}
    plain, _ = _run(tree(factors=factors, rounds=rounds, distill=distill), tmp_path / "plain")
    masked, _ = _run(tree(factors=factors, rounds=rounds, distill=distill, aggregation=MASKED), tmp_path / "masked")

    assert np.array_equal(plain, masked)


def test_a_private_exact_run_is_paid_for_once_and_says_what_the_cut_lost(private: Make, tmp_path: Path) -> None:
    _, lines = _run(private(factors="exact", rounds=1, aggregation=MASKED), tmp_path / "run")
    ledger = (tmp_path / "run" / "silos" / "silo-1" / "ledger.jsonl").read_text()

    assert 0 < cast(float, lines[1]["cut_error"]) < 1
    assert [ledger.count(f'"{word}"') for word in ("reserve", "release", "done")] == [1, 1, 1]


def test_fedsvd_leaves_orthonormal_rows_after_the_servers_own_steps(tree: Make, tmp_path: Path) -> None:
    theta, _ = _run(tree(factors="fedsvd", rounds=1), tmp_path / "run")
    rule = prepare(parse(tree(factors="fedsvd"))).rule

    for place in rule.layout.places:  # type: ignore[attr-defined]
        _, a = place.cut(theta)
        assert a @ a.T == pytest.approx(np.eye(len(a)), abs=1e-5)


def test_exact_is_the_mean_of_the_silos_products(tree: Make, tmp_path: Path) -> None:
    config = parse(tree(rounds=1, distill={"steps": 0}, aggregation=MASKED, factors="exact"))
    prepared = prepare(config)
    theta = prepared.server_slm.read()
    places = prepared.rule.layout.places  # type: ignore[attr-defined]
    trained = [theta + prepared.learner(name).update(theta, 1) for name in prepared.silos]
    job = start(prepared, tmp_path / "run", lambda _, __: None)
    lines = list(job.rounds())
    job.close()
    ended = prepared.server_slm.read()

    lost = whole = 0.0
    for place in places:
        mean = np.mean([b @ a for b, a in (place.cut(each) for each in trained)], axis=0)
        u, s, vt = np.linalg.svd(mean)
        b, a = place.cut(ended)
        assert b @ a == pytest.approx((u[:, :2] * s[:2]) @ vt[:2], abs=1e-5)
        lost, whole = lost + (s[2:] ** 2).sum(), whole + (s**2).sum()
    assert lines[-1]["cut_error"] == pytest.approx(np.sqrt(lost / whole), abs=1e-3)


def manifest_in(payload: bytes) -> RoundManifest:
    """Return the manifest that the server signed, from the first request of a masked or a plain sum."""
    signed = payload.partition(b"\n")[2] if payload.startswith(REQUEST) else payload
    return RoundManifest.from_body(Signed.decode(signed).body)


class Absent:
    """An engine in which one silo does not answer a chosen pass; what it changes, it changes on the wire."""

    def __init__(self, engine: Engine, passes: tuple[int, ...], *, basis: float | None = None) -> None:
        self._engine, self._passes, self._basis = engine, passes, basis
        self._now = 0
        self.refusals: list[SignedRefusal] = []

    def parties(self) -> tuple[str, ...]:
        return tuple(self._engine.parties())

    def wait(self, parties: Iterable[str], least: int) -> frozenset[str]:
        return self._engine.wait(parties, least)

    def exchange(self, requests: Mapping[str, bytes]) -> Iterator[tuple[str, Chunks]]:
        messages = dict(requests)
        for request in map(decode, messages.values()):
            if isinstance(request, Begin):
                self._now = manifest_in(request.payload).linear_pass
        if self._now in self._passes and self._basis is None:
            messages.pop("silo-2", None)
        elif self._now in self._passes and isinstance(request := decode(messages["silo-2"]), Begin):
            changed = replace(request, basis=np.full_like(request.basis, self._basis))
            for party, reply in self._engine.exchange({"silo-2": encode(changed)}):
                found = read_reply(reply)
                assert isinstance(found, Declined), party
                self.refusals.append(SignedRefusal.from_body(Signed.decode(found.refusal[1:]).body))
            return
        yield from self._engine.exchange(messages)


def _broken(tree: Make, out: Path, passes: tuple[int, ...], **changes: object) -> list[object]:
    job = start(prepare(parse(tree(factors="exact", rounds=1, **changes))), out, lambda _, __: None)
    tools = job.coordinator._tools
    job.coordinator._tools = replace(tools, engine=Absent(tools.engine, passes))
    list(job.rounds())
    job.close()
    return _events(out)


@pytest.mark.parametrize("aggregation", [MASKED, {"unsafe_plain": {}}])
def test_a_silo_that_leaves_between_the_passes_voids_the_round(
    tree: Make, tmp_path: Path, aggregation: Mapping[str, object]
) -> None:
    events = _broken(tree, tmp_path / "run", (1,), aggregation=aggregation)
    closed = next(event for event in events if isinstance(event, RoundClosed))

    assert [e.reason for e in events if isinstance(e, GateRejected)] == ["lost_between_passes"]
    assert closed.contributors == ()


def test_a_silo_that_is_absent_from_both_passes_voids_nothing(tree: Make, tmp_path: Path) -> None:
    events = _broken(tree, tmp_path / "run", (0, 1), aggregation=MASKED)
    closed = next(event for event in events if isinstance(event, RoundClosed))

    assert closed.contributors == ("silo-1", "silo-3", "silo-4")
    assert [len(event.cohort) for event in events if isinstance(event, RoundStarted)] == [4, 3]


def test_a_silo_that_is_shown_another_basis_than_the_manifest_names_refuses(tree: Make, tmp_path: Path) -> None:
    job = start(
        prepare(parse(tree(factors="exact", rounds=1, aggregation=MASKED))), tmp_path / "run", lambda _, __: None
    )
    tools = job.coordinator._tools
    absent = Absent(tools.engine, (1,), basis=0.0)
    job.coordinator._tools = replace(tools, engine=absent)
    list(job.rounds())
    job.close()

    assert {refusal.reason_code for refusal in absent.refusals} == {"other_plan"}
    assert "lora_schema_hash" in absent.refusals[0].reason


@pytest.mark.parametrize(
    ("factors", "scheme", "rounds"), [("rolora", "bfv", 2), ("exact", "bfv", 1), ("exact", "ckks", 1)]
)
def test_an_encrypted_run_ends_in_the_same_bits_as_a_plain_one(
    tree: Make, tmp_path: Path, factors: str, scheme: str, rounds: int
) -> None:
    changes: dict[str, object] = {"factors": factors, "rounds": rounds, "distill": {"steps": 0}}
    plain, _ = _run(tree(**changes), tmp_path / "plain")
    encrypted, _ = _run(tree(**changes, aggregation={scheme: {"bits": 24}}), tmp_path / "encrypted")

    assert np.array_equal(plain, encrypted)
