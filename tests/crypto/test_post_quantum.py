"""The post-quantum profile: exact sums, no silent downgrade, and who is blamed."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedcollm_crypto import hpke
from fedcollm_crypto.aggregation import Ask, Sum
from fedcollm_crypto.errors import ProtocolError, TooFewSilos
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking import attempt, conviction, hybrid, rules
from fedcollm_crypto.masking.dealing import Dealing, Parcel, ShareBox
from fedcollm_crypto.masking.messages import Hello
from fedcollm_crypto.masking.policy import SiloPolicy
from fedcollm_crypto.masking.protocol import run_masking
from fedcollm_crypto.masking.requests import Refusal
from fedcollm_crypto.roster import Member
from fedcollm_crypto.signed import Signed, sign

VICTIM = "silo-003"


def consortium_of(tools, n: int, **changes):
    return tools.Consortium(n, post_quantum=True, **changes)


def refusal(reply) -> Refusal:
    message = Signed.decode(b"".join(reply)[1:])
    assert message.kind == Refusal.KIND, f"{message.kind} is an answer, not a refusal"
    return Refusal.from_body(message.body)


# --- exact sums ---


@pytest.mark.parametrize("ring_bits", [32, 64])
@pytest.mark.parametrize("n", [2, 3, 10])
def test_the_sum_is_exact(tools, n: int, ring_bits: int):
    consortium = consortium_of(tools, n, ring_bits=ring_bits)

    result = run_masking(consortium.server(), consortium.silos())

    assert np.array_equal(result.total, consortium.total(consortium.names))


@pytest.mark.parametrize("stage", [1, 2, 3, 5, 6, 7])
@pytest.mark.parametrize("lost", [{"silo-001", "silo-002"}, {"silo-003", "silo-005"}, {"silo-001", "silo-007"}])
def test_the_sum_is_exact_when_silos_drop_out_at_a_stage(tools, stage: int, lost: set[str]):
    consortium = consortium_of(tools, 7)

    result = run_masking(consortium.server(), consortium.silos(), lambda at, party: at < stage or party not in lost)

    assert result.contributors == frozenset(consortium.names) - (lost if stage <= 5 else set())
    assert np.array_equal(result.total, consortium.total(result.contributors))


@pytest.mark.parametrize("stage", [1, 3, 5, 7])
def test_one_dropout_too_many_ends_the_attempt_cleanly(tools, stage: int):
    consortium = consortium_of(tools, 7)
    lost = {"silo-001", "silo-002", "silo-007"}

    with pytest.raises(TooFewSilos, match="4 silos are left, 5 are needed"):
        run_masking(consortium.server(), consortium.silos(), lambda at, party: at < stage or party not in lost)


@pytest.mark.parametrize("stage", [1, 2, 3, 5, 6, 7])
def test_the_same_request_gets_the_same_bytes_though_signing_is_randomised(tools, stage: int):
    consortium = consortium_of(tools, 3)
    silos = consortium.silos()
    request = tools.run_to(stage, consortium.server(), silos).requests["silo-002"]

    assert b"".join(silos["silo-002"].handle(request)) == b"".join(silos["silo-002"].handle(request))


def test_fresh_keys_are_made_for_a_further_attempt(tools):
    consortium = consortium_of(tools, 3)
    silos = consortium.silos()
    first = tools.answers(tools.run_to(1, consortium.server(), silos), silos)
    again = replace(consortium.manifest, attempt=1)

    second = tools.answers(tools.run_to(1, consortium.server(again), silos), silos)

    for party in consortium.names:
        one, two = (Hello.from_body(tools.reply_of(replies[party]).body) for replies in (first, second))
        assert not set(one.public_keys) & set(two.public_keys)


# --- no silent downgrade ---


def test_a_silo_with_a_post_quantum_policy_refuses_a_classical_manifest(tools):
    consortium = consortium_of(tools, 3)
    classical = replace(consortium.manifest, profile="classical")
    request = consortium.signed("manifest", classical.to_body())

    assert tools.refusal_code(consortium.silo("silo-001").handle(request)) == "classical_profile"


def test_a_silo_with_a_classical_policy_takes_part_in_more(tools):
    consortium = consortium_of(tools, 3)
    consortium.policy = SiloPolicy()

    result = run_masking(consortium.server(), consortium.silos())

    assert np.array_equal(result.total, consortium.total(consortium.names))


@pytest.mark.parametrize("party", ["silo-002", "server"])
def test_a_silo_with_a_post_quantum_policy_wants_everybodys_second_key(tools, party: str):
    consortium = consortium_of(tools, 3)
    consortium.identities[party] = replace(consortium.identities[party], mldsa44=None)
    members = tuple(
        Member(id=m.id, role=m.role, ed25519=m.ed25519, mldsa44=b"" if m.id == party else m.mldsa44)
        for m in consortium.roster.members
    )
    consortium.roster = replace(consortium.roster, members=members)
    manifest = replace(consortium.manifest, roster_hash=consortium.roster.hash)
    request = consortium.signed("manifest", manifest.to_body())

    refused = refusal(consortium.silo("silo-001", manifest).handle(request))

    assert refused.reason_code == "classical_keys"
    assert refused.reason.endswith(f"for {party}")


def changed_hello(consortium, message: Signed, change: Callable[[Hello], Hello]) -> Signed:
    """Let a silo sign another hello."""
    body = change(Hello.from_body(message.body)).to_body()
    return sign(consortium.identities[message.sender], message.kind, body)


def test_a_hello_of_the_classical_profile_is_refused_and_blamed(tools):
    consortium = consortium_of(tools, 3)
    silos = consortium.silos()
    ask = tools.run_to(2, consortium.server(), silos)
    request = tools.reshaped(
        consortium,
        ask.requests["silo-001"],
        lambda hellos: [*hellos[:2], changed_hello(consortium, hellos[2], lambda h: replace(h, mlkem768=None))],
    )

    refused = refusal(silos["silo-001"].handle(request))

    assert (refused.reason_code, refused.accused) == ("other_profile", "silo-003")


def test_a_second_barrier_stands_behind_that_rule(tools, monkeypatch):
    monkeypatch.setattr(rules, "require_kem_keys", lambda *_: None)
    consortium = consortium_of(tools, 3)
    silos = consortium.silos()
    ask = tools.run_to(2, consortium.server(), silos)
    request = tools.reshaped(
        consortium,
        ask.requests["silo-001"],
        lambda hellos: [*hellos[:2], changed_hello(consortium, hellos[2], lambda h: replace(h, mlkem768=None))],
    )

    assert "lacks the keys of the post-quantum profile" in refusal(silos["silo-001"].handle(request)).reason


def test_a_hello_with_more_keys_than_the_profile_has_is_refused(tools):
    consortium = tools.Consortium(3)
    silos = consortium.silos()
    ask = tools.run_to(2, consortium.server(), silos)
    more = attempt.draw_secrets(consortium_of(tools, 3).manifest, "silo-003", tools.fixed("more")).hybrid.public_keys
    request = tools.reshaped(
        consortium,
        ask.requests["silo-001"],
        lambda hellos: [*hellos[:2], changed_hello(consortium, hellos[2], lambda h: replace(h, mlkem768=more))],
    )

    assert refusal(silos["silo-001"].handle(request)).reason_code == "other_profile"


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda h: replace(h, mlkem768=None), "another profile"),
        (lambda h: replace(h, mlkem768=replace(h.mlkem768, mask=h.mlkem768.channel)), "in use already"),
        (
            lambda h: replace(h, mlkem768=replace(h.mlkem768, mask=b"\xff" * 1184)),
            "ML-KEM-768 key of hello.mlkem768.mask is not one",
        ),
    ],
)
def test_the_server_lets_in_no_hello_with_wrong_kem_keys(tools, change: Callable[[Hello], Hello], reason: str):
    consortium = consortium_of(tools, 7)
    silos, server = consortium.silos(), consortium.server()
    replies = tools.answers(server.start(consortium.names), silos)
    message = changed_hello(consortium, tools.reply_of(replies[VICTIM]), change)

    server.absorb(VICTIM, [b"M" + message.encode()])

    assert reason in server.dropped[VICTIM]


@pytest.mark.parametrize("which", ["channel", "mask"])
def test_a_copied_kem_key_is_refused(tools, which: str):
    consortium = consortium_of(tools, 3)
    silos = consortium.silos()
    ask = tools.run_to(2, consortium.server(), silos)

    def copy(hellos: list[Signed]) -> list[Signed]:
        copied = getattr(Hello.from_body(hellos[1].body).kem_keys, which)
        change = changed_hello(
            consortium, hellos[2], lambda h: replace(h, mlkem768=replace(h.kem_keys, **{which: copied}))
        )
        return [*hellos[:2], change]

    request = tools.reshaped(consortium, ask.requests["silo-001"], copy)

    assert refusal(silos["silo-001"].handle(request)).reason_code == "equal_keys"


# --- signatures of both kinds ---


def half_signed(message: Signed, identity: Identity) -> Signed:
    """Return the message with the Ed25519 signature alone."""
    return sign(replace(identity, mldsa44=None), message.kind, message.body)


def test_a_hello_without_its_second_signature_is_refused(tools):
    consortium = consortium_of(tools, 3)
    silos = consortium.silos()
    ask = tools.run_to(2, consortium.server(), silos)
    identity = consortium.identities["silo-003"]
    for forged in (
        lambda m: half_signed(m, identity),
        lambda m: replace(m, signature=m.signature[:64]),
        lambda m: replace(m, signature=m.signature[:64] + bytes(2420)),
        lambda m: replace(m, signature=bytes(64) + m.signature[64:]),
    ):
        request = tools.reshaped(consortium, ask.requests["silo-001"], lambda h, f=forged: [*h[:2], f(h[2])])

        refused = refusal(silos["silo-001"].handle(request))

        assert refused.reason_code == "malformed"
        assert "signature of silo-003" in refused.reason


def test_a_request_without_the_servers_second_signature_gets_no_answer(tools):
    consortium = consortium_of(tools, 3)
    message = sign(replace(consortium.identities["server"], mldsa44=None), "manifest", consortium.manifest.to_body())

    with pytest.raises(ProtocolError, match="signature of server"):
        consortium.silo("silo-001").handle(message.encode())


def test_a_reply_without_its_second_signature_is_dropped(tools):
    consortium = consortium_of(tools, 7)
    silos, server = consortium.silos(), consortium.server()
    replies = tools.answers(server.start(consortium.names), silos)

    server.absorb(VICTIM, [b"M" + half_signed(tools.reply_of(replies[VICTIM]), consortium.identities[VICTIM]).encode()])

    assert "signature of silo-003" in server.dropped[VICTIM]


def test_ends_need_the_second_key_that_the_roster_lists(tools):
    consortium = consortium_of(tools, 3)
    for party in ("silo-001", "server"):
        consortium.identities[party] = replace(consortium.identities[party], mldsa44=None)

    with pytest.raises(ValueError, match="not the one in the roster"):
        consortium.silo("silo-001")
    with pytest.raises(ValueError, match="with the roster's key"):
        consortium.server()


# --- tampered boxes: refused, and the right one is blamed ---


def flip(data: bytes) -> bytes:
    return data[:-1] + bytes([data[-1] ^ 1])


TAMPERED: dict[str, Callable[[ShareBox], ShareBox]] = {
    "encapsulation of the box": lambda b: replace(b, box=bytes([b.box[0] ^ 1]) + b.box[1:]),
    "ciphertext of the box": lambda b: replace(b, box=flip(b.box)),
    "a classical box": lambda b: replace(b, box=b.box[:160]),
    "encapsulation of the mask secret": lambda b: secret(
        b, sealed=bytes([b.mask_secret.sealed[0] ^ 1]) + b.mask_secret.sealed[1:]
    ),
    "ciphertext of the mask secret": lambda b: secret(b, sealed=flip(b.mask_secret.sealed)),
    "commitment to the mask secret": lambda b: secret(b, commitment=flip(b.mask_secret.commitment)),
    "no mask secret": lambda b: replace(b, mask_secret=None),
}


def secret(box: ShareBox, **changes: bytes) -> ShareBox:
    assert box.mask_secret is not None
    return replace(box, mask_secret=replace(box.mask_secret, **changes))


@pytest.mark.parametrize("what", TAMPERED)
def test_a_box_that_the_server_tampered_with_is_the_servers_fault(tools, what: str):
    consortium = consortium_of(tools, 3)
    silos = consortium.silos()
    ask = tools.run_to(3, consortium.server(), silos)

    def tamper(parcels: list[Parcel]) -> list[Parcel]:
        return [replace(parcels[0], box=TAMPERED[what](parcels[0].box)), *parcels[1:]]

    refused = refusal(silos[VICTIM].handle(tools.reshaped(consortium, ask.requests[VICTIM], tamper)))

    assert (refused.reason_code, refused.accused) == ("malformed", "")


def parcel_of(tools, consortium, reply: bytes, change: Callable[[ShareBox], ShareBox]) -> Parcel:
    """Let a dealer change the victim's box, and sign the root over it."""

    def fill_wrongly(boxes: dict[str, ShareBox]) -> None:
        boxes[VICTIM] = change(boxes[VICTIM])

    return Dealing.decode(tools.redealt(consortium, reply, fill_wrongly)[1:]).parcels()[VICTIM]


@pytest.mark.parametrize("what", TAMPERED)
def test_a_box_that_its_dealer_filled_wrongly_is_complained_about(tools, what: str):
    consortium = consortium_of(tools, 3)
    silos, server = consortium.silos(), consortium.server()
    replies = tools.answers(tools.run_to(2, server, silos), silos)
    for party, reply in replies.items():
        server.absorb(party, [reply])
    bad = parcel_of(tools, consortium, replies["silo-001"], TAMPERED[what])

    request = tools.reshaped(consortium, server.step().requests[VICTIM], lambda parcels: [bad, *parcels[1:]])
    checked = tools.reply_of(b"".join(silos[VICTIM].handle(request)))

    assert (checked.kind, checked.body["complaints"]) == ("checked", ["silo-001"])


def test_a_dealer_who_leaves_out_its_mask_secret_is_complained_about_though_its_box_opens(tools, monkeypatch):
    consortium = consortium_of(tools, 3)
    silos, server = consortium.silos(), consortium.server()
    replies = tools.answers(tools.run_to(2, server, silos), silos)
    for party, reply in replies.items():
        server.absorb(party, [reply])
    dealt = silos["silo-001"]._progress.states["ask-shares"]
    monkeypatch.setattr(hybrid.Pair, "seal", lambda *_: None)
    box = attempt.deal_shares(dealt.place, dealt.secrets, {}, tools.fixed("without")).boxes[VICTIM]
    bad = parcel_of(tools, consortium, replies["silo-001"], lambda _: box)

    request = tools.reshaped(consortium, server.step().requests[VICTIM], lambda parcels: [bad, *parcels[1:]])
    checked = tools.reply_of(b"".join(silos[VICTIM].handle(request)))

    assert (checked.kind, checked.body["complaints"]) == ("checked", ["silo-001"])
    with pytest.raises(ProtocolError, match="not of this round's profile"):
        box.require_profile(post_quantum=True)


@pytest.mark.parametrize("what", ["a classical box", "no mask secret"])
def test_the_server_drops_a_dealer_whose_boxes_are_of_another_profile(tools, what: str):
    consortium = consortium_of(tools, 7)
    silos, server = consortium.silos(), consortium.server()
    reply = tools.answers(tools.run_to(2, server, silos), silos)[VICTIM]

    def fill_wrongly(boxes: dict[str, ShareBox]) -> None:
        boxes["silo-007"] = TAMPERED[what](boxes["silo-007"])

    server.absorb(VICTIM, [tools.redealt(consortium, reply, fill_wrongly)])

    assert server.dropped[VICTIM] == "a box is not of this round's profile"


def test_a_mask_secret_for_a_silo_that_comes_before_is_of_no_profile(tools):
    consortium = consortium_of(tools, 3)
    silos = consortium.silos()
    reply = tools.answers(tools.run_to(2, consortium.server(), silos), silos)["silo-001"]
    backwards = replace(Dealing.decode(reply[1:]).boxes[VICTIM], sender=VICTIM, recipient="silo-001")

    with pytest.raises(ProtocolError, match="not of this round's profile"):
        backwards.require_profile(post_quantum=True)


# --- recovery: both halves of every mask of a lost silo, and who is convicted when they don't fit ---


def cheating_dealer(tools, monkeypatch, dealer: str, lost: str, cheat: Callable[..., object]) -> Sum:
    """Let one silo deal under `cheat`, lose a silo after M2, and go on to the sum."""
    consortium = consortium_of(tools, 7)
    silos, server = consortium.silos(), consortium.server()
    ask = tools.run_to(2, server, silos)
    for party, request in ask.requests.items():
        with monkeypatch.context() as patch:
            if party == dealer:
                cheat(patch)
            server.absorb(party, silos[party].handle(request))
    step: Ask | Sum = server.step()
    while isinstance(step, Ask):
        for party, request in step.requests.items():
            if party != lost or server.stage in ("ask-check", "ask-disclosure"):
                server.absorb(party, silos[party].handle(request))
        step = server.step()
    assert np.array_equal(step.total, consortium.total(step.contributors)), "the sum is wrong"
    return step


def seal_another(patch) -> None:
    """Seal another r than one derives, and commit to it."""
    honest = hybrid.Pair.seal
    patch.setattr(hybrid.Pair, "seal", lambda pair, _, key: honest(pair, bytes(32), key))


def seal_rubbish(patch) -> None:
    """Seal what nobody can open; commit to the right r."""
    honest = hybrid.Pair.seal

    def seal(pair, master, key):
        return replace(honest(pair, master, key), sealed=bytes(hybrid.SEALED_BYTES))

    patch.setattr(hybrid.Pair, "seal", seal)


def deal_another_master(patch) -> None:
    """Share another m than the one behind the advertised keys."""
    patch.setattr(attempt.Secrets, "recoverable", bytes(32))


def honestly(_) -> None:
    """Do nothing."""


@pytest.mark.parametrize("lost", ["silo-001", "silo-004", "silo-007"])
def test_an_honest_dealer_is_not_convicted(tools, monkeypatch, lost: str):
    assert lost not in cheating_dealer(tools, monkeypatch, "silo-004", lost, honestly).contributors


@pytest.mark.parametrize("cheat", [seal_another, deal_another_master])
def test_a_lost_dealer_whose_master_does_not_fit_is_convicted(tools, monkeypatch, cheat):
    with pytest.raises(ProtocolError, match="silo-004 dealt shares that do not give the secret"):
        cheating_dealer(tools, monkeypatch, "silo-004", "silo-004", cheat)


@pytest.mark.parametrize("which", ["x25519", "mlkem768"])
def test_a_lost_silo_whose_advertised_key_is_not_its_masters_is_convicted(tools, monkeypatch, which: str):
    """Else the server would open with the wrong key, and blame those who sealed to the right one."""
    consortium, honest = consortium_of(tools, 7), attempt.draw_secrets

    def draw(manifest, party, randomness):
        secrets = honest(manifest, party, randomness)
        if party != "silo-004":
            return secrets
        other = honest(manifest, party, tools.fixed("another master"))
        if which == "x25519":
            return replace(secrets, mask=other.mask)
        return replace(secrets, hybrid=replace(secrets.hybrid, mask=other.hybrid.mask))

    monkeypatch.setattr(attempt, "draw_secrets", draw)

    with pytest.raises(ProtocolError, match="silo-004 dealt shares that do not give the secret"):
        run_masking(consortium.server(), consortium.silos(), lambda at, party: at < 5 or party != "silo-004")


def test_a_dealer_whose_secret_for_a_lost_silo_does_not_open_is_convicted(tools, monkeypatch):
    """Those who are there refuse; the one who is lost can't, and the server opens in its place."""

    def only_for_the_last(patch) -> None:
        honest = hybrid.Pair.seal

        def seal(pair, master, key):
            sealed = honest(pair, master, key)
            return replace(sealed, sealed=bytes(hybrid.SEALED_BYTES)) if pair.high == "silo-007" else sealed

        patch.setattr(hybrid.Pair, "seal", seal)

    with pytest.raises(ProtocolError, match="silo-004 dealt shares that do not give the secret"):
        cheating_dealer(tools, monkeypatch, "silo-004", "silo-007", only_for_the_last)


def test_a_dealer_who_seals_rubbish_is_complained_about_by_those_after_it_and_left_out(tools, monkeypatch):
    """Three complain, n_c is one: the dealer itself refuses to disclose so much, and the sum comes without it."""
    result = cheating_dealer(tools, monkeypatch, "silo-004", "silo-001", seal_rubbish)

    assert result.contributors == {"silo-002", "silo-003", "silo-005", "silo-006", "silo-007"}


def test_without_the_commitments_a_lost_dealer_spoils_the_sum_unseen(tools, monkeypatch):
    for module in (hybrid, conviction):
        monkeypatch.setattr(module, "require_committed", lambda *_: None)

    with pytest.raises(AssertionError, match="the sum is wrong"):
        cheating_dealer(tools, monkeypatch, "silo-004", "silo-004", seal_another)


# --- one pair ---


def test_a_mask_secret_reaches_the_other_end_and_no_other_pair_round_or_commitment(tools):
    low, high = (attempt.draw_secrets(consortium_of(tools, 3).manifest, p, tools.fixed(p)).hybrid for p in ("a", "b"))
    pair = hybrid.Pair(transcript=bytes(32), manifest_hash=bytes(32), low="a", high="b")
    sealed = pair.seal(low.master, high.public_keys.mask)
    others = [replace(pair, low="c"), replace(pair, transcript=b"t" * 32), replace(pair, manifest_hash=b"m" * 32)]

    assert pair.open(high.mask, sealed) == pair.secret(low.master)
    assert len({p.secret(low.master) for p in [pair, *others]}) == 4
    for other in others:
        with pytest.raises(ProtocolError, match="does not open"):
            other.open(high.mask, sealed)
    with pytest.raises(ProtocolError, match="another than the one its sender committed to"):
        pair.open(high.mask, replace(sealed, commitment=bytes(32)))


# --- what is shown ---


def test_nothing_secret_is_printed(tools):
    secrets = attempt.draw_secrets(consortium_of(tools, 3).manifest, "silo-001", tools.fixed("canary"))
    pairs = hybrid.MaskKeyPairs.derive(secrets.hybrid.master, bytes(32), "silo-001")
    opened = attempt.OpenedShares(seed_share=b"canary", key_share=b"canary", mask_secret=b"canary")

    assert repr(secrets) == f"Secrets(nonce={secrets.nonce!r})"
    assert [repr(secrets.hybrid), repr(pairs), repr(opened)] == ["HybridSecrets()", "MaskKeyPairs()", "OpenedShares()"]


def test_the_keys_of_boxes_do_not_follow_from_the_master(tools):
    """The server gets m_j of a lost silo; the boxes that came to it hold shares of everybody's b and m."""
    manifest = consortium_of(tools, 3).manifest
    draws = [bytes([i]) * 64 for i in range(5)]

    def drawn(first: bytes) -> attempt.Secrets:
        calls = iter([first, *draws[1:]])
        return attempt.draw_secrets(manifest, "silo-001", lambda count: next(calls)[:count])

    one, two = drawn(b"a" * 64), drawn(b"b" * 64)
    assert one.hybrid.master == two.hybrid.master == draws[2][:32]
    assert one.channel.private_bytes_raw() != two.channel.private_bytes_raw()
    assert one.hybrid.channel.private_bytes_raw() == draws[1] != one.hybrid.mask.private_bytes_raw()
    assert isinstance(one.hybrid.channel, MLKEM768PrivateKey)
    assert isinstance(one.mask, X25519PrivateKey)
    assert len(hpke.seal_kem(one.hybrid.public_keys.mask, bytes(32), b"", "x")) == hybrid.SEALED_BYTES
