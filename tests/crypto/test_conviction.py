"""Who deals bad shares is convicted by a proof that anybody can check; nobody honest ever is."""

import copy
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedcollm_crypto import canonical, shamir
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.masking import conviction, hybrid
from fedcollm_crypto.masking.conviction import FAULTS, BadDealing, Dealt, Fault, Guilty
from fedcollm_crypto.masking.dealing import Checked, Contents
from fedcollm_crypto.masking.requests import sign_message
from fedcollm_crypto.masking.stages import Convicted
from fedcollm_crypto.roster import Roster
from fedcollm_crypto.signed import sign

PROFILES = pytest.mark.parametrize("post_quantum", [False, True], ids=["classical", "post_quantum"])
DEALER, LAST = "silo-004", "silo-007"
Patch = pytest.MonkeyPatch


# --- five ways to deal badly, as seen from the inside of one silo ---


def split_otherwise(patch: Patch, which: int, split: Callable[..., dict[int, bytes]]) -> None:
    """Let the first (b) or the second (s or m) secret be split by another function."""
    honest, calls = shamir.split, iter(range(2))
    patch.setattr(shamir, "split", lambda *a: (split if next(calls) == which else honest)(*a))


def another_secret(secret: bytes, *rest: object) -> dict[int, bytes]:
    return HONEST_SPLIT(secret[:16] + bytes([secret[16] ^ 1]) + secret[17:], *rest)


def off_any_polynomial(_: bytes, __: int, points: Collection[int], randomness: Callable[[int], bytes]):
    return {point: (int.from_bytes(randomness(66), "big") % shamir.PRIME).to_bytes(66, "big") for point in points}


HONEST_SPLIT = shamir.split


def seal_another(patch: Patch) -> None:
    """Seal another r than one derives from m, and commit to it."""
    honest = hybrid.Pair.seal
    patch.setattr(hybrid.Pair, "seal", lambda pair, _, key: honest(pair, bytes(32), key))


def seal_rubbish_for_the_last(patch: Patch) -> None:
    """Seal for one silo what does not open; commit to the right r."""
    honest = hybrid.Pair.seal

    def seal(pair, master, key):
        sealed = honest(pair, master, key)
        return replace(sealed, sealed=bytes(hybrid.SEALED_BYTES)) if pair.high == LAST else sealed

    patch.setattr(hybrid.Pair, "seal", seal)


@dataclass(frozen=True, kw_only=True)
class Way:
    """What the dealer does, who is lost before the vectors, and what comes out."""

    cheat: Callable[[Patch], None]
    lost: str
    fault: Fault
    profiles: tuple[bool, ...] = (False, True)


def way(kind: str, which: int, split: Callable[..., dict[int, bytes]]) -> Way:
    return Way(
        cheat=lambda patch: split_otherwise(patch, which, split),
        lost=DEALER if which else "silo-002",
        fault=Fault(accused=DEALER, kind=kind, owner=DEALER),
    )


WAYS = {
    "b, another": way("seed", 0, another_secret),
    "b, off any polynomial": way("seed", 0, off_any_polynomial),
    "s, another": way("key", 1, another_secret),
    "s, off any polynomial": way("key", 1, off_any_polynomial),
    "r, of a lost dealer": Way(
        cheat=seal_another,
        lost=DEALER,
        fault=Fault(accused=DEALER, kind="mask_secret", owner=DEALER, other="silo-005"),
        profiles=(True,),
    ),
    "r, for a lost recipient": Way(
        cheat=seal_rubbish_for_the_last,
        lost=LAST,
        fault=Fault(accused=DEALER, kind="mask_secret", owner=LAST, other=DEALER),
        profiles=(True,),
    ),
}
CASES = [(name, pq) for name, one in WAYS.items() for pq in one.profiles]
EACH_WAY = pytest.mark.parametrize(("name", "post_quantum"), CASES)


def fault_of(proof: BadDealing) -> Fault:
    return Fault(accused=proof.accused, kind=proof.fault, owner=proof.owner.dealer, other=proof.other)


class Round:
    """Seven silos, of which the dealer cheats and one is lost before the vectors; it ends in a conviction."""

    def __init__(self, tools, name: str, post_quantum: bool) -> None:
        self.tools, self.way = tools, WAYS[name]
        self.consortium = tools.Consortium(7, post_quantum=post_quantum)
        self.silos = self.consortium.silos()
        self.server = self.consortium.server()
        self.survivors = [party for party in self.consortium.names if party != self.way.lost]

    def play(self, server=None, lost: Collection[str] = (), cheat: Callable[[Patch], None] | None = None):
        """Return what comes out of one attempt. Raises: Guilty."""
        server = server or self.server
        step = server.start([p for p in self.consortium.names if p in server._manifest.cohort])
        while not isinstance(step, self.tools.Sum):
            for party, request in step.requests.items():
                if party in lost and server.stage in ("ask-vector", "ask-consent", "ask-reveal"):
                    continue
                with pytest.MonkeyPatch.context() as patch:
                    if cheat and party == DEALER and server.stage == "ask-shares":
                        cheat(patch)
                    server.absorb(party, [b"".join(self.silos[party].handle(request))])
            step = server.step()
        return step

    def convict(self) -> bytes:
        """Play the attempt; return the proof."""
        with pytest.raises(Guilty) as caught:
            self.play(lost=[self.way.lost], cheat=self.way.cheat)
        self.fault = caught.value.fault
        return self.server.convictions[DEALER]

    def next_manifest(self, cohort: Collection[str], number: int = 1):
        return replace(self.consortium.manifest, attempt=number, cohort=tuple(sorted(cohort)))

    def code(self, cohort: Collection[str], party: str = "silo-001", number: int = 1) -> str:
        """Return what a silo says to a next attempt over these silos."""
        request = self.consortium.signed("manifest", self.next_manifest(cohort, number).to_body())
        message = self.tools.reply_of(b"".join(self.silos[party].handle(request)))
        return str(message.body.get("reason_code", message.kind))


# --- whoever cheats is convicted ---


@EACH_WAY
def test_a_dealer_of_bad_shares_is_convicted_by_a_proof_that_verifies(tools, name: str, post_quantum: bool):
    one = Round(tools, name, post_quantum)

    data = one.convict()
    proof = BadDealing.decode(data)

    proof.verify(one.consortium.roster)
    assert one.fault == one.way.fault == fault_of(proof)
    assert proof.accused == DEALER
    assert set(one.server.convictions) == {DEALER}
    assert proof.encode() == data


@EACH_WAY
def test_a_proof_holds_one_secret_of_its_owner_and_nothing_else(tools, name: str, post_quantum: bool):
    one = Round(tools, name, post_quantum)
    proof = BadDealing.decode(one.convict())
    kind = "seed_shares" if proof.fault == "seed" else "key_shares"

    revealed = {p: getattr(reveal, kind)[proof.owner.dealer] for p, reveal in one.server._seen.reveals.items()}

    assert len(proof.owner.shares) == one.consortium.manifest.threshold
    assert proof.owner.shares.items() <= revealed.items()
    assert proof.sealer is None or not proof.sealer.shares


@PROFILES
def test_an_honest_round_convicts_nobody(tools, post_quantum: bool):
    one = Round(tools, "b, another", post_quantum)

    result = one.play(lost=["silo-002"])

    assert one.server.convictions == {}
    assert np.array_equal(result.total, one.consortium.total(result.contributors))


def bad_disclosure(tools, post_quantum: bool):
    """Play a round in which the dealer's box for silo-001 is junk, and its disclosure too; return it and its sum."""
    one = Round(tools, "b, another", post_quantum)
    server, step = one.server, one.server.start(one.consortium.names)
    while not isinstance(step, tools.Sum):
        for party, reply in tools.answers(step, one.silos).items():
            if (party, server.stage) == (DEALER, "ask-shares"):
                reply = tools.redealt(one.consortium, reply, fill_with_zeros)
            if (party, server.stage) == (DEALER, "ask-disclosure"):
                message, zeros = tools.reply_of(reply), Contents(seed_share=bytes(66), key_share=bytes(66))
                body = message.body | {"contents": {"silo-001": zeros.to_body()}}
                reply = b"M" + sign(one.consortium.identities[DEALER], message.kind, body).encode()
            server.absorb(party, [reply])
        step = server.step()
    return one, step


def fill_with_zeros(boxes) -> None:
    boxes["silo-001"] = replace(boxes["silo-001"], box=bytes(len(boxes["silo-001"].box)))


@PROFILES
def test_a_false_disclosure_convicts_and_the_round_goes_on_without_its_dealer(tools, post_quantum: bool):
    one, result = bad_disclosure(tools, post_quantum)
    proof = BadDealing.decode(one.server.convictions[DEALER])

    proof.verify(one.consortium.roster)
    assert fault_of(proof) == Fault(accused=DEALER, kind="disclosure", owner=DEALER, other="silo-001")
    assert proof.owner.shares == {}
    assert result.contributors == frozenset(one.consortium.names) - {DEALER}
    assert np.array_equal(result.total, one.consortium.total(result.contributors))


# --- the next attempt goes on without it ---


@EACH_WAY
def test_with_the_proof_the_honest_go_on_for_the_same_model_with_the_same_vectors(tools, name, post_quantum):
    one = Round(tools, name, post_quantum)
    proof = one.convict()
    left = [party for party in one.survivors if party != DEALER]
    assert one.code(left) == "released"

    for silo in one.silos.values():
        silo.convict(proof)
    manifest = one.next_manifest(left, 2)
    result = one.play(one.consortium.server(manifest))

    assert manifest.adapter_hash == one.consortium.manifest.adapter_hash
    assert result.contributors == frozenset(left)
    assert np.array_equal(result.total, one.consortium.total(left))
    assert one.code(left, number=3) == "released"  # this one was opened


@EACH_WAY
def test_with_the_proof_no_other_set_is_opened(tools, name: str, post_quantum: bool):
    one = Round(tools, name, post_quantum)
    proof = one.convict()
    one.silos["silo-001"].convict(proof)
    left = [party for party in one.survivors if party != DEALER]

    for cohort in ({*one.survivors, DEALER}, one.consortium.names, left[:5] if len(left) > 5 else [*left[:-1], DEALER]):
        assert one.code(cohort) == "released"
    assert one.code(left) == "hello"


def test_a_silo_that_is_lost_in_the_next_attempt_ends_it(tools):
    one = Round(tools, "s, another", post_quantum=False)
    proof = one.convict()
    for silo in one.silos.values():
        silo.convict(proof)
    left = [party for party in one.survivors if party != DEALER]
    server = one.consortium.server(one.next_manifest(left))

    with pytest.raises(Exception, match="silos are left"):
        one.play(server, lost=["silo-007"])

    assert set(server.refused.values()) == {"other_set"}


def test_a_silo_remembers_the_proof_once_it_has_begun_an_attempt_with_it(tools):
    one = Round(tools, "b, another", post_quantum=False)
    proof = one.convict()
    left = [party for party in one.survivors if party != DEALER]
    for _ in range(2):
        one.silos["silo-001"].convict(proof)

    def remembered() -> list[str]:
        journal = one.consortium.stages["silo-001"].entries()
        return [entry.party for entry in journal if isinstance(entry, Convicted)]

    assert one.code(one.consortium.names) == "released"  # refused, and so without a trace
    assert remembered() == []
    assert one.code(left) == "hello"
    assert remembered() == [DEALER]
    one.silos["silo-001"] = one.consortium.silo("silo-001")
    assert remembered() == [DEALER]


def test_a_conviction_of_another_attempt_opens_nothing_anew(tools):
    """The proof is genuine, but the sum of this model was opened in another attempt, which nobody spoiled."""
    one = Round(tools, "b, another", post_quantum=False)
    proof = one.convict()
    fresh = Round(tools, "b, another", post_quantum=False)
    later = replace(fresh.consortium.manifest, attempt=1)
    result = fresh.play(fresh.consortium.server(later))

    fresh.silos["silo-001"].convict(proof)

    assert result.contributors == frozenset(fresh.consortium.names)
    assert fresh.code(set(fresh.consortium.names) - {DEALER}, number=2) == "released"


def test_a_sum_that_was_opened_beside_a_conviction_is_not_opened_anew(tools):
    one, result = bad_disclosure(tools, post_quantum=False)

    one.silos["silo-001"].convict(one.server.convictions[DEALER])

    assert one.code(result.contributors) == "released"


def test_rounds_after_a_conviction_are_not_counted_as_exposure(tools):
    """The difference between the first sum and the others is the convicted silo's own, which it knows."""
    one = Round(tools, "b, another", post_quantum=False)
    one.consortium.policy = replace(one.consortium.policy, max_single_changes=0)
    one.silos = one.consortium.silos()
    proof = one.convict()
    left = [party for party in one.survivors if party != DEALER]

    for number in range(3):
        manifest = replace(
            one.next_manifest(left), round=1 + number, adapter_hash=("bb" * 32 if not number else f"{number:064x}")
        )
        one.silos = {p: one.consortium.silo(p, manifest) for p in left}
        for silo in one.silos.values():
            silo.convict(proof)
        assert one.play(one.consortium.server(manifest)).contributors == frozenset(left)


# --- proof of nothing ---


def test_proof_of_nothing_is_not_remembered(tools):
    one = Round(tools, "b, another", post_quantum=False)
    proof = BadDealing.decode(one.convict())
    silo = one.silos["silo-001"]
    other = Roster(consortium_id="other", epoch=1, members=one.consortium.roster.members, policy={"k_min": 2})

    for forged in (
        replace(proof, accused="silo-002"),
        replace(proof, fault="key"),
        replace(proof, owner=replace(proof.owner, shares=dict(list(proof.owner.shares.items())[1:]))),
        replace(proof, hellos={**proof.hellos, "silo-001": bytes(32)}),
        replace(proof, manifest=replace(proof.manifest, attempt=1)),
    ):
        with pytest.raises(ProtocolError):
            silo.convict(forged.encode())
    with pytest.raises(ProtocolError, match="another roster"):
        proof.verify(other)

    assert not [e for e in one.consortium.stages["silo-001"].entries() if isinstance(e, Convicted)]


# --- nobody honest is ever convicted ---


class Everything:
    """All that a server in league with the dealer sees of a round, in which honest silos were lost and disclosed."""

    def __init__(self, tools, post_quantum: bool) -> None:
        self.consortium = consortium = tools.Consortium(7, post_quantum=post_quantum)
        server = consortium.server()
        with pytest.raises(Guilty):
            self.play(tools, server)
        self.seen, self.names = server._seen, consortium.names
        self.hellos = {party: hello.body_hash for party, hello in self.seen.signed_hellos.items()}
        self.proof = server.convictions[DEALER]

    def play(self, tools, server) -> None:
        """Play to the end. Raises: Guilty."""
        silos, step = self.consortium.silos(), server.start(self.consortium.names)
        while not isinstance(step, tools.Sum):
            for party, request in step.requests.items():
                if party == "silo-002" and server.stage in ("ask-vector", "ask-consent", "ask-reveal"):
                    continue
                with pytest.MonkeyPatch.context() as patch:
                    if (party, server.stage) == (DEALER, "ask-shares"):
                        split_otherwise(patch, 1, another_secret)
                    reply = b"".join(silos[party].handle(request))
                if (party, server.stage) == (DEALER, "ask-check"):  # a false complaint: silo-005 will disclose
                    said = replace(Checked.from_body(tools.reply_of(reply).body), complaints=("silo-005",))
                    reply = b"M" + sign_message(self.consortium.identities[DEALER], said).encode()
                server.absorb(party, [reply])
            step = server.step()

    def dealt(self, dealer: str, shares: str) -> Dealt:
        """Return everything that a dealer signed, with all of its shares that were revealed, of one kind."""
        revealed = {p: getattr(r, shares).get(dealer, b"") for p, r in self.seen.reveals.items()} if shares else {}
        return Dealt(
            hello=self.seen.signed_hellos[dealer],
            parcels=tuple(self.seen.dealings[dealer].parcels().values()),
            shares={party: share for party, share in revealed.items() if share},
        )

    def disclosures(self) -> Iterator[object]:
        yield from (None, *self.seen.disclosures.values())


EVERYTHING: dict[bool, Everything] = {}


def everything(tools, post_quantum: bool) -> Everything:
    """Play that round once."""
    if post_quantum not in EVERYTHING:
        EVERYTHING[post_quantum] = Everything(tools, post_quantum)
    return EVERYTHING[post_quantum]


def verifies(proof: BadDealing, roster: Roster) -> bool:
    try:
        BadDealing.decode(proof.encode()).verify(roster)
    except ProtocolError:
        return False
    return True


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
@PROFILES
def test_whatever_is_put_together_of_one_round_convicts_nobody_honest(tools, post_quantum: bool, data):
    all_ = everything(tools, post_quantum)
    names, kind = st.sampled_from(all_.names), data.draw(st.sampled_from(FAULTS))
    owner, sealer = data.draw(names), data.draw(st.none() | names)
    usual = "seed_shares" if kind == "seed" else "key_shares"
    proof = BadDealing(
        manifest=all_.seen.manifest,
        accused=data.draw(st.sampled_from([owner, sealer or owner]) | names),
        fault=kind,
        other=data.draw(st.just("") | names),
        hellos=all_.hellos,
        owner=all_.dealt(owner, data.draw(st.just(usual) | st.sampled_from(["seed_shares", "key_shares", ""]))),
        sealer=None if sealer is None else all_.dealt(sealer, ""),
        disclosure=data.draw(st.sampled_from(list(all_.disclosures()))),
    )

    assert proof.accused == DEALER or not verifies(proof, all_.consortium.roster)


FRAMES: dict[str, Callable[[Everything], BadDealing]] = {
    "another's bad shares, beside an honest dealing": lambda all_: replace(
        BadDealing.decode(all_.proof),
        accused="silo-001",
        fault="key",
        other="",
        sealer=all_.dealt("silo-001", ""),
    ),
    "an honest disclosure, held against another's box": lambda all_: BadDealing(
        manifest=all_.seen.manifest,
        accused="silo-005",
        fault="disclosure",
        other=DEALER,
        hellos=all_.hellos,
        owner=all_.dealt(DEALER, ""),
        sealer=all_.dealt("silo-005", ""),
        disclosure=all_.seen.disclosures["silo-005"],
    ),
    "a lost silo's box for itself, which has no secret": lambda all_: BadDealing(
        manifest=all_.seen.manifest,
        accused="silo-002",
        fault="mask_secret",
        other="silo-002",
        hellos=all_.hellos,
        owner=all_.dealt("silo-002", "key_shares"),
    ),
    "a lost silo's box for one before it": lambda all_: BadDealing(
        manifest=all_.seen.manifest,
        accused="silo-002",
        fault="mask_secret",
        other="silo-001",
        hellos=all_.hellos,
        owner=all_.dealt("silo-002", "key_shares"),
    ),
    "a lost silo's box for one after it": lambda all_: BadDealing(
        manifest=all_.seen.manifest,
        accused="silo-002",
        fault="mask_secret",
        other="silo-007",
        hellos=all_.hellos,
        owner=all_.dealt("silo-002", "key_shares"),
    ),
}


@PROFILES
@pytest.mark.parametrize("how", FRAMES)
def test_an_honest_silo_is_not_framed(tools, post_quantum: bool, how: str):
    all_ = everything(tools, post_quantum)

    with pytest.raises(ProtocolError):
        FRAMES[how](all_).verify(all_.consortium.roster)


@pytest.mark.parametrize("how", list(FRAMES)[:2])
def test_without_the_rule_on_who_is_accused_it_would_be(tools, monkeypatch, how: str):
    all_ = everything(tools, post_quantum=False)
    monkeypatch.setattr(BadDealing, "_require_about_accused", lambda _: None)

    FRAMES[how](all_).verify(all_.consortium.roster)


def mutated(body: canonical.Json, data: st.DataObject, pool: list[canonical.Json]) -> None:
    """Change one value somewhere in a proof: to one from elsewhere in it, to one with a bit flipped, or to none."""
    at = body
    while True:
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else list(range(len(at)))))
        if isinstance(at[key], dict | list) and at[key] and data.draw(st.integers(0, 4)):
            at = at[key]
            continue
        value = at[key]
        match data.draw(st.integers(0, 3)):
            case 0 if isinstance(value, str) and value:
                place = data.draw(st.integers(0, len(value) - 1))
                at[key] = value[:place] + ("0" if value[place] != "0" else "1") + value[place + 1 :]
            case 1:
                del at[key]
            case 2 if isinstance(value, int):
                at[key] = value + 1
            case _:
                at[key] = copy.deepcopy(data.draw(st.sampled_from(pool)))
        return


def leaves(body: canonical.Json) -> Iterator[canonical.Json]:
    values = body.values() if isinstance(body, dict) else body if isinstance(body, list) else ()
    for value in values:
        yield value
        yield from leaves(value)


@settings(max_examples=250, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
@PROFILES
def test_a_proof_with_any_field_changed_convicts_nobody_else(tools, post_quantum: bool, data):
    all_ = everything(tools, post_quantum)
    body = canonical.decode(all_.proof)
    pool = [*leaves(body), *all_.names]
    for _ in range(data.draw(st.integers(1, 3))):
        mutated(body, data, pool)

    try:
        proof = BadDealing.decode(canonical.encode(body))
        proof.verify(all_.consortium.roster)
    except ProtocolError:
        return
    assert proof.accused == DEALER


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
@PROFILES
def test_hostile_bytes_of_a_proof_raise_a_protocol_error_and_nothing_else(tools, post_quantum: bool, data):
    all_ = everything(tools, post_quantum)
    proof = bytearray(all_.proof)
    where = data.draw(st.integers(0, len(proof) - 1))
    proof[where : where + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))

    if bytes(proof) != all_.proof:
        try:
            BadDealing.decode(bytes(proof)).verify(all_.consortium.roster)
        except ProtocolError:
            pass
        else:
            assert BadDealing.decode(bytes(proof)).accused == DEALER


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", b'{"accused":""}', b"[" * 100_000])
def test_bytes_that_are_no_proof_at_all_raise_a_protocol_error(data: bytes):
    with pytest.raises(ProtocolError):
        BadDealing.decode(data)


def test_the_faults_of_a_proof_are_those_that_are_tried_here():
    kinds = {one.fault.kind for one in WAYS.values()} | {"disclosure"}

    assert kinds == set(FAULTS)
    assert set(conviction.SPOILING) == kinds - {"disclosure"}
