from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedcollm_crypto import sealing, shamir
from fedcollm_crypto.errors import ProtocolError, TooFewSilos
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking import attempt
from fedcollm_crypto.masking.dealing import Dealing
from fedcollm_crypto.masking.requests import Refusal, sign_message
from fedcollm_crypto.signed import sign

STAGES = [1, 2, 3, 5, 6, 7]
"""All but the disclosure, which is asked of nobody as long as nobody complains."""
VICTIM = "silo-004"


def good_replies(tools, stage, n=7):
    """Play up to a stage; return consortium, server and everybody's good reply."""
    consortium = tools.Consortium(n)
    silos, server = consortium.silos(), consortium.server()
    return consortium, server, tools.answers(tools.run_to(stage, server, silos), silos)


def finish(tools, server, silos, ask):
    """Let all silos answer till the sum."""
    while not isinstance(ask, tools.Sum):
        for party, reply in tools.answers(ask, silos).items():
            server.absorb(party, [reply])
        ask = server.step()
    return ask


CORRUPTIONS = {
    "nothing": lambda reply, _: b"",
    "an unknown frame": lambda reply, _: b"?" + reply[1:],
    "cut short": lambda reply, _: reply[:-1],
    "with a byte too many": lambda reply, _: reply + b" ",
    "with a flipped bit in its middle": lambda reply, _: (
        reply[: len(reply) // 2] + bytes([reply[len(reply) // 2] ^ 1]) + reply[len(reply) // 2 + 1 :]
    ),
    "somebody else's": lambda reply, other: other,
    "a vector frame only": lambda reply, _: b"V",
}


@pytest.mark.parametrize("stage", STAGES)
@pytest.mark.parametrize("how", CORRUPTIONS)
def test_a_bad_reply_counts_as_none_and_harms_nobody_else(tools, stage, how):
    _consortium, server, replies = good_replies(tools, stage)
    replies[VICTIM] = CORRUPTIONS[how](replies[VICTIM], replies["silo-005"])

    for party, reply in replies.items():
        server.absorb(party, [reply])
    server.step()

    assert set(server.dropped) == {VICTIM}


@pytest.mark.parametrize("stage", STAGES)
def test_a_forged_reply_is_dropped_with_its_reason(tools, stage):
    _consortium, server, replies = good_replies(tools, stage)
    skip = 40 if stage == 5 else 0
    good = tools.reply_of(replies[VICTIM], skip)
    impostor = replace(Identity.generate("x"), party=VICTIM)

    server.absorb(VICTIM, [tools.repacked(replies[VICTIM], sign(impostor, good.kind, good.body), skip)])

    assert "does not verify" in server.dropped[VICTIM]


def test_replies_may_come_twice_late_and_in_any_order(tools):
    consortium = tools.Consortium(5)
    silos, server = consortium.silos(), consortium.server()
    earlier: dict[str, bytes] = {}
    ask = server.start(consortium.names)
    while not isinstance(ask, tools.Sum):
        replies = tools.answers(ask, silos)
        for party in reversed(consortium.names):
            for reply in (earlier.get(party), replies.get(party), replies.get(party)):
                if reply:
                    server.absorb(party, [reply[i : i + 7] for i in range(0, len(reply), 7)])
        earlier = replies
        ask = server.step()

    assert server.dropped == {}
    assert np.array_equal(ask.total, consortium.total(consortium.names))


def test_a_reply_of_an_earlier_attempt_is_ignored(tools):
    consortium = tools.Consortium(3)
    old = tools.answers(consortium.server().start(consortium.names), consortium.silos())
    retry = replace(consortium.manifest, attempt=1)
    server, silos = consortium.server(retry), consortium.silos()
    ask = server.start(consortium.names)

    server.absorb("silo-001", [old["silo-001"]])
    result = finish(tools, server, silos, ask)

    assert result.contributors == frozenset(consortium.names)


def test_a_strangers_reply_is_ignored(tools):
    _consortium, server, replies = good_replies(tools, 1)

    server.absorb("stranger", [replies["silo-001"]])

    assert server.dropped == {}


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_no_bytes_of_a_silo_ever_make_the_server_raise(tools, data):
    _consortium, server, replies = good_replies(tools, data.draw(st.sampled_from(STAGES)), n=3)
    reply = bytearray(replies["silo-002"])
    for _ in range(data.draw(st.integers(1, 4))):
        where = data.draw(st.integers(0, len(reply) - 1))
        reply[where : where + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))

    server.absorb("silo-002", [bytes(reply)])


def test_a_broken_connection_drops_its_silo_and_leaves_the_sum_clean(tools):
    consortium = tools.Consortium(5)
    silos, server = consortium.silos(), consortium.server()
    ask = tools.run_to(5, server, silos)

    def broken():
        yield from list(silos[VICTIM].handle(ask.requests[VICTIM]))[:2]
        raise ConnectionError("reset by peer")

    server.absorb(VICTIM, broken())
    for party in set(consortium.names) - {VICTIM}:
        server.absorb(party, silos[party].handle(ask.requests[party]))
    result = finish(tools, server, silos, server.step())

    assert server.dropped == {VICTIM: "reset by peer"}
    assert np.array_equal(result.total, consortium.total(result.contributors))


def test_a_refusal_is_kept_and_explains_the_drop(tools):
    consortium = tools.Consortium(5)
    server = consortium.server()
    picky = consortium.silo(VICTIM, policy=replace(consortium.policy, min_threshold=5))
    request = server.start(consortium.names).requests[VICTIM]

    server.absorb(VICTIM, picky.handle(request))

    assert server.dropped[VICTIM] == "refused (low_threshold): t is 4; of 5 silos this one insists on 5 or more"
    assert Refusal.from_body(server.refusals[VICTIM].body).reason_code == "low_threshold"


def test_a_refusal_of_another_request_is_ignored(tools):
    consortium = tools.Consortium(3)
    server, silos = consortium.server(), consortium.silos()
    ask = server.start(consortium.names)
    late = silos["silo-001"].handle(consortium.signed("ask-shares", {"manifest_hash": "00" * 32, "messages": []}))

    server.absorb("silo-001", late)

    assert finish(tools, server, silos, ask).contributors == frozenset(consortium.names)


def test_copied_and_low_order_keys_are_dropped_before_they_reach_a_silo(tools):
    consortium, server, replies = good_replies(tools, 1)
    hellos = {party: tools.reply_of(reply) for party, reply in replies.items()}

    def absorb(party, **change):
        message = sign(consortium.identities[party], "hello", hellos[party].body | change)
        server.absorb(party, [b"M" + message.encode()])

    absorb("silo-001")
    absorb("silo-002", mask_key=hellos["silo-001"].body["channel_key"])
    absorb("silo-003", seed_commitment=hellos["silo-001"].body["seed_commitment"])
    absorb("silo-004", mask_key="00" * 32)
    absorb("silo-005", channel_key=hellos["silo-005"].body["mask_key"])

    assert sorted(server.dropped) == ["silo-002", "silo-003", "silo-004", "silo-005"]


def test_a_silo_that_reveals_a_wrong_share_is_named_and_the_others_suffice(tools):
    consortium, server, replies = good_replies(tools, 7)
    body = tools.reply_of(replies[VICTIM]).body
    wrong = body | {"seed_shares": body["seed_shares"] | {"silo-001": "00" * 66}}
    replies[VICTIM] = b"M" + sign(consortium.identities[VICTIM], "reveal", wrong).encode()

    for party, reply in replies.items():
        server.absorb(party, [reply])
    result = server.step()

    assert server.dropped == {VICTIM: "the revealed share of silo-001's b is not the one that was dealt"}
    assert np.array_equal(result.total, consortium.total(consortium.names))


@pytest.mark.parametrize("which", ["seed", "mask"])
def test_a_dealer_of_bad_shares_is_named_and_nothing_is_released(tools, which, monkeypatch):
    consortium = tools.Consortium(7)
    silos, server = consortium.silos(), consortium.server()
    honest_split = shamir.split
    ask = tools.run_to(2, server, silos)
    for party, request in ask.requests.items():
        calls = iter(["seed", "mask"])

        def split(secret, *rest, party=party, calls=calls):
            cheats = next(calls) == which and party == VICTIM
            return honest_split(bytes(32) if cheats else secret, *rest)

        monkeypatch.setattr(shamir, "split", split)
        server.absorb(party, silos[party].handle(request))
    ask = server.step()
    while server.stage != "ask-vector":
        for party, reply in tools.answers(ask, silos).items():
            server.absorb(party, [reply])
        ask = server.step()
    for party, reply in tools.answers(ask, silos).items():
        if which == "seed" or party != VICTIM:
            server.absorb(party, [reply])

    with pytest.raises(ProtocolError, match=f"{VICTIM} dealt shares"):
        finish(tools, server, silos, server.step())


def test_a_silo_that_withholds_a_share_of_somebody_is_dropped(tools):
    consortium, server, replies = good_replies(tools, 7)
    body = tools.reply_of(replies[VICTIM]).body
    fewer = body | {"seed_shares": {p: s for p, s in body["seed_shares"].items() if p != "silo-001"}}

    server.absorb(VICTIM, [b"M" + sign(consortium.identities[VICTIM], "reveal", fewer).encode()])

    assert "were expected" in server.dropped[VICTIM]


@pytest.mark.parametrize(
    "change", [{"sender": "silo-001"}, {"transcript": bytes(32)}, {"recipient": "silo-001"}, {"recipient": "eve"}]
)
def test_a_dealer_whose_boxes_are_mislabelled_is_dropped(tools, change):
    consortium, server, replies = good_replies(tools, 2)

    def mislabel(boxes):
        boxes["silo-003"] = replace(boxes["silo-003"], **change)

    server.absorb(VICTIM, [tools.redealt(consortium, replies[VICTIM], mislabel)])

    assert VICTIM in server.dropped


def test_a_dealer_whose_boxes_are_not_those_under_its_root_is_dropped(tools):
    _consortium, server, replies = good_replies(tools, 2)
    dealing = Dealing.decode(replies[VICTIM][1:])
    boxes = {**dealing.boxes, "silo-003": replace(dealing.boxes["silo-003"], key_share_commitment=bytes(32))}

    server.absorb(VICTIM, [b"D" + replace(dealing, boxes=boxes).encode()])

    assert "not those under the root" in server.dropped[VICTIM]


def test_a_dealer_that_sends_its_root_without_the_boxes_is_dropped(tools):
    _consortium, server, replies = good_replies(tools, 2)

    server.absorb(VICTIM, [b"M" + tools.reply_of(replies[VICTIM]).encode()])

    assert server.dropped[VICTIM] == "the boxes are missing beside their root"


def test_too_few_hellos_end_the_attempt_for_good(tools):
    consortium = tools.Consortium(3)
    server = consortium.server()
    server.start(consortium.names)

    with pytest.raises(TooFewSilos, match="stage manifest: 0 silos are left, 3 are needed"):
        server.step()
    with pytest.raises(RuntimeError, match="not started, or is over"):
        server.step()


def test_misuse_is_a_programmers_error(tools):
    consortium = tools.Consortium(3)
    server = consortium.server()

    with pytest.raises(ValueError, match="must be the manifest's"):
        server.start(consortium.names[:2])
    server.start(consortium.names)
    with pytest.raises(RuntimeError, match="serves one attempt"):
        server.start(consortium.names)
    with pytest.raises(ValueError, match="another roster"):
        consortium.server(replace(consortium.manifest, roster_hash="00" * 32))
    with pytest.raises(ValueError, match="must be the manifest's server"):
        consortium.server(replace(consortium.manifest, server="silo-001"))


def test_the_server_holds_one_vector_beside_the_total(tools):
    consortium = tools.Consortium(5, length=200_000)
    silos, server = consortium.silos(), consortium.server()
    ask = tools.run_to(5, server, silos)
    import tracemalloc

    tracemalloc.start()
    for party, request in ask.requests.items():
        server.absorb(party, silos[party].handle(request))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()

    assert peak < 5 * 8 * 200_000 + 8 * 200_000  # the five silos' own vectors; of the server nothing new but chunks


def test_every_box_has_a_key_of_its_own(tools, monkeypatch):
    """Both directions and all pairs: a shared key with a repeated nonce would give the shares away."""
    consortium, keys, honest = tools.Consortium(4), [], sealing.seal
    monkeypatch.setattr(attempt.sealing, "seal", lambda key, *rest: (keys.append(key), honest(key, *rest))[1])
    silos = consortium.silos()

    tools.answers(tools.run_to(2, consortium.server(), silos), silos)

    assert len(keys) == len(set(keys)) == 16


def test_signing_a_message_names_its_kind(tools):
    consortium, _, replies = good_replies(tools, 1)
    message = tools.reply_of(replies["silo-001"])

    refusal = Refusal(manifest_hash=bytes(32), request_hash=bytes(32), reason_code="x", reason="y", accused="")

    assert message.kind == "hello"
    assert sign_message(consortium.identities["silo-001"], refusal).kind == "refusal"


def absorb_changed(tools, stage, change):
    """Let the victim sign a changed reply; return the reason for which it is dropped."""
    consortium, server, replies = good_replies(tools, stage)
    skip = 40 if stage == 5 else 0
    message = tools.reply_of(replies[VICTIM], skip)
    words, body = change(replies[VICTIM][: 1 + skip], message.body)

    server.absorb(VICTIM, [words, sign(consortium.identities[VICTIM], message.kind, body).encode()])

    return server.dropped[VICTIM]


def test_a_vector_masked_over_another_set_is_not_added(tools):
    reason = absorb_changed(tools, 5, lambda words, body: (words, body | {"cohort_hash": "00" * 32}))

    assert "another set of silos than U2" in reason


def test_words_that_are_not_those_that_were_signed_are_not_added(tools):
    reason = absorb_changed(tools, 5, lambda words, body: (words[:-1] + b"x", body))

    assert reason == "the masked words are not those that were signed"


def test_an_upload_without_its_words_is_not_added(tools):
    reason = absorb_changed(tools, 5, lambda words, body: (b"M", body))

    assert "comes behind its words" in reason


def test_a_consent_to_another_set_is_not_relayed(tools):
    reason = absorb_changed(tools, 6, lambda words, body: (words, body | {"survivors_hash": "00" * 32}))

    assert "another set of survivors" in reason


def test_a_wrong_share_of_a_lost_silos_key_is_noticed(tools):
    consortium = tools.Consortium(7)
    silos, server = consortium.silos(), consortium.server()
    ask = tools.run_to(5, server, silos)
    for party in consortium.names[1:]:
        server.absorb(party, silos[party].handle(ask.requests[party]))
    for party, reply in tools.answers(server.step(), silos).items():
        server.absorb(party, [reply])
    message = tools.reply_of(b"".join(silos[VICTIM].handle(server.step().requests[VICTIM])))
    wrong = message.body | {"key_shares": {"silo-001": "00" * 66}}

    server.absorb(VICTIM, [b"M" + sign(consortium.identities[VICTIM], "reveal", wrong).encode()])

    assert server.dropped[VICTIM] == "the revealed share of silo-001's s is not the one that was dealt"


def test_the_key_of_another_party_cannot_sign_for_the_server(tools):
    consortium = tools.Consortium(3)
    consortium.identities["server"] = replace(Identity.generate("x"), party="server")

    with pytest.raises(ValueError, match="with the roster's key"):
        consortium.server()
