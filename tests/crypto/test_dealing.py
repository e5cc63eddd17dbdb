"""Boxes that do not open: who complains, who discloses, who is left out, and who is accused."""

import hashlib
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcollm_crypto import canonical
from fedcollm_crypto.errors import CryptoError, ProtocolError
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking.dealing import Checked, Contents, Dealing, Disclosure, Parcel, ShareBox
from fedcollm_crypto.masking.requests import ASK_CHECK, ASK_DISCLOSURE, ASK_VECTOR, Refusal, VectorRequest, sign_message
from fedcollm_crypto.signed import Signed, sign

PROFILES = pytest.mark.parametrize("post_quantum", [False, True], ids=["classical", "post_quantum"])
DEALER, VICTIM, OTHER = "silo-003", "silo-001", "silo-005"


@dataclass(kw_only=True)
class Dispute:
    """A round after M2a in which `DEALER` has filled some boxes with zeros; everybody else is honest."""

    tools: type
    consortium: object
    silos: dict
    server: object
    checked: dict[str, Signed]
    ask: object = None
    requests: dict[tuple[bytes, ...], bytes] = field(default_factory=dict)

    @classmethod
    def over(cls, tools, post_quantum: bool, junk_for: Collection[str]) -> "Dispute":
        consortium = tools.Consortium(5, post_quantum=post_quantum)
        silos, server = consortium.silos(), consortium.server()
        replies = tools.answers(tools.run_to(2, server, silos), silos)

        def fill_with_zeros(boxes: dict[str, ShareBox]) -> None:
            for party in junk_for:
                boxes[party] = replace(boxes[party], box=bytes(len(boxes[party].box)))

        replies[DEALER] = tools.redealt(consortium, replies[DEALER], fill_with_zeros)
        for party, reply in replies.items():
            server.absorb(party, [reply])
        checked = {p: tools.reply_of(reply) for p, reply in tools.answers(server.step(), silos).items()}
        return cls(tools=tools, consortium=consortium, silos=silos, server=server, checked=checked)

    def tell(self, **changed: Signed) -> "Dispute":
        """Let everybody's word on its boxes arrive, some of it changed; the disclosures are asked for next."""
        for party, message in (self.checked | changed).items():
            self.server.absorb(party, [b"M" + message.encode()])
        self.ask = self.server.step()
        return self

    def answer(self, **instead: bytes) -> "Dispute":
        """Let everybody answer what is asked; some with other bytes, or with none."""
        for party, request in self.ask.requests.items():
            reply = instead[party] if party in instead else b"".join(self.silos[party].handle(request))
            self.server.absorb(party, [reply])
        self.ask = self.server.step()
        return self

    def finish(self) -> frozenset[str]:
        """Go on to the sum, which must be exact; return over whom."""
        while not isinstance(self.ask, self.tools.Sum):
            self.answer()
        assert np.array_equal(self.ask.total, self.consortium.total(self.ask.contributors))
        return self.ask.contributors

    def said(self, sender: str, *complaints: str, **change: bytes) -> Signed:
        """Return the word of a silo that may lie."""
        body = Checked.from_body(self.checked[sender].body)
        return sign_message(self.consortium.identities[sender], replace(body, complaints=complaints, **change))

    def asked(self, *messages: Signed) -> Signed:
        """Return what the dealer answers when the server shows it these complaints."""
        body = {"manifest_hash": self.consortium.manifest.hash.hex(), "messages": [m.to_json() for m in messages]}
        key = tuple(message.signature for message in messages)
        request = self.requests.setdefault(key, self.consortium.signed(ASK_DISCLOSURE, body))  # ML-DSA-44 is randomised
        return self.tools.reply_of(b"".join(self.silos[DEALER].handle(request)))

    def refused(self, *messages: Signed) -> str:
        return Refusal.from_body(self.asked(*messages).body).reason_code


def everybody(dispute: Dispute) -> frozenset[str]:
    return frozenset(dispute.consortium.names)


# --- a dispute, from the junk to the sum ---


@PROFILES
def test_nobody_complains_and_nobody_is_asked_where_all_boxes_open(tools, post_quantum: bool):
    dispute = Dispute.over(tools, post_quantum, []).tell()

    assert all(message.body["complaints"] == [] for message in dispute.checked.values())
    assert dispute.ask.requests == {}
    assert dispute.finish() == everybody(dispute)


@PROFILES
def test_the_victim_complains_and_a_dealer_that_discloses_stays_in(tools, post_quantum: bool):
    dispute = Dispute.over(tools, post_quantum, [VICTIM]).tell()

    assert {p: m.body["complaints"] for p, m in dispute.checked.items() if m.body["complaints"]} == {VICTIM: [DEALER]}
    assert set(dispute.ask.requests) == {DEALER}
    assert dispute.finish() == everybody(dispute)
    assert dispute.server.dropped == {}


@PROFILES
@pytest.mark.parametrize("victim", ["silo-001", "silo-005"])
def test_what_was_disclosed_serves_when_the_dealer_is_lost(tools, post_quantum: bool, victim: str):
    """The victim then reveals the disclosed share of s, and its mask with the dealer is one that comes off."""
    dispute = Dispute.over(tools, post_quantum, [victim]).tell().answer()

    dispute.answer(**{DEALER: b""})

    assert dispute.finish() == everybody(dispute) - {DEALER}


@PROFILES
@pytest.mark.parametrize("says", ["nothing", "zeros", "of another attempt"])
def test_a_dealer_that_cannot_disclose_is_left_out_and_the_sum_over_the_others_is_exact(tools, post_quantum, says):
    dispute = Dispute.over(tools, post_quantum, [VICTIM]).tell()
    honest = dispute.tools.reply_of(b"".join(dispute.silos[DEALER].handle(dispute.ask.requests[DEALER])))
    zeros = Contents(seed_share=bytes(66), key_share=bytes(66), mask_secret=b"").to_body()
    change = {"zeros": {"contents": {VICTIM: zeros}}, "of another attempt": {"transcript": "00" * 32}}.get(says, {})
    lie = sign(dispute.consortium.identities[DEALER], honest.kind, honest.body | change)

    dispute.answer(**{DEALER: b"" if says == "nothing" else b"M" + lie.encode()})

    assert dispute.finish() == everybody(dispute) - {DEALER}
    assert set(dispute.server.dropped) == {DEALER}


@PROFILES
def test_a_dealer_of_much_junk_is_left_out(tools, post_quantum: bool):
    """It would have to disclose more shares than n_c know already: its own rule forbids that."""
    dispute = Dispute.over(tools, post_quantum, [VICTIM, OTHER]).tell().answer()

    assert dispute.server.refused == {DEALER: "many_complaints"}
    assert dispute.finish() == everybody(dispute) - {DEALER}


@PROFILES
def test_a_false_complaint_costs_nobody_anything_and_tells_what_the_complainer_knows(tools, post_quantum: bool):
    dispute = Dispute.over(tools, post_quantum, [])
    known = dispute.silos[OTHER]._progress.states[ASK_CHECK].shares[DEALER]
    dispute.tell(**{OTHER: dispute.said(OTHER, DEALER)})
    said = Disclosure.from_body(
        dispute.tools.reply_of(b"".join(dispute.silos[DEALER].handle(next(iter(dispute.ask.requests.values()))))).body
    )

    assert set(said.contents) == {OTHER}
    assert vars(said.contents[OTHER]) == vars(known)
    assert dispute.finish() >= everybody(dispute) - {OTHER}


# --- what a server may not do to parcels ---


def handed(dispute_of: Callable[[], tuple], change: Callable[[list[Parcel]], list[Parcel]]) -> Signed:
    """Return what the victim says to changed parcels."""
    tools, consortium, silos, request = dispute_of()
    return tools.reply_of(b"".join(silos[VICTIM].handle(tools.reshaped(consortium, request, change))))


def parcels_of(tools, post_quantum: bool, *, junk: bool = False) -> Callable[[], tuple]:
    def play() -> tuple:
        consortium = tools.Consortium(5, post_quantum=post_quantum)
        silos, server = consortium.silos(), consortium.server()
        replies = tools.answers(tools.run_to(2, server, silos), silos)
        if junk:
            replies[DEALER] = tools.redealt(
                consortium,
                replies[DEALER],
                lambda boxes: boxes.update({VICTIM: replace(boxes[VICTIM], box=bytes(len(boxes[VICTIM].box)))}),
            )
        play.dealings = {party: Dealing.decode(reply[1:]) for party, reply in replies.items()}
        for party, reply in replies.items():
            server.absorb(party, [reply])
        return tools, consortium, silos, server.step().requests[VICTIM]

    return play


def at(place: int, change: Callable[[Parcel], Parcel]) -> Callable[[list[Parcel]], list[Parcel]]:
    return lambda parcels: [*parcels[:place], change(parcels[place]), *parcels[place + 1 :]]


def other_byte(data: bytes) -> bytes:
    return bytes([data[0] ^ 1]) + data[1:]


TAMPERINGS: dict[str, Callable[[Parcel], Parcel]] = {
    "the box": lambda p: replace(p, box=replace(p.box, box=other_byte(p.box.box))),
    "a commitment": lambda p: replace(p, box=replace(p.box, key_share_commitment=bytes(32))),
    "the sender": lambda p: replace(p, box=replace(p.box, sender=OTHER)),
    "the transcript": lambda p: replace(p, box=replace(p.box, transcript=bytes(32))),
    "the box and its path": lambda p: replace(p, box=replace(p.box, box=other_byte(p.box.box)), path=()),
    "the signature, under a bad box": lambda p: replace(
        p, box=replace(p.box, box=other_byte(p.box.box)), shares=replace(p.shares, signature=bytes(64))
    ),
}


@PROFILES
@pytest.mark.parametrize("what", TAMPERINGS)
def test_a_server_that_tampers_with_a_parcel_is_accused_itself(tools, post_quantum: bool, what: str):
    reply = handed(parcels_of(tools, post_quantum), at(2, TAMPERINGS[what]))
    refusal = Refusal.from_body(reply.body)

    assert (refusal.reason_code, refusal.accused) == ("malformed", "")


@PROFILES
def test_an_untouched_parcel_is_not_refused(tools, post_quantum: bool):
    reply = handed(parcels_of(tools, post_quantum), lambda parcels: parcels)

    assert (reply.kind, reply.body["complaints"]) == ("checked", [])


@PROFILES
@pytest.mark.parametrize(
    "change",
    [
        lambda p: replace(p, path=()),
        lambda p: replace(p, path=p.path[::-1]),
        lambda p: replace(p, path=(other_byte(p.path[0]), *p.path[1:])),
        lambda p: replace(p, path=(*p.path, bytes(32))),
        lambda p: replace(p, shares=replace(p.shares, signature=bytes(len(p.shares.signature)))),
    ],
)
def test_a_junk_box_without_its_dealers_root_is_the_servers_fault(tools, post_quantum: bool, change):
    refusal = Refusal.from_body(handed(parcels_of(tools, post_quantum, junk=True), at(2, change)).body)

    assert (refusal.reason_code, refusal.accused) == ("malformed", "")


@PROFILES
def test_a_box_for_another_silo_is_the_servers_fault(tools, post_quantum: bool):
    play = parcels_of(tools, post_quantum)

    refusal = Refusal.from_body(handed(play, at(2, lambda _: play.dealings[DEALER].parcels()[OTHER])).body)

    assert (refusal.reason_code, refusal.accused) == ("malformed", "")


def test_in_the_post_quantum_profile_the_path_of_a_box_that_opens_is_checked_too(tools):
    """Anybody can seal to a hello's keys there, so that a box opens proves nothing; in the other profile it does."""
    reply = {pq: handed(parcels_of(tools, pq), at(2, lambda p: replace(p, path=()))) for pq in (True, False)}

    assert Refusal.from_body(reply[True].body).reason_code == "malformed"
    assert (reply[False].kind, reply[False].body["complaints"]) == ("checked", [])


# --- what a server may not do with complaints ---


def stranger(dispute: Dispute) -> Signed:
    identity = replace(Identity.generate("x"), party=VICTIM)
    return sign(identity, Checked.KIND, dispute.said(VICTIM, DEALER).body)


BAD_COMPLAINTS: dict[str, tuple[Callable[[Dispute], list[Signed]], str]] = {
    "of another transcript": (lambda d: [d.said(VICTIM, DEALER, transcript=bytes(32))], "malformed"),
    "that its sender did not sign": (lambda d: [stranger(d)], "malformed"),
    "about another": (lambda d: [d.said(VICTIM, OTHER)], "malformed"),
    "about nobody": (lambda d: [d.said(VICTIM)], "malformed"),
    "told twice": (lambda d: [d.said(VICTIM, DEALER)] * 2, "malformed"),
    "of another kind": (lambda d: [sign(d.consortium.identities[VICTIM], "consent", {})], "malformed"),
    "of the server's own": (lambda d: [replace_sender(d, "server")], "new_member"),
    "of two silos": (lambda d: [d.said(VICTIM, DEALER), d.said(OTHER, DEALER)], "many_complaints"),
}


def replace_sender(dispute: Dispute, party: str) -> Signed:
    return sign(dispute.consortium.identities[party], Checked.KIND, dispute.said(VICTIM, DEALER).body)


@PROFILES
@pytest.mark.parametrize("what", BAD_COMPLAINTS)
def test_a_complaint_that_is_none_discloses_nothing(tools, post_quantum: bool, what: str):
    complaints, code = BAD_COMPLAINTS[what]
    dispute = Dispute.over(tools, post_quantum, [])

    assert dispute.refused(*complaints(dispute)) == code


@PROFILES
def test_a_complaint_is_answered_once_with_the_same_bytes(tools, post_quantum: bool):
    dispute = Dispute.over(tools, post_quantum, [])
    complaint = dispute.said(VICTIM, DEALER)
    first, again = dispute.asked(complaint), dispute.asked(complaint)

    assert (first.kind, first) == (Disclosure.KIND, again)
    assert dispute.refused(dispute.said(OTHER, DEALER)) == "second_answer"


def test_a_silo_that_fears_two_discloses_to_two_and_not_to_three(tools):
    consortium = tools.Consortium(10, k_min=4, colluding=2)
    consortium.policy = replace(consortium.policy, min_cohort=4, colluding=2)
    silos = consortium.silos()
    tools.answers(tools.run_to(3, consortium.server(), silos), silos)
    place = silos[DEALER]._progress.states["ask-shares"].place

    def disclosed_to(count: int) -> Signed:
        said = Checked(manifest_hash=consortium.manifest.hash, transcript=place.transcript, complaints=(DEALER,))
        complaints = [sign_message(consortium.identities[p], said).to_json() for p in consortium.names[3 : 3 + count]]
        body = {"manifest_hash": consortium.manifest.hash.hex(), "messages": complaints}
        return tools.reply_of(b"".join(silos[DEALER].handle(consortium.signed(ASK_DISCLOSURE, body))))

    assert Refusal.from_body(disclosed_to(3).body).reason_code == "many_complaints"
    assert disclosed_to(2).kind == Disclosure.KIND


@PROFILES
def test_nothing_is_disclosed_once_the_set_is_fixed_nor_before_the_boxes_were_checked(tools, post_quantum: bool):
    dispute = Dispute.over(tools, post_quantum, [])
    dispute.tell().answer()
    b"".join(dispute.silos[DEALER].handle(dispute.ask.requests[DEALER]))
    early = tools.Consortium(5, post_quantum=post_quantum)
    silos = early.silos()
    tools.answers(tools.run_to(2, early.server(), silos), silos)
    body = {"manifest_hash": early.manifest.hash.hex(), "messages": []}

    assert dispute.refused(dispute.said(VICTIM, DEALER)) == "out_of_order"
    assert tools.refusal_code(silos[DEALER].handle(early.signed(ASK_DISCLOSURE, body))) == "out_of_order"


# --- what a server may not do with disclosures ---


def vector_reply(dispute: Dispute, party: str, *disclosures: Signed) -> Refusal:
    names = tuple(dispute.consortium.names)
    wanted = VectorRequest(manifest_hash=dispute.consortium.manifest.hash, members=names, disclosures=disclosures)
    data = b"".join(dispute.silos[party].handle(dispute.consortium.signed(ASK_VECTOR, wanted.to_body())))
    return Refusal.from_body(dispute.tools.reply_of(data).body)


def disclosed(dispute: Dispute, **change: object) -> Signed:
    message = dispute.asked(dispute.said(VICTIM, DEALER))
    return sign(dispute.consortium.identities[DEALER], message.kind, message.body | change)


@PROFILES
def test_a_box_that_was_not_disclosed_keeps_its_victim_from_masking(tools, post_quantum: bool):
    refusal = vector_reply(Dispute.over(tools, post_quantum, [VICTIM]), VICTIM)

    assert (refusal.reason_code, refusal.accused) == ("bad_shares", DEALER)


@PROFILES
@pytest.mark.parametrize(
    ("change", "code", "accused"),
    [
        ({"contents": {}}, "bad_shares", DEALER),
        ({"contents": {VICTIM: Contents(seed_share=bytes(66), key_share=bytes(66)).to_body()}}, "bad_shares", DEALER),
        ({"transcript": "00" * 32}, "malformed", ""),
    ],
)
def test_a_disclosure_that_does_not_fit_keeps_its_victim_from_masking(tools, post_quantum, change, code, accused):
    dispute = Dispute.over(tools, post_quantum, [VICTIM])
    refusal = vector_reply(dispute, VICTIM, disclosed(dispute, **change))

    assert (refusal.reason_code, refusal.accused) == (code, accused)


@PROFILES
def test_a_disclosure_for_a_silo_that_did_not_complain_is_refused(tools, post_quantum: bool):
    dispute = Dispute.over(tools, post_quantum, [])

    assert vector_reply(dispute, VICTIM, disclosed(dispute)).reason_code == "new_member"


@PROFILES
def test_a_forged_disclosure_is_the_servers_fault(tools, post_quantum: bool):
    dispute = Dispute.over(tools, post_quantum, [VICTIM])
    forger = replace(Identity.generate("x", post_quantum=post_quantum), party=DEALER)
    message = disclosed(dispute)

    refusal = vector_reply(dispute, VICTIM, sign(forger, message.kind, message.body))

    assert (refusal.reason_code, refusal.accused) == ("malformed", "")


@PROFILES
def test_the_server_takes_no_disclosure_for_others_than_those_who_complained(tools, post_quantum: bool):
    dispute = Dispute.over(tools, post_quantum, [VICTIM]).tell()
    honest = tools.reply_of(b"".join(dispute.silos[DEALER].handle(dispute.ask.requests[DEALER])))
    contents = Disclosure.from_body(honest.body).contents
    more = {p: contents[VICTIM].to_body() for p in (VICTIM, OTHER)}

    dispute.answer(
        **{
            DEALER: b"M"
            + sign(dispute.consortium.identities[DEALER], honest.kind, {**honest.body, "contents": more}).encode()
        }
    )

    assert "to each silo that complained was expected" in dispute.server.dropped[DEALER]


@pytest.mark.parametrize("about", ["silo-005", "stranger", "server"])
def test_the_server_takes_no_complaint_about_oneself_or_nobody(tools, about: str):
    dispute = Dispute.over(tools, post_quantum=False, junk_for=[])

    dispute.tell(**{OTHER: dispute.said(OTHER, about)})

    assert dispute.server.dropped == {OTHER: "a complaint is about nobody who dealt"}


# --- the root ---


def merkle_root(entries: list[bytes]) -> bytes:
    """RFC 9162, section 2.1.1, as it stands there."""
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    k = 1
    while 2 * k < len(entries):
        k *= 2
    return hashlib.sha256(b"\x01" + merkle_root(entries[:k]) + merkle_root(entries[k:])).digest()


@PROFILES
@pytest.mark.parametrize("n", [3, 6])
def test_a_dealer_signs_once_over_the_root_of_all_its_boxes(tools, post_quantum: bool, n: int):
    consortium = tools.Consortium(n, post_quantum=post_quantum)
    silos = consortium.silos()
    reply = tools.answers(tools.run_to(2, consortium.server(), silos), silos)[DEALER]
    body = canonical.decode(reply[1:])

    assert sorted(body) == ["boxes", "shares"]
    assert [box["recipient"] for box in body["boxes"]] == consortium.names
    assert all("sig" not in key for box in body["boxes"] for key in box)
    assert body["shares"]["body"]["root"] == merkle_root([canonical.encode(box) for box in body["boxes"]]).hex()


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body | {"boxes": body["boxes"][::-1]},
        lambda body: body | {"boxes": body["boxes"][1:]},
        lambda body: body | {"boxes": [*body["boxes"], body["boxes"][-1]]},
        lambda body: body | {"boxes": [{**body["boxes"][0], "box": "00" * 160}, *body["boxes"][1:]]},
        lambda body: body | {"more": 1},
        lambda body: {"boxes": body["boxes"]},
    ],
)
def test_boxes_that_are_not_those_under_the_root_are_refused(tools, change):
    consortium = tools.Consortium(3)
    silos = consortium.silos()
    reply = tools.answers(tools.run_to(2, consortium.server(), silos), silos)[DEALER]

    with pytest.raises(ProtocolError, match="dealing"):
        Dealing.decode(canonical.encode(change(canonical.decode(reply[1:]))))
    assert Dealing.decode(reply[1:]).encode() == reply[1:]


@pytest.fixture(scope="module")
def dealing(tools) -> tuple[object, bytes]:
    """One consortium, and the bytes of one dealing."""
    consortium = tools.Consortium(3)
    silos = consortium.silos()
    return consortium, tools.answers(tools.run_to(2, consortium.server(), silos), silos)[DEALER][1:]


@settings(max_examples=300, deadline=None)
@given(data=st.data())
def test_hostile_bytes_of_a_dealing_raise_a_protocol_error_and_nothing_else(dealing, data):
    consortium, good = dealing
    reply = bytearray(good)
    where = data.draw(st.integers(0, len(reply) - 1))
    reply[where : where + data.draw(st.integers(0, 3))] = data.draw(st.binary(min_size=1, max_size=3))

    try:
        read = Dealing.decode(bytes(reply))
        read.shares.verify(consortium.roster.key(read.shares.sender))
    except CryptoError as error:
        assert isinstance(error, ProtocolError)
    else:
        assert read.encode() == bytes(reply)


def test_what_is_in_a_box_is_not_printed():
    assert repr(Contents(seed_share=b"canary", key_share=b"canary", mask_secret=b"canary")) == "Contents()"
