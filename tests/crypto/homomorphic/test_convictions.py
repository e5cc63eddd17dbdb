"""Masks inside ciphertexts: a dealer of bad shares is convicted there as well, and the next attempt opens."""

from dataclasses import replace

import numpy as np
import pytest

from fedcollm_crypto import shamir
from fedcollm_crypto.homomorphic.worker import Worker
from fedcollm_crypto.masking.conviction import BadDealing, Guilty

DEALER = "silo-005"


def other_secret(secret: bytes) -> bytes:
    return bytes(value ^ 1 for value in secret)


def spoiled(tools, play, worker: Worker, monkeypatch: pytest.MonkeyPatch):
    """Play an attempt in which the last silo shares another b; return the consortium, its parties and the server."""
    consortium = tools.Encrypted(5, worker, "bfv")
    server, parties, honest = consortium.server(), consortium.parties(), shamir.split
    ask = play.play_to("ask-shares", server, parties, consortium.names)
    with monkeypatch.context() as patch:
        calls = iter(range(10))
        patch.setattr(shamir, "split", lambda s, *a: honest(other_secret(s) if next(calls) == 8 else s, *a))
        ask = play.answer(ask, server, parties)  # two calls a silo: the ninth is for b of the fifth
    with pytest.raises(Guilty, match=DEALER):
        play.finish(ask, server, parties)
    return consortium, parties, server


def test_the_proof_verifies_and_the_next_attempt_opens_without_the_dealer(tools, play, worker, monkeypatch):
    consortium, parties, server = spoiled(tools, play, worker, monkeypatch)
    proof = server.convictions[DEALER]
    BadDealing.decode(proof).verify(consortium.roster)
    left = consortium.names[:4]
    for party in left:
        parties[party].convict(proof)

    following = consortium.server(replace(consortium.manifest, attempt=1, cohort=tuple(left)))
    result = play.finish(following.start(left), following, parties)

    assert result.contributors == set(left)
    assert np.array_equal(result.total, consortium.total(left))


def test_without_the_proof_no_silo_joins_it(tools, play, worker, monkeypatch):
    consortium, parties, _ = spoiled(tools, play, worker, monkeypatch)
    left = consortium.names[:4]
    following = consortium.server(replace(consortium.manifest, attempt=1, cohort=tuple(left)))

    ask = play.answer(following.start(left), following, parties)
    refused = {party: tools.refusal_code(parties[party].handle(ask.requests[party])) for party in left}

    assert set(refused.values()) == {"released"}
