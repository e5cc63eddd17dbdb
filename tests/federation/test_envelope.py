"""Envelopes, attacked from outside: by a relay that may drop, repeat, swap, keep and change whatever it carries."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import pytest

from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.roster import Member, Role, Roster
from fedcollm_secure.engines.engine import Chunks
from fedcollm_secure.federation.agent import Agent
from fedcollm_secure.federation.envelope import OFFER, REQUEST, SEAL_BYTES, seal_reply, seal_request
from fedcollm_secure.federation.messages import Close, encode
from fedcollm_secure.federation.signed_engine import SignedEngine

SESSION, PLAN = "pilot-1", "ab" * 32
IDENTITIES = {name: Identity.generate(name) for name in ("server", "north", "south", "stranger")}


def roster(epoch: int = 1) -> Roster:
    def member(name: str, role: Role) -> Member:
        return Member(id=name, role=role, ed25519=IDENTITIES[name].public_key)

    members = (member("server", "server"), member("north", "silo"), member("south", "silo"))
    return Roster(consortium_id="pilot", epoch=epoch, members=members, policy={})


@dataclass(kw_only=True)
class Party:
    """A silo that writes down what reached it."""

    name: str
    session: str = SESSION
    plan: str = PLAN
    epoch: int = 1
    heard: list[bytes] = field(default_factory=list[bytes])
    said: list[str] = field(default_factory=list[str])
    reply: bytes = b"yes"

    def __post_init__(self) -> None:
        self.agent = Agent(
            identity=IDENTITIES[self.name],
            roster=roster(self.epoch),
            session=self.session,
            plan=self.plan,
            answer=self.answer,
            say=self.said.append,
        )

    def answer(self, message: bytes) -> Chunks:
        self.heard.append(message)
        return iter((self.reply,))


@dataclass(kw_only=True)
class Relay:
    """Carries, and keeps a copy; `out` and `back` may change what passes."""

    silos: dict[str, Party]
    kept: list[tuple[str, bytes]] = field(default_factory=list[tuple[str, bytes]])
    out: Callable[[str, bytes], tuple[str, bytes]] = lambda party, message: (party, message)
    back: Callable[[str, bytes], bytes] = lambda _party, reply: reply
    serial: int = 1

    def parties(self) -> Sequence[str]:
        return list(self.silos)

    def connection(self, party: str) -> int:
        return self.serial if party in self.silos else 0

    def wait(self, parties: Iterable[str], least: int) -> frozenset[str]:
        assert least >= 0
        return frozenset(parties) & self.silos.keys()

    def exchange(self, requests: Mapping[str, bytes]) -> Iterator[tuple[str, Chunks]]:
        for party in requests:
            message = requests[party]
            self.kept.append((party, message))
            target, message = self.out(party, message)
            reply = b"".join(self.silos[target].agent.handle(message))
            yield party, iter((self.back(party, reply),))


def over(relay: Relay, identity: str = "server", session: str = SESSION, plan: str = PLAN) -> SignedEngine:
    said: list[str] = []
    return SignedEngine(
        relay,
        identity=IDENTITIES[identity],
        roster=roster(),
        session=session,
        plan=plan,
        say=said.append,
    )


def taken(engine: SignedEngine, requests: Mapping[str, bytes]) -> dict[str, bytes]:
    return {party: b"".join(chunks) for party, chunks in engine.exchange(requests)}


@pytest.fixture
def relay() -> Relay:
    return Relay(silos={name: Party(name=name) for name in ("north", "south")})


def test_each_silo_hears_what_is_meant_for_it(relay: Relay) -> None:
    engine = over(relay)
    assert taken(engine, {"north": b"1", "south": b"2"}) == {"north": b"yes", "south": b"yes"}
    assert taken(engine, {"north": b"3"}) == {"north": b"yes"}
    assert relay.silos["north"].heard == [b"1", b"3"]
    assert relay.silos["south"].heard == [b"2"]


def test_an_unsigned_close_ends_no_round(relay: Relay) -> None:
    taken(over(relay), {"north": b"1"})
    close = encode(Close(session=SESSION, round=1, adapter="00" * 32))
    north = relay.silos["north"]
    for message in (close, REQUEST + close, REQUEST + b"\0\0\0\0" + close, OFFER + close, b"", REQUEST):
        assert b"".join(north.agent.handle(message)) == b""
    assert north.heard == [b"1"]
    assert len(north.said) == 6


def test_a_relay_that_says_a_message_again_is_not_heard_again(relay: Relay) -> None:
    engine = over(relay)
    taken(engine, {"north": b"begin"})
    taken(engine, {"north": b"close"})
    north = relay.silos["north"]
    for _, message in relay.kept[1:]:
        assert b"".join(north.agent.handle(message)) == b""
    assert north.heard == [b"begin", b"close"]
    assert "again" in north.said[0]


def test_a_message_of_an_earlier_connection_is_not_heard(relay: Relay) -> None:
    engine = over(relay)
    taken(engine, {"north": b"old close"})
    offer, old = relay.kept[0][1], relay.kept[1][1]
    relay.serial += 1
    taken(engine, {"north": b"new"})
    north = relay.silos["north"]
    assert b"".join(north.agent.handle(old)) == b""
    assert b"".join(north.agent.handle(offer)) != b""  # said again it opens another channel: the silo's nonce is fresh
    assert b"".join(north.agent.handle(old)) == b""
    assert north.heard == [b"old close", b"new"]


def test_one_silos_message_is_not_anothers(relay: Relay) -> None:
    engine = over(relay)
    taken(engine, {"north": b"1", "south": b"2"})
    relay.out = lambda party, message: ("south" if party == "north" else party, message)
    with pytest.raises(ProtocolError, match="cut off before its signature"):
        taken(engine, {"north": b"3"})
    assert relay.silos["south"].heard == [b"2"]
    assert "another channel" in relay.silos["south"].said[0]


def test_an_offer_to_another_opens_no_channel(relay: Relay) -> None:
    relay.out = lambda _party, message: ("south", message)
    assert taken(over(relay), {"north": b"1"}) == {}
    assert "of party 'north'" in relay.silos["south"].said[0]
    assert not relay.silos["south"].heard


@pytest.mark.parametrize("changed", ["head", "payload", "longer"])
def test_a_changed_request_is_not_heard(relay: Relay, changed: str) -> None:
    engine = over(relay)
    taken(engine, {"north": b"1"})

    def change(party: str, message: bytes) -> tuple[str, bytes]:
        at = {"head": 40, "payload": len(message) - 1, "longer": len(message)}[changed]
        return party, message[:at] + b"X" + message[at + 1 :]

    relay.out = change
    with pytest.raises(ProtocolError):
        taken(engine, {"north": b"payload"})
    assert relay.silos["north"].heard == [b"1"]


@pytest.mark.parametrize("where", [0, 1, -1, -100])
def test_a_changed_reply_is_nobodys(relay: Relay, where: int) -> None:
    engine = over(relay)
    taken(engine, {"north": b"1"})
    relay.back = lambda _party, reply: reply[:where] + bytes([reply[where] ^ 1]) + (reply[where:][1:])
    with pytest.raises(ProtocolError):
        taken(engine, {"north": b"2"})


def test_a_vector_that_is_cut_or_changed_ends_in_an_error(relay: Relay) -> None:
    engine = over(relay)
    relay.silos["north"].reply = bytes(range(256)) * 1000
    assert taken(engine, {"north": b"1"}) == {"north": bytes(range(256)) * 1000}
    for back in (
        lambda _party, reply: reply[:100_000],
        lambda _party, reply: b"X" + reply[1:],
        lambda _party, reply: reply + b"X",
    ):
        relay.back = back
        with pytest.raises(ProtocolError):
            taken(engine, {"north": b"1"})


def test_one_silo_cannot_answer_for_another(relay: Relay) -> None:
    engine = over(relay)
    taken(engine, {"north": b"1", "south": b"2"})
    relay.out = lambda party, message: (party, message)
    channel = "00" * 32
    relay.back = lambda _party, _reply: b"".join(seal_reply(IDENTITIES["south"], channel, 2, (b"refused",)))
    with pytest.raises(ProtocolError, match="expected reply of north"):
        taken(engine, {"north": b"3"})


def test_the_answer_to_one_request_is_none_to_the_next(relay: Relay) -> None:
    engine, replies = over(relay), list[bytes]()

    def keep(_party: str, reply: bytes) -> bytes:
        replies.append(reply)
        return reply

    relay.back = keep
    taken(engine, {"north": b"1"})
    relay.back = lambda _party, _reply: replies[-1]
    with pytest.raises(ProtocolError, match="signed for another request"):
        taken(engine, {"north": b"2"})


@pytest.mark.parametrize(
    ("change", "what"),
    [({"session": "pilot-2"}, "session"), ({"plan": "cd" * 32}, "plan"), ({"epoch": 2}, "roster")],
)
def test_a_silo_joins_only_what_it_was_started_for(change: dict[str, str], what: str) -> None:
    party = Party(name="north", **change)  # type: ignore[arg-type]
    assert taken(over(Relay(silos={"north": party})), {"north": b"1"}) == {}
    assert f"offer: of {what}" in party.said[0]
    assert not party.heard


def test_a_member_is_not_the_coordinator(relay: Relay) -> None:
    assert taken(over(relay, identity="south"), {"north": b"1"}) == {}
    assert not relay.silos["north"].heard


def test_lengths_are_bounded() -> None:
    party = Party(name="north")
    taken(over(Relay(silos={"north": party})), {"north": b"1"})
    for size in (SEAL_BYTES + 1, 2**32 - 1):
        assert b"".join(party.agent.handle(REQUEST + size.to_bytes(4, "big") + b"x" * 10)) == b""
    forged = seal_request(IDENTITIES["stranger"], "00" * 32, 2, b"1")
    assert b"".join(party.agent.handle(forged)) == b""
    assert party.heard == [b"1"]
