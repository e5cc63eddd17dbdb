"""What lies between attempts and sessions: a log that names sums beforehand or twice, and sessions that interleave."""

import secrets
from collections.abc import Collection, Iterator
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

from fedcollm_crypto.aggregation import PartyId, Sum
from fedcollm_crypto.masking import attempt, silo_stages
from fedcollm_crypto.masking.attempt import Place
from fedcollm_crypto.masking.dealing import Dealing
from fedcollm_crypto.masking.invariant import Memory
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.policy import SiloPolicy
from fedcollm_crypto.masking.requests import ASK_CONSENT, ASK_VECTOR, MANIFEST
from fedcollm_secure.assurance.attacks.colluding_silo import Puppet
from fedcollm_secure.assurance.attacks.malicious_server import Blocked
from fedcollm_secure.assurance.attacks.toy_federation import Session
from fedcollm_secure.assurance.attacks.toy_region import DIGEST, Neighbourhood, version
from fedcollm_secure.audit_log.events import PartyConvicted, RoundStarted, SumAgreed
from fedcollm_secure.audit_log.log import LOG_NAME, read_log
from fedcollm_secure.audit_log.logged_parties import PROOFS, check_convictions
from fedcollm_secure.errors import LogError
from fedcollm_secure.federation.messages import Close
from fedcollm_secure.learning.vectors import digest

STRICT = SiloPolicy(max_single_changes=0)


@pytest.fixture
def region(tmp_path: Path) -> Neighbourhood:
    return Neighbourhood(5, tmp_path, policy=STRICT)


@pytest.fixture
def session(region: Neighbourhood) -> Iterator[Session]:
    """Return a session whose first round is over, and stands in the log as it was."""
    begun = Session(region)
    begun.attempt(begun.manifest(adapter=version(0)), version(0))
    begun.close_round(1, begun.members, version(0))
    yield begun
    begun.silos.close()


def say_agreed(session: Session, number: int, adapter_digest: str, survivors: Collection[PartyId]) -> None:
    session.log.append(
        SumAgreed(
            round=number, attempt=1, linear_pass=0, adapter_digest=adapter_digest, survivors=tuple(sorted(survivors))
        )
    )


def test_a_sum_that_is_named_before_its_attempt_is_refused(session: Session) -> None:
    say_agreed(session, 2, DIGEST, session.members)  # whatever comes of round 2 would pass for named
    before = [session.silos.traces(party) for party in session.members]
    with pytest.raises(Blocked, match="unlogged_sum"):
        session.attempt(session.manifest(number=2, adapter=version(1)), version(1))
    assert [session.silos.traces(party) for party in session.members] == before


def test_a_sum_over_strangers_is_refused_and_not_remembered(session: Session) -> None:
    say_agreed(session, 1, DIGEST, [*session.members[:4], "nobody"])
    before = [session.silos.traces(party) for party in session.members]
    with pytest.raises(Blocked, match="malformed"):
        session.attempt(session.manifest(number=2, adapter=version(1)), version(1))
    assert [session.silos.traces(party) for party in session.members] == before


def test_a_round_that_a_silo_did_not_join_cannot_be_closed_for_it(session: Session) -> None:
    """Else one message would put the silo out of every later round."""
    victim = session.members[0]
    message = Close(session=session.name, round=2**40, adapter=DIGEST)
    with pytest.raises(Blocked, match="protocol_violation"):
        session.silos.send(victim, message)
    assert session.attempt(session.manifest(number=2, adapter=version(1)), version(1)).contributors


def test_a_sum_that_is_named_after_its_attempt_is_not(session: Session) -> None:
    session.attempt(session.manifest(number=2, adapter=version(1)), version(1))
    session.close_round(2, session.members, version(1))
    opened = session.attempt(session.manifest(number=3, adapter=version(2)), version(2))
    assert opened.contributors == frozenset(session.members)


def test_a_sum_that_is_named_in_two_ways_is_refused_by_who_heard_both(session: Session) -> None:
    far, second = session.members[4], session.manifest(number=2, adapter=version(1))
    session.attempt(second, version(1), log_it=False, deaf={far: ASK_CONSENT})  # it sent its part, and no more
    say_agreed(session, 2, DIGEST, session.members)
    only_far = dict.fromkeys(session.members[:4], MANIFEST)
    with pytest.raises(Blocked, match="nothing_released"):
        session.attempt(session.manifest(number=2, attempt=2, adapter=version(1)), version(1), deaf=only_far)
    say_agreed(session, 2, digest(version(1)), session.members)
    session.close_round(2, session.members, version(1))
    known = session.silos.known(far)
    with pytest.raises(Blocked, match="unlogged_sum"):
        session.attempt(session.manifest(number=3, adapter=version(2)), version(2))
    assert session.silos.known(far) == known  # nothing cosigned


def look_away(manifest: RoundManifest, survivors: Collection[PartyId], policy: SiloPolicy, memory: Memory) -> None:
    """Find nothing wrong with any sum."""


class Interleaved(Session):
    """A session whose server, between consents and shares, has another session open a sum over one silo fewer."""

    other: Session
    opened: Sum

    def _log_agreed(self, manifest: RoundManifest, survivors: Collection[PartyId]) -> None:
        lost = {self.members[4]: ASK_VECTOR}
        self.opened = self.other.attempt(self.other.manifest(adapter=version(0)), version(0), deaf=lost)
        super()._log_agreed(manifest, survivors)


def test_no_share_is_revealed_for_a_sum_that_another_session_has_overtaken(region: Neighbourhood) -> None:
    first = Interleaved(region)
    first.other = Session(region)
    with pytest.raises(Blocked, match="other_set"):
        first.attempt(first.manifest(adapter=version(0)), version(0))
    assert first.opened.contributors == frozenset(first.members[:4])


def test_without_the_second_look_the_two_sums_give_one_update(
    region: Neighbourhood, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Interleaved(region)
    first.other = Session(region)
    monkeypatch.setattr(silo_stages, "check_sum", look_away)
    whole = first.attempt(first.manifest(adapter=version(0)), version(0))
    victim = first.members[4]
    assert np.array_equal(whole.total - first.opened.total, region.vector(victim))


def deal_another_seed(puppet: Puppet, place: Place) -> Dealing:
    """Deal shares of another secret than the one that the hello commits to."""
    other = replace(puppet.secrets, seed=secrets.token_bytes(32))
    channels = attempt.agree_channels(place, puppet.secrets)
    return puppet.sign_dealing(place, attempt.deal_shares(place, other, channels, secrets.token_bytes).boxes)


@pytest.mark.parametrize("same", [True, False])
def test_a_proof_of_another_session_convicts_nobody_in_this_one(same: bool, region: Neighbourhood) -> None:
    bad = list(region.houses)[4]
    first = Session(region, puppets={bad: deal_another_seed})
    told = first if same else Session(region)
    manifest = first.manifest(adapter=version(0))
    with pytest.raises(Blocked, match="convicted"):
        first.attempt(manifest, version(0))
    say_begun(told, manifest if same else told.manifest(adapter=version(0)))
    say_convicted(told, bad, first.convictions[bad])

    entries = read_log(told.folder / "audit" / LOG_NAME).entries
    if same:
        assert check_convictions(told.folder / "audit", entries, told.roster) == []
    else:
        with pytest.raises(LogError, match="another log's attempt"):
            check_convictions(told.folder / "audit", entries, told.roster)


@pytest.mark.parametrize("kind", ["a folder", "a link", "4 GiB of nothing"])
def test_what_lies_in_place_of_a_proof_is_refused_unread(kind: str, region: Neighbourhood) -> None:
    session, name = Session(region), sha256(b"a proof").hexdigest()
    say_convicted(session, session.members[4], b"a proof")
    path = session.folder / "audit" / PROOFS / f"{name}.json"
    path.unlink()
    if kind == "a folder":
        path.mkdir()
    elif kind == "a link":
        path.symlink_to("/dev/zero")
    else:
        with path.open("wb") as file:
            file.truncate(4 << 30)
    entries = read_log(session.folder / "audit" / LOG_NAME).entries
    with pytest.raises(LogError):
        check_convictions(session.folder / "audit", entries, session.roster)


def say_begun(session: Session, manifest: RoundManifest) -> None:
    session.log.append(RoundStarted.of(manifest))


def say_convicted(session: Session, party: PartyId, proof: bytes) -> None:
    name = sha256(proof).hexdigest()
    path = session.folder / "audit" / PROOFS / f"{name}.json"
    path.parent.mkdir()
    path.write_bytes(proof)
    session.log.append(PartyConvicted(round=1, attempt=1, party=party, fault="seed", proof_digest=name))


def test_a_former_session_too_small_for_a_stricter_policy_is_a_refusal(tmp_path: Path) -> None:
    region = Neighbourhood(8, tmp_path)
    small = Session(region, list(region.houses)[:3])
    small.attempt(small.manifest(adapter=version(0)), version(0))
    region.policy = SiloPolicy(colluding=2, min_cohort=4)
    later = Session(region)
    with pytest.raises(Blocked, match="other_session"):
        later.attempt(later.manifest(adapter=version(1)), version(1))
