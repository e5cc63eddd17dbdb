"""Anything may happen to any message and any silo, in any order: the sum is exact, or nothing was released."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from fedcollm_crypto.errors import ProtocolError, TooFewSilos
from fedcollm_crypto.masking import rules, unmask
from fedcollm_crypto.masking.messages import Reveal
from fedcollm_crypto.masking.requests import Refusal

SILOS = st.integers(0, 4)
PROFILES = ("classical", "post_quantum")


def machine_of(tools, profile: str = "classical") -> type[RuleBasedStateMachine]:
    """Return the machine; it needs the fixture, which hypothesis can't hand to a class."""

    class Rounds(RuleBasedStateMachine):
        """One coordinator that tries again and again, five silos, and a network that does what it likes."""

        def __init__(self) -> None:
            super().__init__()
            self.consortium = tools.Consortium(5, post_quantum=profile == "post_quantum")
            self.names = self.consortium.names
            self.silos = self.consortium.silos()
            self.attempt = -1
            self.quiet_attempts = 0
            self.server = None
            self.sums = []
            self.requests: dict[str, list[bytes]] = {party: [] for party in self.names}
            self.replies: dict[str, list[bytes]] = {party: [] for party in self.names}
            self.said: dict[tuple[str, str, str], bytes] = {}

        @initialize()
        def begin(self) -> None:
            self.next_attempt()

        @rule()
        def next_attempt(self) -> None:
            self.attempt += 1
            manifest = replace(self.consortium.manifest, attempt=self.attempt)
            self.server = self.consortium.server(manifest)
            self.ask = self.server.start(self.names)
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
        @rule(order=st.permutations(range(5)), lost=SILOS, loses_at=st.integers(1, 6))
        def carry_a_whole_attempt(self, order: list[int], lost: int, loses_at: int) -> None:
            """A long quiet spell, rare by chance alone: a silo is lost for good from a stage (1-5) on, or none is."""
            self.quiet_attempts += 1
            self.next_attempt()
            for stage in range(1, 6):
                self.carry_all_but_some(order, {lost} if stage >= loses_at else set())

        @precondition(lambda self: self.server is not None)
        @rule()
        def time_is_up(self) -> None:
            """The coordinator goes on with what has come; when too few are left, it tries again."""
            try:
                step = self.server.step()
            except TooFewSilos:
                self.next_attempt()
                return
            if isinstance(step, tools.Sum):
                self.sums.append(step)
                self.next_attempt()
            else:
                self.ask = step
                self._send()

        @invariant()
        def every_sum_is_exact_and_large_enough(self) -> None:
            for result in self.sums:
                assert np.array_equal(result.total, self.consortium.total(result.contributors))
                assert len(result.contributors) >= self.consortium.manifest.floor

        @invariant()
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


@pytest.mark.slow
@pytest.mark.parametrize("profile", PROFILES)
def test_whatever_happens_for_a_long_time_the_sum_is_exact_or_nothing_was_released(tools, profile: str):
    run_state_machine_as_test(
        machine_of(tools, profile),
        settings=settings(
            max_examples=150, stateful_step_count=70, deadline=None, suppress_health_check=list(HealthCheck)
        ),
    )


def carried(tools, profile: str, loses_at: int):
    """Return a machine after a quiet attempt in which the second silo is lost from a stage (1-5) on."""
    machine = machine_of(tools, profile)()
    machine.carry_a_whole_attempt([0, 1, 2, 3, 4], 1, loses_at)
    return machine


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("loses_at", "contributors"), [(1, 4), (2, 4), (3, 4), (4, 5), (5, 5)])
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
    machine = carried(tools, "post_quantum", 3)

    with pytest.raises(AssertionError):
        machine.every_sum_is_exact_and_large_enough()


@pytest.mark.parametrize("profile", PROFILES)
def test_without_its_rule_the_machine_sees_a_second_sum(tools, monkeypatch, profile: str):
    monkeypatch.setattr(rules, "require_unreleased", lambda *_: None)
    machine = machine_of(tools, profile)()
    machine.begin()

    for _ in range(10):
        machine.carry_all_but_some([0, 1, 2, 3, 4], set())

    with pytest.raises(AssertionError):
        machine.one_model_version_is_opened_once()
