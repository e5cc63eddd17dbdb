"""The coordinator asks where it does not know, mends what was lost on the way, and believes no silo's word."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from fedcollm_crypto.checkpoint import cosigners
from fedcollm_crypto.errors import ProtocolError, Refused
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_secure.audit_log.checkpoint_folder import Witnesses
from fedcollm_secure.audit_log.events import RoundStarted
from fedcollm_secure.audit_log.log import read_log
from fedcollm_secure.audit_log.roster_and_manifests import check_manifests
from fedcollm_secure.errors import LogError
from fedcollm_secure.federation.attestation import Attestation
from fedcollm_secure.federation.exchange import Traffic
from fedcollm_secure.federation.messages import Show, decode
from fedcollm_secure.federation.replies import Cosigned, Refusal, note_reply
from fedcollm_secure.federation.run_directory import RunDirectory

Begin = Callable[..., Any]


class Silos:
    """An engine whose silos cosign, and may be deaf or lose their answers."""

    def __init__(self, log: Any) -> None:
        self.log, self.asked, self.deaf = log, list[str](), set[str]()
        self.loses_answer: set[str] = set()

    def parties(self) -> list[str]:
        return list(self.log.names)

    def exchange(self, requests: Mapping[str, bytes]) -> Iterator[tuple[str, Any]]:
        for party, message in requests.items():
            request = decode(message)
            assert isinstance(request, Show)
            self.asked.append(f"{party}{'' if request.view else '?'}")
            if party in self.deaf:
                continue
            reply = self._answer(party, request)
            if party not in self.loses_answer:
                yield party, note_reply(reply)

    def _answer(self, party: str, request: Show) -> Cosigned | Refusal:
        witness = self.log.witnesses[party]
        try:
            lines = "".join(line.encode() for line in witness.cosign(request.view)) if request.view else ""
        except Refused as refused:
            return Refusal(reason_code=refused.reason_code, reason=str(refused))
        return Cosigned(lines=lines, size=witness.head.size, heard=0)


@pytest.fixture
def log(witnessed: Begin, tmp_path: Path) -> Any:
    return witnessed(tmp_path / "run")


def attestation(log: Any, silos: Silos) -> Attestation:
    return Attestation(log=log.log, engine=silos, witnesses=Witnesses.of(log.roster), traffic=Traffic())


def test_it_asks_for_heads_once_and_then_remembers(log: Any) -> None:
    silos = Silos(log)
    told = attestation(log, silos)

    assert told.close(log.names) == 3
    log.log.append(_started())
    assert told.close(log.names) == 3
    assert silos.asked == ["north?", "south?", "west?", *log.names, *log.names]


def test_a_silo_whose_answer_was_lost_is_asked_again_and_cosigns(log: Any) -> None:
    silos = Silos(log)
    told = attestation(log, silos)
    silos.loses_answer = {"north"}
    assert told.close(log.names) == 2
    log.log.append(_started())
    silos.loses_answer = set()

    assert told.close(log.names) == 3  # it had cosigned what the coordinator did not hear of
    assert silos.asked[-4:] == ["north?", *log.names]


def test_a_coordinator_that_restarts_goes_on_from_what_the_silos_remember(log: Any) -> None:
    attestation(log, Silos(log)).close(log.names)
    log.log.append(_started())

    assert attestation(log, Silos(log)).close(log.names) == 3


def test_a_silo_that_says_nothing_is_missing_from_the_checkpoint_and_stops_nobody(log: Any) -> None:
    silos = Silos(log)
    silos.deaf = {"west"}

    assert attestation(log, silos).close(log.names) == 2
    assert cosigners(log.log.checkpoint_shown(), Witnesses.of(log.roster).keys) == {"north", "south"}


def test_a_cosignature_of_somebody_else_or_of_another_head_does_not_count(log: Any) -> None:
    told = attestation(log, Silos(log))
    told.show(log.names)
    lines = "".join(line.encode() for line in log.witnesses["north"].cosign(log.view("north")))

    with pytest.raises(ProtocolError, match="of south is missing, or not under its key"):
        told.greet("south", lines)
    with pytest.raises(ProtocolError, match="of west is missing"):
        told.greet("west", "")
    log.log.append(_started())
    log.log.checkpoint()
    with pytest.raises(ProtocolError, match="cosignature of north does not verify"):
        told.greet("north", lines)


def _started(**changes: Any) -> RoundStarted:
    digest = "ab" * 32
    values = {"adapter_digest": digest, "plan_digest": digest, "manifest_digest": digest, **changes}
    return RoundStarted(round=1, attempt=1, cohort=("north", "south", "west"), **values)


def test_a_manifest_that_showed_the_silos_another_log_is_found(
    log: Any, witnessed: Begin, manifest: RoundManifest, tmp_path: Path
) -> None:
    other, digest = witnessed(tmp_path / "other").extend(7), "ab" * 32
    manifest = replace(manifest, adapter_hash=digest, train_cfg_hash=digest, roster_hash=log.roster.hash)
    manifest = replace(manifest, session_id="test", dp_plan_hash="")
    for number, source, reason in ((1, log, None), (2, other, "the silos were shown another log than this one")):
        shown = replace(manifest, attempt=number, log_checkpoint=source.log.checkpoint().text)
        RunDirectory(log.folder).save_manifest(f"1-{number}", shown)
        log.log.append(replace(_started(manifest_digest=shown.hash.hex()), attempt=number))
        contents = read_log(log.path)
        if reason is None:
            assert check_manifests(log.folder / "audit", contents, None, "") == []
        else:
            with pytest.raises(LogError, match=reason):
                check_manifests(log.folder / "audit", contents, None, "")
