"""Whoever has the replies of a round adds it up again: with a silo lost, a dispute, or bad shares in it."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fedcollm_crypto import shamir
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.masking.conviction import Guilty
from fedcollm_crypto.masking.replay import Replies, replay

PROFILES = pytest.mark.parametrize("post_quantum", [False, True], ids=["classical", "post_quantum"])
DEALER, LOST = "silo-003", "silo-005"


def archived(
    tools, post_quantum: bool, change: Callable[[str, str, bytes], bytes | None] = lambda stage, party, reply: reply
):
    """Play a round of seven; return the consortium, what came of it, and its replies by stage."""
    consortium = tools.Consortium(7, post_quantum=post_quantum)
    silos, server = consortium.silos(), consortium.server()
    stages: list[dict[str, bytes]] = []
    step = server.start(consortium.names)
    try:
        while not isinstance(step, tools.Sum):
            replies = {p: change(server.stage, p, reply) for p, reply in tools.answers(step, silos).items()}
            stages.append({party: reply for party, reply in replies.items() if reply is not None})
            for party, reply in stages[-1].items():
                server.absorb(party, [reply])
            step = server.step()
    except Guilty as guilty:
        return consortium, guilty, opened(stages)
    return consortium, step, opened(stages)


def opened(stages: list[dict[str, bytes]]) -> list[Replies]:
    return [{party: lambda data=reply: [data] for party, reply in stage.items()} for stage in stages]


def junk(tools, consortium, reply: bytes) -> bytes:
    def fill(boxes) -> None:
        boxes["silo-001"] = replace(boxes["silo-001"], box=bytes(len(boxes["silo-001"].box)))

    return tools.redealt(consortium, reply, fill)


@PROFILES
def test_a_round_with_a_lost_silo_is_added_up_again(tools, post_quantum: bool):
    def lose(stage: str, party: str, reply: bytes) -> bytes | None:
        return None if party == LOST and stage in ("ask-vector", "ask-consent", "ask-reveal") else reply

    consortium, result, stages = archived(tools, post_quantum, lose)
    again = replay(consortium.manifest, consortium.roster, stages)

    assert again.contributors == result.contributors == frozenset(consortium.names) - {LOST}
    assert np.array_equal(again.total, consortium.total(again.contributors))


@PROFILES
@pytest.mark.parametrize("discloses", [True, False])
def test_a_round_with_a_dispute_is_added_up_over_the_same_silos(tools, post_quantum: bool, discloses: bool):
    signer = tools.Consortium(7, post_quantum=post_quantum)

    def lie(stage: str, party: str, reply: bytes) -> bytes | None:
        if (party, stage) == (DEALER, "ask-shares"):
            return junk(tools, signer, reply)
        return None if (party, stage) == (DEALER, "ask-disclosure") and not discloses else reply

    consortium, result, stages = archived(tools, post_quantum, lie)
    again = replay(consortium.manifest, consortium.roster, stages)

    assert again.contributors == result.contributors
    assert again.contributors == frozenset(consortium.names) - (set() if discloses else {DEALER})
    assert np.array_equal(again.total, consortium.total(again.contributors))


@PROFILES
def test_a_round_with_bad_shares_convicts_the_same_dealer_again(tools, monkeypatch, post_quantum: bool):
    calls, honest = iter(range(100)), shamir.split
    monkeypatch.setattr(
        shamir, "split", lambda s, *a: honest(bytes(32) if next(calls) == 4 else s, *a)
    )  # two calls a silo: the fifth is for b of the third
    consortium, guilty, stages = archived(tools, post_quantum)

    assert isinstance(guilty, Guilty)
    with pytest.raises(Guilty) as caught:
        replay(consortium.manifest, consortium.roster, stages)
    assert caught.value.fault == guilty.fault
    assert caught.value.fault.accused == DEALER


@pytest.mark.parametrize("stage", [0, 1, 2, 4, 5, 6])
def test_a_round_of_which_a_stage_is_missing_is_not_added_up(tools, stage: int):
    consortium, _, stages = archived(tools, post_quantum=False)
    without = [{} if number == stage else replies for number, replies in enumerate(stages)]

    with pytest.raises(ProtocolError, match="too few"):
        replay(consortium.manifest, consortium.roster, without)
    with pytest.raises(ProtocolError, match="expected 7 stages"):
        replay(consortium.manifest, consortium.roster, stages[:stage] + stages[stage + 1 :])


@PROFILES
@pytest.mark.parametrize("stage", [0, 1, 2, 4, 5, 6])
def test_one_byte_changed_in_one_reply_leaves_its_sender_out_or_the_sum_as_it_was(tools, stage, post_quantum: bool):
    consortium, _, stages = archived(tools, post_quantum)
    reply = bytearray(b"".join(stages[stage]["silo-007"]()))
    reply[len(reply) // 2] ^= 1
    stages[stage] = {**stages[stage], "silo-007": lambda: [bytes(reply)]}

    try:
        again = replay(consortium.manifest, consortium.roster, stages)
    except ProtocolError:
        return  # whoever signed after it signed something else
    assert np.array_equal(again.total, consortium.total(again.contributors))
