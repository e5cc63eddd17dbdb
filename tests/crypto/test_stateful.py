"""Anything may happen to any message and any silo, in any order: the sum is exact, or nothing was released."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    precondition,
    rule,
    run_state_machine_as_test,
)
from hypothesis.stateful import invariant as stateful_invariant

from fedcollm_crypto.errors import ProtocolError, TooFewSilos
from fedcollm_crypto.masking import attempt, invariant, unmask
from fedcollm_crypto.masking.conviction import Guilty
from fedcollm_crypto.masking.dealing import Contents, Disclosure
from fedcollm_crypto.masking.messages import Reveal
from fedcollm_crypto.masking.requests import ASK_SHARES, Refusal
from fedcollm_crypto.signed import Signed, sign

SILOS = st.integers(0, 4)
LIAR = "silo-005"
PROFILES = ("classical", "post_quantum")


def machine_of(tools, profile: str = "classical") -> type[RuleBasedStateMachine]:
    """Return the machine; it needs the fixture, which hypothesis can't hand to a class."""

    class Rounds(RuleBasedStateMachine):
        """One coordinator that tries again and again, five silos, and a network that does what it likes.

        The last silo may lie: deal junk, or shares of another secret; complain of anybody; disclose anything.
        """

        def __init__(self) -> None:
            super().__init__()
            self.consortium = tools.Consortium(5, post_quantum=profile == "post_quantum")
            self.names = self.consortium.names
            self.silos = self.consortium.silos()
            self.attempt = -1
            self.quiet_attempts = 0
            self.server = None
            self.sums = []
            self.convicted: set[str] = set()
            self.requests: dict[str, list[bytes]] = {party: [] for party in self.names}
            self.replies: dict[str, list[bytes]] = {party: [] for party in self.names}
            self.said: dict[tuple[str, str, str], bytes] = {}

        @initialize()
        def begin(self) -> None:
            self.next_attempt()

        @rule()
        def next_attempt(self) -> None:
            self.attempt += 1
            cohort = tuple(party for party in self.names if party not in self.convicted)
            manifest = replace(self.consortium.manifest, attempt=self.attempt, cohort=cohort)
            self.server = self.consortium.server(manifest)
            self.ask = self.server.start(cohort)
            self._send()

        def _send(self) -> None:
            for party, request in self.ask.requests.items():
                self.requests[party].append(request)

        @rule(silo=SILOS, data=st.data())
        def deliver_some_request(self, silo: int, data: st.DataObject) -> None:
            """New, old or repeated; of this attempt or an earlier one."""
            party = self.names[silo]
            request = data.draw(st.sampled_from(self.requests[party][-6:]))
            self._answer(party, request)

        def _answer(self, party: str, request: bytes) -> None:
            reply = b"".join(self.silos[party].handle(request))
            self.replies[party].append(reply)
            message = tools.reply_of(reply, 40 if reply[:1] == b"V" else 0)
            if message.kind == Refusal.KIND:
                return
            key = (party, str(message.body["manifest_hash"]), message.kind)
            assert self.said.setdefault(key, reply) == reply, "a stage was answered twice, differently"
            if message.kind == Reveal.KIND:
                reveal = Reveal.from_body(message.body)
                assert not set(reveal.seed_shares) & set(reveal.key_shares), "both secrets of one silo"

        @rule(silo=SILOS, data=st.data())
        def deliver_some_reply(self, silo: int, data: st.DataObject) -> None:
            """In time, late, or twice."""
            party = self.names[silo]
            if self.replies[party]:
                self.server.absorb(party, [data.draw(st.sampled_from(self.replies[party][-6:]))])

        @rule(silo=SILOS, data=st.data())
        def corrupt_a_request(self, silo: int, data: st.DataObject) -> None:
            party = self.names[silo]
            request = bytearray(data.draw(st.sampled_from(self.requests[party][-6:])))
            request[data.draw(st.integers(0, len(request) - 1))] ^= data.draw(st.integers(1, 255))
            with pytest.raises(ProtocolError):
                self.silos[party].handle(bytes(request))

        @rule(silo=SILOS, data=st.data())
        def corrupt_a_reply(self, silo: int, data: st.DataObject) -> None:
            party = self.names[silo]
            if self.replies[party]:
                reply = bytearray(self.replies[party][-1])
                reply[data.draw(st.integers(0, len(reply) - 1))] ^= data.draw(st.integers(1, 255))
                self.server.absorb(party, [bytes(reply)])

        @rule(silo=SILOS)
        def restart_a_silo(self, silo: int) -> None:
            """All that was in memory is lost; the journal is not."""
            party = self.names[silo]
            self.silos[party] = self.consortium.silo(party)

        def _liars_reply(self, stage: str) -> bytes:
            """Return what the liar would honestly reply at this stage; nothing where it is not asked, or refuses."""
            if self.server.stage != stage or LIAR not in self.ask.requests:
                return b""
            self._answer(LIAR, self.ask.requests[LIAR])
            reply = self.replies[LIAR][-1]
            return b"" if tools.reply_of(reply).kind == Refusal.KIND else reply

        def _lie(self, message: Signed, **change: object) -> None:
            lie = sign(self.consortium.identities[LIAR], message.kind, {**message.body, **change})
            self.server.absorb(LIAR, [b"M" + lie.encode()])

        @rule(victims=st.sets(SILOS, min_size=1, max_size=2))
        def deal_junk(self, victims: set[int]) -> None:
            if reply := self._liars_reply("ask-shares"):

                def fill_with_junk(boxes) -> None:
                    for party in {self.names[i] for i in victims} & boxes.keys():
                        boxes[party] = replace(boxes[party], box=bytes(len(boxes[party].box)))

                self.server.absorb(LIAR, [tools.redealt(self.consortium, reply, fill_with_junk)])

        @rule(which=st.sampled_from(["seed", "key"]))
        def deal_shares_of_another_secret(self, which: str) -> None:
            reply = self._liars_reply("ask-shares")
            state = self.silos[LIAR]._progress
            if reply and ASK_SHARES in state.states:
                dealt = state.states[ASK_SHARES]
                other = attempt.draw_secrets(state.manifest, LIAR, tools.fixed("other"))
                secrets = replace(dealt.secrets, seed=other.seed)
                if which == "key":
                    kept = dealt.secrets.hybrid
                    hybrid = None if kept is None else replace(kept, master=other.hybrid.master)
                    secrets = replace(dealt.secrets, mask=other.mask, hybrid=hybrid)
                boxes = attempt.deal_shares(dealt.place, secrets, dealt.channels, tools.fixed("boxes")).boxes
                self.server.absorb(LIAR, [tools.redealt(self.consortium, reply, lambda all_: all_.update(boxes))])

        @rule(victims=st.sets(SILOS, min_size=1, max_size=4))
        def complain_falsely(self, victims: set[int]) -> None:
            if reply := self._liars_reply("ask-check"):
                self._lie(tools.reply_of(reply), complaints=sorted(self.names[i] for i in victims))

        @rule()
        def disclose_what_was_not_dealt(self) -> None:
            if reply := self._liars_reply("ask-disclosure"):
                message = tools.reply_of(reply)
                junk = Contents(seed_share=bytes(66), key_share=bytes(66)).to_body()
                self._lie(message, contents=dict.fromkeys(Disclosure.from_body(message.body).contents, junk))

        @rule(order=st.permutations(range(5)), lost=st.sets(SILOS, max_size=1))
        def carry_all_but_some(self, order: list[int], lost: set[int]) -> None:
            """A quiet spell: the exchange works, but for at most one silo."""
            for silo in order:
                party = self.names[silo]
                if silo not in lost and party in self.ask.requests:
                    self._answer(party, self.ask.requests[party])
                    self.server.absorb(party, [self.replies[party][-1]])
            self.time_is_up()

        @precondition(lambda self: self.quiet_attempts < 2)
        @rule(order=st.permutations(range(5)), lost=SILOS, loses_at=st.integers(1, 8))
        def carry_a_whole_attempt(self, order: list[int], lost: int, loses_at: int) -> None:
            """A long quiet spell, rare by chance alone: a silo is lost for good from a stage (1-7) on, or none is."""
            self.quiet_attempts += 1
            self.next_attempt()
            for stage in range(1, 8):
                self.carry_all_but_some(order, {lost} if stage >= loses_at else set())

        @precondition(lambda self: self.server is not None)
        @rule()
        def time_is_up(self) -> None:
            """The coordinator goes on with what has come; when too few are left, it tries again."""
            server = self.server
            try:
                step = server.step()
            except (TooFewSilos, Guilty):
                self._take_in(server.convictions)
                self.next_attempt()
                return
            if isinstance(step, tools.Sum):
                self.sums.append(step)
                self.next_attempt()
            else:
                self.ask = step
                self._send()

        def _take_in(self, convictions) -> None:
            """Show every silo the proof against whom was convicted; the next attempt goes on without it."""
            for party, proof in convictions.items():
                self.convicted.add(party)
                for silo in self.silos.values():
                    silo.convict(proof)

        @stateful_invariant()
        def nobody_honest_is_convicted(self) -> None:
            assert {*self.convicted, *(self.server.convictions if self.server else ())} <= {LIAR}

        @stateful_invariant()
        def every_sum_is_exact_and_large_enough(self) -> None:
            for result in self.sums:
                assert np.array_equal(result.total, self.consortium.total(result.contributors))
                assert len(result.contributors) >= self.consortium.manifest.floor

        @stateful_invariant()
        def one_model_version_is_opened_once(self) -> None:
            assert len(self.sums) <= 1

    return Rounds


@pytest.mark.parametrize(("profile", "examples"), [("classical", 60), ("post_quantum", 30)])
def test_whatever_happens_the_sum_is_exact_or_nothing_was_released(tools, profile: str, examples: int):
    run_state_machine_as_test(
        machine_of(tools, profile),
        settings=settings(
            max_examples=examples, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


@pytest.mark.parametrize("profile", PROFILES)
def test_whatever_happens_for_a_long_time_the_sum_is_exact_or_nothing_was_released(tools, profile: str):
    run_state_machine_as_test(
        machine_of(tools, profile),
        settings=settings(
            max_examples=150, stateful_step_count=70, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def carried(tools, profile: str, loses_at: int):
    """Return a machine after a quiet attempt in which the second silo is lost from a stage (1-7) on."""
    machine = machine_of(tools, profile)()
    machine.carry_a_whole_attempt([0, 1, 2, 3, 4], 1, loses_at)
    return machine


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("loses_at", "contributors"), [(1, 4), (2, 4), (3, 4), (5, 4), (6, 5), (7, 5)])
def test_the_machine_reaches_the_sum(tools, profile: str, loses_at: int, contributors: int):
    """A machine that never gets to a sum would prove nothing."""
    machine = carried(tools, profile, loses_at)

    assert [len(result.contributors) for result in machine.sums] == [contributors]
    machine.every_sum_is_exact_and_large_enough()


@pytest.mark.parametrize("half", ["secret", "agreement"])
def test_with_half_of_the_post_quantum_recovery_gone_the_machine_sees_a_wrong_sum(tools, monkeypatch, half: str):
    """A silo that is lost after M2 leaves masks that the server can take off only with both halves of each secret."""
    if half == "secret":
        monkeypatch.setattr(unmask, "_pair_secret", lambda *_: bytes(32))
    else:
        monkeypatch.setattr(unmask, "sealing", SimpleNamespace(agree=lambda *_: bytes(32)))
    machine = carried(tools, "post_quantum", 5)

    with pytest.raises(AssertionError):
        machine.every_sum_is_exact_and_large_enough()


def lied(tools, profile: str, lie: Callable[[object], None], stage: int, lost: int = 9):
    """Return a machine after an attempt in which the liar lies at a stage, and one is lost before the vectors."""
    machine = machine_of(tools, profile)()
    machine.begin()
    for at in range(1, 8):
        if at == stage:
            lie(machine)
        machine.carry_all_but_some([0, 1, 2, 3, 4], {lost} if at >= 5 else set())
    return machine


LIES = {
    "junk for one": (lambda m: m.deal_junk({0}), 2, 5),  # it discloses what was in the box
    "junk for two": (lambda m: m.deal_junk({0, 1}), 2, 4),  # it may not, by its own rule
    "a complaint": (lambda m: m.complain_falsely({1}), 3, 4),  # its honest half does not know of it, and refuses
}


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("lie", LIES)
def test_the_machine_reaches_the_sum_although_one_silo_lies(tools, profile: str, lie: str):
    tell, stage, contributors = LIES[lie]

    machine = lied(tools, profile, tell, stage)

    assert [len(result.contributors) for result in machine.sums] == [contributors]
    assert machine.convicted == set()
    machine.every_sum_is_exact_and_large_enough()


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("which", "lost"), [("seed", 9), ("key", 4)])
def test_the_machine_convicts_and_reaches_the_sum_without_the_liar(tools, profile: str, which: str, lost: int):
    machine = lied(tools, profile, lambda m: m.deal_shares_of_another_secret(which), 2, lost)
    assert machine.sums == []
    assert machine.convicted == {LIAR}

    for _ in range(7):
        machine.carry_all_but_some([0, 1, 2, 3, 4], set())

    assert [sorted(result.contributors) for result in machine.sums] == [machine.names[:4]]
    machine.every_sum_is_exact_and_large_enough()


def test_without_the_proof_the_machine_never_reaches_a_sum(tools, monkeypatch):
    monkeypatch.setattr("fedcollm_crypto.masking.silo.MaskedSilo.convict", lambda *_: None)
    machine = lied(tools, "classical", lambda m: m.deal_shares_of_another_secret("seed"), 2)

    for _ in range(14):
        machine.carry_all_but_some([0, 1, 2, 3, 4], set())

    assert machine.sums == []


@pytest.mark.parametrize("profile", PROFILES)
def test_without_its_rule_the_machine_sees_a_second_sum(tools, monkeypatch, profile: str):
    monkeypatch.setattr(invariant, "require_unreleased", lambda *_: None)
    machine = machine_of(tools, profile)()
    machine.begin()

    for _ in range(14):
        machine.carry_all_but_some([0, 1, 2, 3, 4], set())

    with pytest.raises(AssertionError):
        machine.one_model_version_is_opened_once()
