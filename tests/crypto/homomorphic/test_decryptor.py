"""The decryptor of masked sums: each check by itself, against a server that signs whatever it likes."""

from dataclasses import replace

import numpy as np
import pytest

from fedcollm_crypto.errors import ProtocolError, TooFewSilos
from fedcollm_crypto.homomorphic import messages
from fedcollm_crypto.homomorphic.messages import OpenRequest
from fedcollm_crypto.homomorphic.residues import to_wire
from fedcollm_crypto.masking.messages import Consent, Upload
from fedcollm_crypto.signed import Signed, sign


@pytest.fixture(scope="module")
def asked(tools, worker, openings):
    """An honest request over five silos, not answered yet: what is refused leaves it so."""
    return openings.of(tools.Encrypted(5, worker))


def said(asked) -> tuple[list[Signed], list[Signed]]:
    """Return the uploads and the consents of the request."""
    body = Signed.decode(messages.detach(asked.request)[0]).body
    listed = OpenRequest.from_body(body).messages
    return [m for m in listed if m.kind == Upload.KIND], [m for m in listed if m.kind == Consent.KIND]


def as_json(*signed: Signed) -> list:
    return [message.to_json() for message in signed]


def forged(asked, message: Signed, signer: str, **changes: str) -> Signed:
    """Return a message in its sender's name, with another body, signed by somebody else or by the sender."""
    identity = replace(asked.consortium.identities[signer], party=message.sender)
    return sign(identity, message.kind, {**message.body, **changes})


# --- (1) the attempt, the roster, enough silos, this key ---


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"attempt": 1}, "unknown_attempt"),
        ({"round": 2}, "unknown_attempt"),
        ({"session_id": "another"}, "unknown_attempt"),
        ({"linear_pass": 1}, "unknown_attempt"),
        ({"roster_hash": "66" * 32}, "other_roster"),
        ({"epoch": 2}, "other_roster"),
        ({"policy_hash": "66" * 32}, "other_roster"),
        ({"adversary": "semi_honest", "threshold": 3}, "low_threshold"),
        ({"colluding": 0, "k_min": 2}, "small_cohort"),
        ({"encryption": None}, "other_encryption"),
    ],
)
def test_another_attempt_roster_or_floor_is_refused(asked, tools, changes, code):
    assert asked.with_manifest(tools, **changes) == code


@pytest.mark.parametrize("changes", [{"key_hash": "66" * 32}, {"decryptor": "another"}])
def test_another_key_or_decryptor_in_the_manifest_is_refused(asked, tools, changes):
    encryption = replace(asked.manifest.encryption, **changes)

    assert asked.with_manifest(tools, encryption=encryption) == "other_encryption"


# --- (2) t silos consented to this U3 ---


def test_fewer_than_t_consents_are_refused(asked, tools):
    uploads, consents = said(asked)

    assert len(consents) == asked.manifest.threshold == 4
    assert asked.refused(tools, messages=as_json(*uploads, *consents[1:])) == "no_quorum"


def test_fewer_than_kmin_or_t_uploads_are_refused(asked, tools):
    uploads, consents = said(asked)

    assert asked.refused(tools, messages=as_json(*uploads[:3], *consents[:3])) == "too_few"


def test_a_forged_consent_is_refused(asked, tools):
    uploads, consents = said(asked)
    fake = forged(asked, consents[0], "server")

    assert asked.refused(tools, messages=as_json(*uploads, fake, *consents[1:])) == "malformed"


def test_consents_to_another_set_are_refused(asked, tools):
    uploads, consents = said(asked)

    assert asked.refused(tools, messages=as_json(*uploads[1:], *consents)) in ("no_quorum", "new_member")
    others = [forged(asked, consent, consent.sender, survivors_hash="66" * 32) for consent in consents]
    assert asked.refused(tools, messages=as_json(*uploads, *others)) == "no_quorum"


def test_a_consent_counts_once(asked, tools):
    uploads, consents = said(asked)

    assert asked.refused(tools, messages=as_json(*uploads, consents[0], *consents[:3])) == "malformed"


def test_uploads_of_two_transcripts_are_refused(asked, tools):
    uploads, consents = said(asked)
    other = forged(asked, uploads[0], uploads[0].sender, transcript="66" * 32)

    assert asked.refused(tools, messages=as_json(other, *uploads[1:], *consents)) == "malformed"


@pytest.mark.parametrize("place", [0, -1])
def test_an_upload_or_a_consent_of_another_manifest_is_refused(asked, tools, place):
    uploads, consents = said(asked)
    listed = [*uploads, *consents]
    listed[place] = forged(asked, listed[place], listed[place].sender, manifest_hash="66" * 32)

    assert asked.refused(tools, messages=as_json(*listed)) == "malformed"


def test_the_server_is_no_silo(asked, tools):
    uploads, consents = said(asked)
    own = sign(asked.consortium.identities["server"], Upload.KIND, uploads[0].body)

    assert asked.refused(tools, messages=as_json(*uploads, own, *consents)) == "new_member"


def test_messages_of_another_kind_are_refused(asked, tools):
    uploads, consents = said(asked)
    other = sign(asked.consortium.identities["silo-001"], "hello", {})

    assert asked.refused(tools, messages=as_json(*uploads, *consents, other)) == "malformed"


# --- (3) what is to be opened ---


def test_swapped_ciphertexts_are_refused(asked, tools):
    ciphertexts = bytearray(messages.detach(asked.request)[1])
    ciphertexts[0] ^= 1

    assert asked.refused(tools, bytes(ciphertexts)) == "malformed"


@pytest.mark.parametrize("times", [0, 2])
def test_another_number_of_ciphertexts_is_refused(asked, tools, times):
    data = bytes(messages.detach(asked.request)[1]) * times

    assert asked.refused(tools, data, sum_hash=messages.sum_hash(data).hex()) == "malformed"


def test_a_coefficient_of_q_is_refused(asked, tools):
    residues = np.zeros(2 * 8192, dtype=np.uint64)
    residues[5] = (1 << 60) - 1
    data = to_wire(residues)

    assert asked.refused(tools, data, sum_hash=messages.sum_hash(data).hex()) == "malformed"


# --- who asks ---


def test_a_stranger_gets_no_answer(asked):
    message, attached = messages.detach(asked.request)
    body = Signed.decode(message).body
    for party in ("silo-001", "decryptor"):
        request = messages.attach(sign(asked.consortium.identities[party], "he-open-request", body).encode(), attached)
        with pytest.raises(ProtocolError, match="from the server of the roster"):
            asked.parties["decryptor"].handle(request)


def test_a_request_in_the_servers_name_gets_no_answer(asked):
    message, attached = messages.detach(asked.request)
    signer = replace(asked.consortium.identities["silo-001"], party="server")
    request = messages.attach(sign(signer, "he-open-request", Signed.decode(message).body).encode(), attached)

    with pytest.raises(ProtocolError, match="signature"):
        asked.parties["decryptor"].handle(request)


def test_another_kind_of_request_is_refused(asked, tools):
    request = messages.attach(sign(asked.consortium.identities["server"], "manifest", {}).encode())

    assert tools.refusal_code(asked.parties["decryptor"].handle(request)) == "malformed"


# --- (4), (5) once ---


def test_a_sum_is_opened_once_and_a_replay_is_refused(tools, worker, openings, play):
    asked = openings.of(tools.Encrypted(3, worker))
    consortium, decryptor = asked.consortium, asked.parties["decryptor"]
    result = play.finish(asked.ask, asked.server, asked.parties)

    assert (result.total == consortium.total(consortium.names)).all()
    assert tools.refusal_code(decryptor.handle(asked.request)) == "unknown_attempt"
    again = consortium.server().start(consortium.names).requests["decryptor"]
    assert tools.refusal_code(decryptor.handle(again)) == "released"


def test_a_decryptor_whose_child_died_refuses_and_the_next_attempt_works(tools, openings, play, own_worker):
    asked = openings.of(tools.Encrypted(3, own_worker))
    consortium = asked.consortium
    own_worker._process.kill()

    assert tools.refusal_code(asked.parties["decryptor"].handle(asked.request)) in ("worker_failed", "malformed")
    manifest = replace(consortium.manifest, attempt=1)
    server = consortium.server(manifest)
    ask = server.start(consortium.names)
    assert len(play.finish(ask, server, asked.parties).contributors) == 3


# --- what the server believes ---


@pytest.mark.parametrize("name", ["manifest_hash", "sum_hash", "opened_hash"])
def test_a_statement_about_another_sum_ends_the_attempt(tools, worker, openings, name):
    asked = openings.of(tools.Encrypted(3, worker))
    reply = b"".join(asked.parties["decryptor"].handle(asked.request))
    words, opened = reply[: 1 + 8 * 8192], Signed.decode(reply[1 + 8 * 8192 :])
    asked.server.absorb("decryptor", [words, forged(asked, opened, "decryptor", **{name: "66" * 32}).encode()])

    with pytest.raises(TooFewSilos, match="decryption"):
        asked.server.step()
    assert asked.server.dropped == {"decryptor": "its statement is not about this sum"}


def test_words_that_are_no_slots_end_the_attempt(tools, worker, openings):
    asked = openings.of(tools.Encrypted(3, worker))
    reply = b"".join(asked.parties["decryptor"].handle(asked.request))
    words, opened = b"\xff" * 8 * 8192, Signed.decode(reply[1 + 8 * 8192 :])
    changed = forged(asked, opened, "decryptor", opened_hash=messages.opened_hash(words).hex())
    asked.server.absorb("decryptor", [b"V", words, changed.encode()])

    with pytest.raises(TooFewSilos, match="decryption"):
        asked.server.step()
    assert "not below the plaintext modulus" in asked.server.dropped["decryptor"]


def test_a_decryptor_that_is_lost_costs_an_attempt_and_no_secret(tools, worker, openings):
    asked = openings.of(tools.Encrypted(3, worker))

    with pytest.raises(TooFewSilos, match="decryption"):
        asked.server.step()
    assert asked.server.dropped == {"decryptor": "did not answer"}


def test_a_signed_refusal_is_told_and_a_forged_one_is_not_believed(tools, worker):
    consortium = tools.Encrypted(3, worker)
    server, decryptor = consortium.server(replace(consortium.manifest, attempt=7)), consortium.decryptor()
    request = server.start(consortium.names).requests["decryptor"]
    other = messages.attach(sign(consortium.identities["server"], "he-key-request", {}).encode())
    server.absorb("decryptor", decryptor.handle(other))

    with pytest.raises(TooFewSilos):
        server.step()
    assert server.refused == {"decryptor": "malformed"}
    server = consortium.server(replace(consortium.manifest, attempt=7))
    server.start(consortium.names)
    reply = Signed.decode(b"".join(decryptor.handle(other))[1:])
    fake = sign(replace(consortium.identities["silo-001"], party="decryptor"), reply.kind, reply.body)
    server.absorb("decryptor", [b"M", fake.encode()])
    with pytest.raises(TooFewSilos):
        server.step()
    assert server.refused == {}
    assert request
