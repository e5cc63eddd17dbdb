"""What a silo refuses, one rule at a time. `test_sabotage.py` shows what each rule is good for."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fedcollm_crypto import canonical
from fedcollm_crypto.errors import ProtocolError, Refused
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking import transcript as hashes
from fedcollm_crypto.masking.manifest import Quantisation
from fedcollm_crypto.masking.policy import SiloPolicy
from fedcollm_crypto.masking.requests import Refusal
from fedcollm_crypto.masking.stages import Declined, FileStages, MemoryStages, Released
from fedcollm_crypto.signed import Signed, sign


def manifest_reply(tools, consortium, manifest, **settings) -> str:
    """Let silo-001 of the consortium answer another manifest; return its reason code."""
    silo = consortium.silo("silo-001", **settings)
    return tools.refusal_code(silo.handle(consortium.signed("manifest", manifest.to_body())))


# --- M0: the manifest -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change", [{"consortium_id": "other"}, {"epoch": 2}, {"roster_hash": "00" * 32}, {"policy_hash": "00" * 32}]
)
def test_a_round_of_another_roster_is_refused(tools, change):
    consortium = tools.Consortium(3)

    assert manifest_reply(tools, consortium, replace(consortium.manifest, **change)) == "other_roster"


@pytest.mark.parametrize(
    "change",
    [
        {"session_id": "other"},
        {"base_model_hash": "00" * 32},
        {"adapter_hash": "00" * 32},
        {"lora_schema_hash": "00" * 32},
        {"train_cfg_hash": "00" * 32},
        {"dp_plan_hash": "00" * 32},
        {"quantisation": Quantisation(ring_bits=64, bits=16, clip=2.0, max_weight=100, length=5)},
    ],
)
def test_a_round_with_another_model_or_plan_is_refused(tools, change):
    consortium = tools.Consortium(3)

    assert manifest_reply(tools, consortium, replace(consortium.manifest, **change)) == "other_plan"


def test_kmin_below_the_silos_own_is_refused(tools):
    consortium = tools.Consortium(7, k_min=2, colluding=0)

    assert manifest_reply(tools, consortium, consortium.manifest) == "small_cohort"


def test_kmin_is_enforced_on_the_silos_that_are_left(tools):
    consortium = tools.Consortium(7, k_min=7)
    silos = consortium.silos()
    ask = tools.run_to(2, consortium.server(), silos)

    request = tools.reshaped(consortium, ask.requests["silo-001"], lambda hellos: hellos[:6])

    assert tools.refusal_code(silos["silo-001"].handle(request)) == "too_few"


def test_a_threshold_below_the_silos_own_is_refused(tools):
    consortium = tools.Consortium(7, adversary="semi_honest", threshold=4)

    assert manifest_reply(tools, consortium, consortium.manifest) == "low_threshold"


def test_a_silo_may_insist_on_more_than_the_rule(tools):
    consortium = tools.Consortium(7)
    stubborn = SiloPolicy(min_threshold=6)

    assert manifest_reply(tools, consortium, consortium.manifest, policy=stubborn) == "low_threshold"


def test_a_silo_that_fears_more_colluders_than_the_cohort_has_refuses(tools):
    consortium = tools.Consortium(4, k_min=4)
    fearful = SiloPolicy(min_cohort=4, colluding=2)

    assert manifest_reply(tools, consortium, consortium.manifest, policy=fearful) == "low_threshold"


def test_a_silo_that_fears_all_but_itself_refuses(tools):
    consortium = tools.Consortium(4, k_min=4)
    fearful = SiloPolicy(min_cohort=5, colluding=3)

    assert manifest_reply(tools, consortium, consortium.manifest, policy=fearful) == "small_cohort"


def test_two_parties_need_an_explicit_word(tools):
    consortium = tools.Consortium(2)

    assert manifest_reply(tools, consortium, consortium.manifest, policy=SiloPolicy()) == "two_party"


def test_a_cohort_without_this_silo_is_refused(tools):
    consortium = tools.Consortium(5)
    others = replace(consortium.manifest, cohort=tuple(consortium.names[1:]))

    assert manifest_reply(tools, consortium, others) == "other_cohort"


def test_a_cohort_with_a_party_that_is_no_silo_is_refused(tools):
    consortium = tools.Consortium(3)
    padded = replace(consortium.manifest, cohort=("server", *consortium.names), threshold=4)

    assert manifest_reply(tools, consortium, padded) == "other_cohort"


def test_a_manifest_in_another_servers_name_is_refused(tools):
    consortium = tools.Consortium(3)

    assert manifest_reply(tools, consortium, replace(consortium.manifest, server="silo-002")) == "other_server"


def test_the_ledgers_no_is_passed_on(tools):
    consortium = tools.Consortium(3)

    def over_budget(_):
        raise Refused("over_budget", "this round would overspend the privacy budget")

    assert manifest_reply(tools, consortium, consortium.manifest, admit=over_budget) == "over_budget"


def test_an_older_round_is_refused_even_after_a_restart(tools):
    consortium = tools.Consortium(3)
    tools.run_to(2, consortium.server(), consortium.silos())

    assert manifest_reply(tools, consortium, consortium.manifest) == "old_attempt"
    assert manifest_reply(tools, consortium, replace(consortium.manifest, round=0, attempt=9)) == "old_attempt"


# --- who asks ---------------------------------------------------------------------------------------------------------


def test_a_request_that_the_server_did_not_sign_gets_no_answer_at_all(tools):
    consortium = tools.Consortium(3)
    body = consortium.manifest.to_body()
    impostor = replace(Identity.generate("x"), party="server")

    for signer, message in ((impostor, "does not verify"), (consortium.identities["silo-002"], "from the server")):
        with pytest.raises(ProtocolError, match=message):
            consortium.silo("silo-001").handle(sign(signer, "manifest", body).encode())


@pytest.mark.parametrize("change", [lambda r: r[:-1], lambda r: r + b"\n", lambda r: b"", lambda r: b" " + r])
def test_a_request_with_missing_or_trailing_bytes_gets_no_answer_at_all(tools, change):
    consortium = tools.Consortium(3)
    request = consortium.server().start(consortium.names).requests["silo-001"]

    with pytest.raises(ProtocolError, match="not canonical JSON"):
        consortium.silo("silo-001").handle(change(request))


def test_a_request_of_an_unknown_kind_gets_no_answer_at_all(tools):
    consortium = tools.Consortium(3)

    with pytest.raises(ProtocolError, match="one of the known kinds"):
        consortium.silo("silo-001").handle(consortium.signed("ask-everything", {}))


def test_a_key_that_is_not_the_rosters_is_misuse(tools):
    consortium = tools.Consortium(3)

    with pytest.raises(ValueError, match="not the one in the roster"):
        consortium.silo("silo-001", identity=replace(Identity.generate("x"), party="silo-001"))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 5) | st.text("a0/", max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["body", "from", "x"]), inner),
    max_leaves=6,
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_the_server_signs_is_answered_or_refused(tools, data):
    consortium = tools.Consortium(3)
    silos = consortium.silos()
    request = tools.run_to(data.draw(st.sampled_from([1, 2, 3, 5, 6, 7])), consortium.server(), silos).requests[
        "silo-001"
    ]
    body = canonical.decode(request)["body"]
    at = body
    while isinstance(at, dict | list) and at:
        key = data.draw(st.sampled_from(sorted(at) if isinstance(at, dict) else list(range(len(at)))))
        if not isinstance(at[key], dict | list) or data.draw(st.booleans()):
            at[key] = data.draw(JSON_VALUES)
            break
        at = at[key]

    reply = silos["silo-001"].handle(consortium.signed(Signed.decode(request).kind, body))

    assert b"".join(reply)


# --- M2: the hellos ---------------------------------------------------------------------------------------------------


def shares_reply(tools, change) -> str:
    consortium = tools.Consortium(5)
    silos = consortium.silos()
    ask = tools.run_to(2, consortium.server(), silos)
    request = tools.reshaped(consortium, ask.requests["silo-001"], lambda hellos: change(consortium, hellos))
    return tools.refusal_code(silos["silo-001"].handle(request))


def rewritten(consortium, hello, signer=None, **change):
    identity = consortium.identities[signer or hello.sender]
    return sign(replace(identity, party=hello.sender), hello.kind, hello.body | change)


def test_a_forged_hello_is_refused(tools):
    def forge(consortium, hellos):
        return [*hellos[:2], rewritten(consortium, hellos[2], signer="server"), *hellos[3:]]

    assert shares_reply(tools, forge) == "malformed"


def test_a_hello_for_another_manifest_is_refused(tools):
    def other_model(consortium, hellos):
        return [*hellos[:4], rewritten(consortium, hellos[4], manifest_hash="00" * 32)]

    assert shares_reply(tools, other_model) == "other_manifest"


@pytest.mark.parametrize("field", ["channel_key", "mask_key", "nonce", "seed_commitment"])
def test_a_copied_key_is_refused(tools, field):
    def copy(consortium, hellos):
        return [*hellos[:4], rewritten(consortium, hellos[4], **{field: hellos[3].body[field]})]

    assert shares_reply(tools, copy) == "equal_keys"


def test_a_low_order_key_is_refused(tools):
    def weaken(consortium, hellos):
        return [*hellos[:4], rewritten(consortium, hellos[4], channel_key="00" * 32)]

    assert shares_reply(tools, weaken) == "malformed"


def test_an_unknown_field_in_a_hello_is_refused(tools):
    def extend(consortium, hellos):
        return [*hellos[:4], rewritten(consortium, hellos[4], more=1)]

    assert shares_reply(tools, extend) == "malformed"


def test_a_cohort_without_this_silos_own_hello_is_refused(tools):
    assert shares_reply(tools, lambda _, hellos: hellos[1:]) == "not_mine"


def test_a_hello_relayed_twice_is_refused(tools):
    assert shares_reply(tools, lambda _, hellos: [*hellos, hellos[-1]]) == "malformed"


def test_too_few_hellos_are_refused(tools):
    assert shares_reply(tools, lambda _, hellos: hellos[:3]) == "too_few"


def test_a_hello_from_outside_the_cohort_is_refused(tools):
    consortium = tools.Consortium(5)
    silos = consortium.silos()
    small = replace(consortium.manifest, cohort=tuple(consortium.names[:4]))
    hellos = {p: silos[p].handle(consortium.signed("manifest", small.to_body())) for p in small.cohort}
    messages = [tools.reply_of(b"".join(reply)) for reply in hellos.values()]
    extra = sign(consortium.identities["silo-005"], "hello", messages[0].body)
    body = {"manifest_hash": small.hash.hex(), "messages": [m.to_json() for m in (*messages, extra)]}

    assert tools.refusal_code(silos["silo-001"].handle(consortium.signed("ask-shares", body))) == "new_member"


# --- M2a and M3: the boxes, and U2 (see also test_dealing.py) -------------------------------------------------------


def stage_reply(tools, stage, change):
    """Return what silo-001 of five says to a changed request."""
    consortium = tools.Consortium(5)
    silos = consortium.silos()
    ask = tools.run_to(stage, consortium.server(), silos)
    request = tools.reshaped(consortium, ask.requests["silo-001"], lambda items: change(consortium, items))
    return tools.reply_of(b"".join(silos["silo-001"].handle(request)))


def reason_of(tools, stage, change) -> str:
    return str(stage_reply(tools, stage, change).body["reason_code"])


def test_a_box_changed_on_the_way_is_the_servers_fault(tools):
    def tamper(_, parcels):
        return [*parcels[:4], replace(parcels[4], box=replace(parcels[4].box, box=bytes(160)))]

    refusal = Refusal.from_body(stage_reply(tools, 3, tamper).body)

    assert (refusal.reason_code, refusal.accused) == ("malformed", "")


@pytest.mark.parametrize(
    "change", [{"box": bytes(160)}, {"seed_share_commitment": bytes(32)}, {"key_share_commitment": bytes(32)}]
)
def test_a_box_that_its_dealer_filled_wrongly_is_the_dealers_fault(tools, change):
    consortium = tools.Consortium(5)
    silos, server = consortium.silos(), consortium.server()
    replies = tools.answers(tools.run_to(2, server, silos), silos)

    def fill_wrongly(boxes):
        boxes["silo-001"] = replace(boxes["silo-001"], **change)

    replies["silo-005"] = tools.redealt(consortium, replies["silo-005"], fill_wrongly)
    for party, reply in replies.items():
        server.absorb(party, [reply])

    checked = tools.reply_of(b"".join(silos["silo-001"].handle(server.step().requests["silo-001"])))

    assert (checked.kind, checked.body["complaints"]) == ("checked", ["silo-005"])


def test_a_box_with_other_shares_than_committed_to_is_the_dealers_fault(tools, monkeypatch):
    consortium = tools.Consortium(5)
    silos, server = consortium.silos(), consortium.server()
    ask = tools.run_to(2, server, silos)
    for party, request in ask.requests.items():
        with monkeypatch.context() as patch:
            if party == "silo-005":
                patch.setattr(hashes, "seed_share_commitment", lambda _: bytes(32))
            server.absorb(party, silos[party].handle(request))

    checked = tools.reply_of(b"".join(silos["silo-001"].handle(server.step().requests["silo-001"])))

    assert (checked.kind, checked.body["complaints"]) == ("checked", ["silo-005"])


def test_too_few_boxes_are_refused(tools):
    assert reason_of(tools, 3, lambda _, parcels: parcels[:3]) == "too_few"


def test_a_set_without_this_silos_own_box_is_refused(tools):
    assert reason_of(tools, 3, lambda _, parcels: parcels[1:]) == "new_member"


def test_a_box_delivered_twice_is_refused(tools):
    assert reason_of(tools, 3, lambda _, parcels: [*parcels, parcels[-1]]) == "malformed"


def test_a_set_of_too_few_is_not_masked_over(tools):
    assert reason_of(tools, 5, lambda _, names: names[:3]) == "too_few"


def test_a_set_without_this_silo_is_not_masked_over(tools):
    assert reason_of(tools, 5, lambda _, names: names[1:]) == "new_member"


def test_a_set_with_a_silo_that_did_not_deal_is_not_masked_over(tools):
    consortium = tools.Consortium(5)
    silos, server = consortium.silos(), consortium.server()
    ask = tools.run_to(2, server, silos)
    for party in consortium.names[:4]:
        server.absorb(party, silos[party].handle(ask.requests[party]))
    for party, reply in tools.answers(server.step(), silos).items():
        server.absorb(party, [reply])
    server.step()
    request = server.step().requests["silo-001"]

    more = tools.reshaped(consortium, request, lambda names: [*names, "silo-005"])

    assert tools.refusal_code(silos["silo-001"].handle(more)) == "new_member"


@pytest.mark.parametrize("change", [lambda names: names[::-1], lambda names: [*names, names[-1]]])
def test_a_set_that_is_spelt_otherwise_is_not_masked_over(tools, change):
    assert reason_of(tools, 5, lambda _, names: change(names)) == "malformed"


# --- M4: the uploads --------------------------------------------------------------------------------------------------


def consent_reply(tools, change, **settings) -> str:
    consortium = tools.Consortium(5)
    silos = consortium.silos(**settings)
    ask = tools.run_to(6, consortium.server(), silos)
    request = tools.reshaped(consortium, ask.requests["silo-001"], lambda uploads: change(consortium, uploads))
    return tools.refusal_code(silos["silo-001"].handle(request))


def test_an_upload_masked_over_another_set_is_refused(tools):
    def other_set(consortium, uploads):
        return [*uploads[:4], rewritten(consortium, uploads[4], cohort_hash="00" * 32)]

    assert consent_reply(tools, other_set) == "other_cohort"


def test_an_upload_of_another_transcript_is_refused(tools):
    def replay(consortium, uploads):
        return [*uploads[:4], rewritten(consortium, uploads[4], transcript="00" * 32)]

    assert consent_reply(tools, replay) == "malformed"


def test_a_swapped_upload_of_ones_own_is_refused(tools):
    def swap(consortium, uploads):
        return [rewritten(consortium, uploads[0], vector_hash="00" * 32), *uploads[1:]]

    assert consent_reply(tools, swap) == "not_mine"


def test_too_few_uploads_are_refused(tools):
    assert consent_reply(tools, lambda _, uploads: uploads[:3]) == "too_few"


def test_an_unfinished_upload_is_not_consented_to(tools):
    consortium = tools.Consortium(5)
    silos = consortium.silos()
    server = consortium.server()
    ask = tools.run_to(5, server, silos)
    silos["silo-001"].handle(ask.requests["silo-001"])  # never read
    for party in consortium.names[1:]:
        server.absorb(party, silos[party].handle(ask.requests[party]))

    request = server.step().requests["silo-002"]

    assert tools.refusal_code(silos["silo-001"].handle(request)) == "not_mine"


# --- M5: the consents -------------------------------------------------------------------------------------------------


def reveal_reply(tools, change):
    consortium = tools.Consortium(5)
    silos = consortium.silos()
    ask = tools.run_to(7, consortium.server(), silos)
    request = tools.reshaped(consortium, ask.requests["silo-001"], lambda consents: change(consortium, consents))
    return tools.refusal_code(silos["silo-001"].handle(request))


def test_fewer_than_t_consents_open_nothing(tools):
    assert reveal_reply(tools, lambda _, consents: consents[:3]) == "no_quorum"


def test_consents_to_another_set_open_nothing(tools):
    def other_set(consortium, consents):
        return [*consents[:3], rewritten(consortium, consents[3], survivors_hash="00" * 32)]

    assert reveal_reply(tools, other_set) == "no_quorum"


def test_forged_consents_open_nothing(tools):
    def forge(consortium, consents):
        return [*consents[:3], rewritten(consortium, consents[3], signer="server")]

    assert reveal_reply(tools, forge) == "malformed"


def test_consents_of_another_transcript_open_nothing(tools):
    def replay(consortium, consents):
        return [*consents[:3], rewritten(consortium, consents[3], transcript="00" * 32)]

    assert reveal_reply(tools, replay) == "malformed"


def test_a_silo_outside_the_set_does_not_count_for_its_quorum(tools):
    consortium = tools.Consortium(7)
    silos, server = consortium.silos(), consortium.server()
    ask = tools.run_to(5, server, silos)
    for party in consortium.names[:6]:
        server.absorb(party, silos[party].handle(ask.requests[party]))
    for party, reply in tools.answers(server.step(), silos).items():
        server.absorb(party, [reply])
    request = server.step().requests["silo-001"]

    def outvote(consents):
        outsider = replace(consortium.identities["silo-007"], party="silo-007")
        return [*consents[:4], sign(outsider, "consent", consents[0].body)]

    reply = silos["silo-001"].handle(tools.reshaped(consortium, request, outvote))

    assert tools.refusal_code(reply) == "new_member"


def test_no_silo_reveals_both_secrets_of_another(tools):
    consortium = tools.Consortium(7)
    silos = consortium.silos()
    server = consortium.server()
    ask = tools.run_to(5, server, silos)
    for party in consortium.names[:5]:
        server.absorb(party, silos[party].handle(ask.requests[party]))
    for party, request in server.step().requests.items():
        server.absorb(party, silos[party].handle(request))

    reveal = tools.reply_of(b"".join(silos["silo-001"].handle(server.step().requests["silo-001"])))

    assert sorted(reveal.body["seed_shares"]) == consortium.names[:5]
    assert sorted(reveal.body["key_shares"]) == consortium.names[5:]


# --- once per stage, once per model version ---------------------------------------------------------------------------


@pytest.mark.parametrize("stage", [1, 2, 3, 5, 6, 7])
def test_the_same_request_gets_the_same_bytes(tools, stage):
    consortium = tools.Consortium(3)
    silos = consortium.silos()
    request = tools.run_to(stage, consortium.server(), silos).requests["silo-001"]

    first, second = (b"".join(silos["silo-001"].handle(request)) for _ in range(2))

    assert first == second


@pytest.mark.parametrize("stage", [2, 3, 5, 6, 7])
def test_another_request_for_an_answered_stage_is_refused(tools, stage):
    consortium = tools.Consortium(7)
    silos = consortium.silos()
    request = tools.run_to(stage, consortium.server(), silos).requests["silo-001"]
    b"".join(silos["silo-001"].handle(request))

    other = tools.reshaped(consortium, request, lambda messages: messages[:-1])

    assert tools.refusal_code(silos["silo-001"].handle(other)) == "second_answer"


@pytest.mark.parametrize("stage", [3, 5, 6, 7])
def test_a_stage_out_of_order_is_refused(tools, stage):
    consortium = tools.Consortium(3)
    silos = consortium.silos()
    request = tools.run_to(stage, consortium.server(), silos).requests["silo-001"]
    early = consortium.silo("silo-001", stages=MemoryStages())
    early.handle(consortium.server().start(consortium.names).requests["silo-001"])

    assert tools.refusal_code(early.handle(request)) == "out_of_order"


@pytest.mark.parametrize("stage", [1, 2, 3, 5, 6, 7])
def test_a_silo_that_restarts_sits_the_attempt_out_and_joins_the_next(tools, stage, tmp_path):
    consortium = tools.Consortium(3)
    consortium.stages = {p: FileStages(tmp_path / p) for p in consortium.names}
    silos = consortium.silos()
    ask = tools.run_to(stage, consortium.server(), silos)
    b"".join(silos["silo-001"].handle(ask.requests["silo-001"]))

    consortium.stages["silo-001"].close()
    restarted = consortium.silo("silo-001", stages=FileStages(tmp_path / "silo-001"))
    code = tools.refusal_code(restarted.handle(ask.requests["silo-001"]))
    following = replace(consortium.manifest, attempt=1)
    reply = tools.reply_of(b"".join(restarted.handle(consortium.signed("manifest", following.to_body()))))

    assert code == ("old_attempt" if stage == 1 else "unknown_attempt")
    assert reply.body.get("reason_code", reply.kind) == ("released" if stage == 7 else "hello")


def test_a_retry_sends_the_same_vector_under_fresh_masks(tools):
    consortium = tools.Consortium(3)
    calls: list[str] = []

    def silo(party):
        return consortium.silo(party, vector=lambda: (calls.append(party), consortium.vectors[party].copy())[1])

    silos = {party: silo(party) for party in consortium.names}
    first = tools.answers(tools.run_to(5, consortium.server(), silos), silos)
    retry = consortium.server(replace(consortium.manifest, attempt=1))
    second = tools.answers(tools.run_to(5, retry, silos), silos)
    for party, reply in second.items():
        retry.absorb(party, [reply])

    assert sorted(calls) == consortium.names
    assert first["silo-001"][:41] != second["silo-001"][:41]
    assert sorted(retry.step().requests) == consortium.names


def test_a_vector_cannot_be_changed_between_two_answers(tools):
    consortium = tools.Consortium(3)
    vector = consortium.vectors["silo-001"].copy()
    silos = consortium.silos(vector=lambda: vector)
    ask = tools.run_to(5, consortium.server(), silos)
    silos["silo-001"].handle(ask.requests["silo-001"])

    with pytest.raises(ValueError, match="read-only"):
        vector += np.uint64(1)


def test_no_second_sum_is_opened_for_one_model_version(tools):
    consortium = tools.Consortium(3)
    silos = consortium.silos()
    tools.answers(tools.run_to(7, consortium.server(), silos), silos)

    again = replace(consortium.manifest, round=2)
    new_model = replace(consortium.manifest, round=2, adapter_hash="ee" * 32)

    assert tools.refusal_code(silos["silo-001"].handle(consortium.signed("manifest", again.to_body()))) == "released"
    restarted = consortium.silo("silo-001", new_model)
    reply = restarted.handle(consortium.signed("manifest", new_model.to_body()))
    assert tools.reply_of(b"".join(reply)).kind == "hello"


def test_the_secrets_of_an_opened_sum_are_gone(tools):
    consortium = tools.Consortium(3)
    silos = consortium.silos()
    server = consortium.server()
    ask = tools.run_to(5, server, silos)
    vector_request = ask.requests["silo-001"]
    for _ in range(3):
        for party, request in ask.requests.items():
            server.absorb(party, silos[party].handle(request))
        ask = server.step()

    assert tools.refusal_code(silos["silo-001"].handle(vector_request)) == "closed"


def test_a_second_pass_is_opened_once_and_over_the_same_silos_only(tools):
    consortium = tools.Consortium(5)
    silos = consortium.silos()
    tools.answers(tools.run_to(7, consortium.server(), silos), silos)

    def code(**change):
        manifest = replace(consortium.manifest, attempt=1, **change)
        reply = tools.reply_of(b"".join(silos["silo-001"].handle(consortium.signed("manifest", manifest.to_body()))))
        return reply.body.get("reason_code", reply.kind)

    assert code(linear_pass=1, cohort=tuple(consortium.names[:4])) == "other_pass"
    assert code(linear_pass=2) == "other_pass"
    assert code(linear_pass=0) == "released"
    assert code(linear_pass=1) == "hello"


def test_a_second_pass_loses_nobody(tools):
    consortium = tools.Consortium(7)
    silos = consortium.silos()
    tools.answers(tools.run_to(7, consortium.server(), silos), silos)
    server = consortium.server(replace(consortium.manifest, attempt=1, linear_pass=1))
    ask = tools.run_to(5, server, silos)
    for party in consortium.names[:6]:
        server.absorb(party, silos[party].handle(ask.requests[party]))

    request = server.step().requests["silo-001"]

    assert tools.refusal_code(silos["silo-001"].handle(request)) == "other_pass"


# --- sums that together tell of few silos -----------------------------------------------------------------------------


def series_of_cohorts(tools, consortium, cohorts, policy) -> str:
    """Open a sum over each cohort in turn, a new model each time; return the last answer's code or kind."""
    for number, lost in enumerate(cohorts, start=1):
        manifest = replace(consortium.manifest, round=number, adapter_hash=f"{number:064x}")
        silos = consortium.silos(manifest, policy=policy)
        server = consortium.server(manifest)
        ask = tools.run_to(5, server, silos)
        for party in set(silos) - lost:
            server.absorb(party, silos[party].handle(ask.requests[party]))
        ask = server.step()
        replies = {p: b"".join(silos[p].handle(r)) for p, r in ask.requests.items()}
        last = tools.reply_of(replies["silo-001"])
        for party, reply in replies.items():
            server.absorb(party, [reply])
        if number < len(cohorts):
            tools.answers(server.step(), silos)
    return str(last.body.get("reason_code", last.kind))


ALL: set[str] = set()
ONE, TWO, THREE = {"silo-010"}, {"silo-009", "silo-010"}, {"silo-008", "silo-009", "silo-010"}
OTHER_THREE = {"silo-005", "silo-006", "silo-007"}


@pytest.mark.parametrize(
    ("bears_with", "lost", "code"),
    [
        (0, [ALL, ALL, ALL, ALL], "consent"),  # nothing changes
        (0, [ALL, THREE, ALL], "consent"),  # n_c + 2 at once: behind each honest one stands another
        (0, [ALL, THREE, OTHER_THREE], "consent"),
        (0, [ALL, TWO], "cohort_changes"),  # a pair: one of the two may be in league
        (1, [ALL, TWO], "consent"),
        (0, [ALL, ONE], "cohort_changes"),
        (1, [ALL, ONE], "consent"),
        (1, [ALL, ONE, ALL], "cohort_changes"),  # one leaves, and comes back
        (2, [ALL, ONE, ALL], "consent"),
        (0, [THREE, ALL, THREE, TWO], "cohort_changes"),  # one from an earlier sum
    ],
)
def test_sums_that_together_tell_of_few_silos_are_limited(tools, bears_with, lost, code):
    consortium = tools.Consortium(10)

    assert series_of_cohorts(tools, consortium, lost, SiloPolicy(max_single_changes=bears_with)) == code


def test_with_differential_privacy_they_are_not_limited(tools):
    consortium = tools.Consortium(7, dp_plan_hash="99" * 32)
    lost = [ALL, {"silo-007"}, ALL]

    assert series_of_cohorts(tools, consortium, lost, SiloPolicy(max_single_changes=0)) == "consent"


# --- evidence ---------------------------------------------------------------------------------------------------------


def test_a_refusal_is_signed_and_kept_with_the_request(tools):
    consortium = tools.Consortium(3)
    silo = consortium.silo("silo-001")
    request = consortium.signed("manifest", replace(consortium.manifest, epoch=2).to_body())

    reply = tools.reply_of(b"".join(silo.handle(request)))

    reply.verify(consortium.roster.key("silo-001"))
    assert [(e.reason_code, e.request) for e in silo.evidence] == [("other_roster", request)]
    assert [e.reason_code for e in consortium.stages["silo-001"].entries() if isinstance(e, Declined)] == [
        "other_roster"
    ]


def test_a_flood_of_bad_requests_does_not_fill_the_disk(tools):
    consortium = tools.Consortium(3)
    silo = consortium.silo("silo-001")
    request = consortium.signed("manifest", replace(consortium.manifest, epoch=2).to_body())

    for _ in range(40):
        silo.handle(request)

    assert len(silo.evidence) == len(consortium.stages["silo-001"].entries()) == 32


def test_a_release_is_recorded_with_its_survivors(tools):
    consortium = tools.Consortium(3)
    silos = consortium.silos()
    tools.answers(tools.run_to(7, consortium.server(), silos), silos)

    releases = [e for e in consortium.stages["silo-001"].entries() if isinstance(e, Released)]

    assert [(r.model_version, r.survivors) for r in releases] == [("bb" * 32, tuple(consortium.names))]


def test_a_vector_of_another_length_is_misuse_and_sends_nothing(tools):
    consortium = tools.Consortium(3)
    silos = consortium.silos(vector=lambda: consortium.vectors["silo-001"][:4])
    ask = tools.run_to(5, consortium.server(), silos)

    with pytest.raises(ValueError, match=r"must be uint64\[5\], got uint64\[4\]"):
        silos["silo-001"].handle(ask.requests["silo-001"])


@pytest.mark.parametrize(
    "numbers",
    [{"colluding": -1}, {"min_threshold": 1}, {"max_single_changes": -1}, {"min_cohort": 2}, {"colluding": 2}],
)
def test_a_policy_that_protects_nobody_is_refused(numbers):
    with pytest.raises(ValueError, match=r"needed|min_cohort"):
        SiloPolicy(**numbers)
