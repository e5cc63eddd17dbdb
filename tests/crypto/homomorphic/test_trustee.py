"""The trustee of unmasked sums, its silos and its server: each numbered check by itself."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from fedcollm_crypto import hpke
from fedcollm_crypto.errors import ProtocolError, TooFewSilos
from fedcollm_crypto.homomorphic import commitments, messages
from fedcollm_crypto.homomorphic.commitments import SEND_REQUEST, Commitment, Deposit
from fedcollm_crypto.homomorphic.messages import OpenRequest
from fedcollm_crypto.homomorphic.residues import to_wire
from fedcollm_crypto.homomorphic.trustee import exact_integers
from fedcollm_crypto.masking.requests import Relay
from fedcollm_crypto.masking.stages import FileStages, Released, Where
from fedcollm_crypto.signed import Signed, sign


class Round:
    """One round of five silos, up to a request."""

    def __init__(self, tools, play, worker, kind: str, **stages) -> None:
        self.tools, self.play, self.consortium = tools, play, tools.Encrypted(5, worker, "ckks")
        self.consortium.stages |= stages
        self.names, self.identities = self.consortium.names, self.consortium.identities
        self.parties, self.server = self.consortium.parties(), self.consortium.server()
        self.trustee = self.parties["decryptor"]
        self.ask = play.play_to(kind, self.server, self.parties, self.names)
        self.manifest = self.server.manifest

    @property
    def request(self) -> bytes:
        return self.ask.requests["decryptor"]

    def body(self):
        return Signed.decode(messages.detach(self.request)[0]).body

    def code(self, attachment: bytes | None = None, **changes) -> str:
        """Send the trustee the request with changes, and return the code of its refusal."""
        return self.tools.refusal_code(
            self.trustee.handle(self.play.resigned(self.consortium, self.request, attachment, **changes))
        )

    def resigned(self, message: Signed, signer: str | None = None, **changes) -> Signed:
        identity = replace(self.identities[signer or message.sender], party=message.sender)
        return sign(identity, message.kind, {**message.body, **changes})

    def sealed(self, wire: bytes, party: str = "silo-001", index: int = 0) -> bytes:
        box_key = self.trustee._custody._held.box_key.public_key().public_bytes_raw()
        return hpke.seal_classical(box_key, wire, commitments.piece_context(self.manifest.hash, party, index), "it")


@pytest.fixture
def deposit(tools, play, worker) -> Round:
    """The first deposit, that of silo-001, is about to be made."""
    return Round(tools, play, worker, Deposit.KIND)


@pytest.fixture(scope="module")
def opening(tools, play, worker) -> Round:
    """All have deposited, and the sum is about to be opened: what is refused leaves it so."""
    return Round(tools, play, worker, OpenRequest.KIND)


@pytest.fixture
def sending(tools, play, worker) -> Round:
    """All have committed, and are about to see the commitments."""
    return Round(tools, play, worker, SEND_REQUEST)


# --- (1) the attempt and the silo ---


def test_a_second_deposit_of_one_silo_is_refused(deposit):
    deposit.trustee.handle(deposit.request)

    assert deposit.tools.refusal_code(deposit.trustee.handle(deposit.request)) == "second_answer"


def test_a_deposit_under_another_manifest_is_refused(deposit):
    other = replace(deposit.manifest, adapter_hash="66" * 32)
    deposit.trustee.handle(deposit.request)

    assert deposit.code(manifest=other.to_body()) == "second_answer"
    assert deposit.code(manifest=replace(deposit.manifest, attempt=3).to_body()) == "unknown_attempt"


def test_only_silos_of_the_cohort_deposit(deposit):
    server = deposit.identities["server"]
    commitment = sign(server, Commitment.KIND, deposit.body()["commitment"]["body"])

    assert deposit.code(commitment=commitment.to_json()) == "new_member"


# --- (2) who signed ---


@pytest.mark.parametrize("name", ["commitment", "sent"])
def test_what_the_silo_did_not_sign_is_refused(deposit, name):
    fake = deposit.resigned(Signed.from_json(deposit.body()[name]), "server")

    assert deposit.code(**{name: fake.to_json()}) == "malformed"


@pytest.mark.parametrize("name", ["commitment", "sent"])
def test_what_the_silo_signed_for_another_round_is_refused(deposit, name):
    other = deposit.resigned(Signed.from_json(deposit.body()[name]), manifest_hash="66" * 32)

    assert deposit.code(**{name: other.to_json()}) == "malformed"


def test_the_message_of_another_silo_is_refused(deposit):
    sent = Signed.from_json(deposit.body()["sent"])
    other = sign(deposit.identities["silo-002"], sent.kind, sent.body)

    assert deposit.code(sent=other.to_json()) == "malformed"


# --- (3) what was committed to ---


def test_other_ciphertexts_than_committed_to_are_refused(deposit):
    assert deposit.code(deposit.sealed(bytes(122880))) == "other_ciphertexts"


def test_a_box_to_another_place_or_party_does_not_open(deposit):
    assert deposit.code(deposit.sealed(bytes(122880), party="silo-002")) == "malformed"
    assert deposit.code(deposit.sealed(bytes(122880), index=1)) == "malformed"


@pytest.mark.parametrize("change", [lambda data: data[:-1], lambda data: data * 2, lambda data: b""])
def test_another_number_of_boxes_is_refused(deposit, change: Callable[[bytes], bytes]):
    assert deposit.code(change(bytes(messages.detach(deposit.request)[1]))) == "malformed"


# --- (4) coefficients ---


def test_a_coefficient_of_q_is_refused(deposit):
    residues = np.zeros(2 * 8192, dtype=np.uint64)
    residues[-1] = deposit.trustee._custody._held.box.prime
    wire = to_wire(residues)
    hasher = commitments.ciphertexts_hasher()
    hasher.update(wire)
    digest = hasher.finalize().hex()
    commitment = deposit.resigned(Signed.from_json(deposit.body()["commitment"]), ciphertexts_hash=digest)

    assert deposit.code(deposit.sealed(wire), commitment=commitment.to_json()) == "malformed"


def test_a_refused_deposit_drops_its_silo_and_the_sum_is_of_the_others(tools, play, worker):
    consortium = tools.Encrypted(5, worker, "ckks")
    parties = consortium.parties()
    forger = play.CraftingWorker(worker=worker, craft=lambda residues: residues)
    parties["silo-002"] = silo = consortium.silo("silo-002", worker=forger)
    server = consortium.server()
    ask = play.play_to(SEND_REQUEST, server, parties, consortium.names)
    silo._progress.ciphertexts.rewind()
    silo._progress.ciphertexts._file.write(bytes(1000))  # other than committed to
    result = play.finish(ask, server, parties)

    assert result.contributors == set(consortium.names) - {"silo-002"}
    assert (result.total == consortium.total(result.contributors)).all()
    assert "other_ciphertexts" in server.dropped["silo-002"]


# --- (5) enough silos, and all of them committed first ---


def test_nothing_is_opened_without_deposits(tools, play, worker):
    round_ = Round(tools, play, worker, Deposit.KIND)
    body = {"manifest": round_.manifest.to_body(), "messages": [], "sum_hash": "66" * 32}
    request = messages.attach(sign(round_.identities["server"], OpenRequest.KIND, body).encode())

    assert tools.refusal_code(round_.trustee.handle(request)) == "too_few"
    round_.trustee.handle(round_.request)
    assert tools.refusal_code(round_.trustee.handle(request)) == "too_few"


def test_another_commitment_than_the_deposits_is_refused(opening):
    listed = [Signed.from_json(message) for message in opening.body()["messages"]]
    other = opening.resigned(listed[0], ciphertexts_hash="66" * 32)

    assert opening.code(messages=[m.to_json() for m in (other, *listed[1:])]) == "other_commitment"


def test_commitments_that_not_all_saw_are_refused(opening):
    listed = [Signed.from_json(message) for message in opening.body()["messages"]]

    assert opening.code(messages=[m.to_json() for m in listed[1:]]) == "new_member"
    twice = [*listed, listed[0]]
    assert opening.code(messages=[m.to_json() for m in twice]) == "malformed"


def test_a_forged_commitment_is_refused(opening):
    listed = [Signed.from_json(message) for message in opening.body()["messages"]]
    fake = opening.resigned(listed[0], "server")

    assert opening.code(messages=[m.to_json() for m in (fake, *listed[1:])]) == "malformed"


def test_another_manifest_opens_nothing(opening):
    assert opening.code(manifest=replace(opening.manifest, base_model_hash="66" * 32).to_body()) == "too_few"


# --- (6) once for each model version ---


def test_one_sum_for_one_model_version_also_after_a_restart(tools, play, worker, tmp_path):
    journal = FileStages(tmp_path / "stages")
    first = Round(tools, play, worker, OpenRequest.KIND, decryptor=journal)
    consortium = first.consortium
    play.finish(first.ask, first.server, first.parties)
    assert tools.refusal_code(first.trustee.handle(first.request)) == "unknown_attempt"
    journal.close()

    consortium.stages["decryptor"] = reopened = FileStages(tmp_path / "stages")
    parties, server = consortium.parties(), consortium.server(replace(consortium.manifest, round=2))
    ask = play.play_to(OpenRequest.KIND, server, parties, consortium.names)
    assert tools.refusal_code(parties["decryptor"].handle(ask.requests["decryptor"])) == "released"
    with pytest.raises(TooFewSilos):
        play.finish(ask, server, parties)
    assert server.refused == {"decryptor": "released"}
    reopened.close()


EVERYBODY = tuple(f"silo-{i:03}" for i in range(1, 6))
FEWER = EVERYBODY[:4]


@pytest.mark.parametrize(
    ("earlier", "survivors", "changes", "code"),
    [
        ("other", FEWER, {}, "other_set"),  # the same model in another session, over one silo fewer
        ("other", EVERYBODY, {}, ""),
        ("other", FEWER, {"adapter_hash": "66" * 32}, "cohort_changes"),  # another model: the two tell of silo-005
        ("other", EVERYBODY, {"adapter_hash": "66" * 32}, ""),
        ("other", FEWER, {"dp_plan_hash": "99" * 32}, ""),
        ("session", EVERYBODY, {"linear_pass": 1, "attempt": 1}, ""),
        ("session", FEWER, {"linear_pass": 1, "attempt": 1}, "other_pass"),
        ("", EVERYBODY, {"linear_pass": 1, "attempt": 1}, "other_pass"),
    ],
)
def test_the_invariant_over_all_sums_holds_for_the_trustee_too(
    tools, play, worker, earlier: str, survivors: tuple[str, ...], changes: dict[str, object], code: str
):
    consortium = tools.Encrypted(5, worker, "ckks")
    consortium.policy = replace(consortium.policy, max_single_changes=0)
    if earlier:
        where = Where(session_id=earlier, round=1, attempt=0, linear_pass=0)
        model = consortium.manifest.adapter_hash
        one = Released(where=where, model_version=model, survivors=survivors, dp_plan_hash="")
        consortium.stages["decryptor"].append(one)
    server = consortium.server(replace(consortium.manifest, **changes))
    parties = consortium.parties(server.manifest)
    request = play.play_to(OpenRequest.KIND, server, parties, consortium.names).requests["decryptor"]

    reply = b"".join(parties["decryptor"].handle(request))

    assert (tools.refusal_code([reply]) if reply[:1] == b"M" else "") == code


# --- (8) integers in range ---


def test_guard_range_a_decoded_value_off_by_more_than_a_quarter_is_refused():
    assert exact_integers(np.array([1.2, -3.75, 2.0])).tolist() == [1, -4, 2]
    for off in (0.26, 0.5, np.nan, np.inf):
        with pytest.raises(ProtocolError, match="nothing is released"):
            exact_integers(np.array([1.0, 2.0 + off]))


@pytest.mark.parametrize("value", [1 << 40, -(1 << 40)])
def test_guard_range_a_silo_that_encrypts_too_much_voids_the_round(tools, play, worker, value):
    consortium = tools.Encrypted(5, worker, "ckks")
    consortium.vectors["silo-001"] = np.full(5, value, dtype=np.int64).view(np.uint64)
    large = replace(consortium.manifest.quantisation, ring_bits=64)
    consortium.manifest = replace(consortium.manifest, quantisation=large)
    parties, server = consortium.parties(), consortium.server()
    ask = play.play_to(OpenRequest.KIND, server, parties, consortium.names)

    with pytest.raises(TooFewSilos):
        play.finish(ask, server, parties)
    assert "outside the range of honest sums: nothing is released" in server.dropped["decryptor"]


# --- who asks ---


def test_a_stranger_gets_no_answer(deposit):
    message, attached = messages.detach(deposit.request)
    signed = sign(deposit.identities["silo-002"], Deposit.KIND, Signed.decode(message).body)

    with pytest.raises(ProtocolError, match="from the server of the roster"):
        deposit.trustee.handle(messages.attach(signed.encode(), attached))
    with pytest.raises(ProtocolError, match="from the server of the roster"):
        deposit.parties["silo-001"].handle(signed.encode())


# --- the silo's end ---


def relay(sending: Round, change: Callable[[list[Signed]], list[Signed]]) -> bytes:
    asked = Signed.decode(sending.ask.requests["silo-001"])
    listed = change(list(Relay.from_body(asked.body).messages))
    return sending.consortium.signed(
        SEND_REQUEST, Relay(manifest_hash=sending.manifest.hash, messages=tuple(listed)).to_body()
    )


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (lambda listed: listed[1:], "not_mine"),
        (lambda listed: listed[:3], "too_few"),
        (lambda listed: [*listed, listed[1]], "malformed"),
    ],
)
def test_a_silo_sends_nothing_before_it_saw_its_own_and_enough_commitments(sending, change, code):
    silo = sending.parties["silo-001"]

    assert sending.tools.refusal_code(silo.handle(relay(sending, change))) == code


def test_a_silo_sees_no_forged_or_foreign_commitment(sending):
    silo, tools = sending.parties["silo-001"], sending.tools

    def swapped(signer: str | None, **changes) -> bytes:
        return relay(sending, lambda listed: [*listed[:-1], sending.resigned(listed[-1], signer, **changes)])

    assert tools.refusal_code(silo.handle(swapped("server"))) == "malformed"
    assert tools.refusal_code(silo.handle(swapped(None, manifest_hash="66" * 32))) == "other_manifest"


def test_a_silo_sends_for_one_set_of_commitments_and_the_same_again(sending):
    silo = sending.parties["silo-001"]
    first = b"".join(silo.handle(sending.ask.requests["silo-001"]))
    again = b"".join(silo.handle(sending.ask.requests["silo-001"]))
    other = relay(sending, lambda listed: listed[:-1])

    assert len(first) == len(again)
    assert sending.tools.refusal_code(silo.handle(other)) == "second_answer"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"adapter_hash": "66" * 32}, "other_plan"),
        ({"roster_hash": "66" * 32}, "other_roster"),
        ({"k_min": 3, "cohort": ("server", "silo-001", "silo-002", "silo-003")}, "other_cohort"),
        ({"colluding": 0, "k_min": 2}, "small_cohort"),
        ({"adversary": "semi_honest", "threshold": 3}, "low_threshold"),
        ({"encryption": None}, "other_encryption"),
        ({"server": "silo-002"}, "other_server"),
    ],
)
def test_a_silo_commits_under_its_own_plan_alone(tools, play, worker, changes, code):
    consortium = tools.Encrypted(5, worker, "ckks")
    server, parties = consortium.server(), consortium.parties()
    request = play.answer(server.start(consortium.names), server, parties).requests["silo-001"]
    head, _ = messages.detach(request)
    manifest = replace(server.manifest, **({"threshold": 3} if "cohort" in changes else {}) | changes)
    signed = consortium.signed(commitments.COMMIT_REQUEST, manifest.to_body())

    assert tools.refusal_code(parties["silo-001"].handle(messages.attach(head, signed))) == code
    assert consortium.stages["silo-001"].entries() == ()


def test_a_restarted_silo_takes_part_in_no_old_attempt(tools, play, worker):
    consortium = tools.Encrypted(5, worker, "ckks")
    server, parties = consortium.server(), consortium.parties()
    request = play.answer(server.start(consortium.names), server, parties).requests["silo-001"]
    parties["silo-001"].handle(request)

    assert tools.refusal_code(consortium.silo("silo-001").handle(request)) == "old_attempt"


@pytest.mark.parametrize(("shares", "code"), [(3, ""), (4, "too_little_noise")])
def test_a_silo_commits_only_where_the_floor_holds_enough_noise(tools, play, worker, shares: int, code: str):
    consortium = tools.Encrypted(5, worker, "ckks")
    server, parties = consortium.server(), consortium.parties()
    request = play.answer(server.start(consortium.names), server, parties).requests["silo-001"]
    expected = replace(consortium.expected(), noise_shares=shares)
    silo = consortium.silo("silo-001", expected=lambda _: expected)

    message = Signed.decode(b"".join(silo.handle(request))[1:])

    assert message.body.get("reason_code", "") == code


def test_proof_of_bad_dealing_has_no_place_where_nobody_deals(tools, worker):
    with pytest.raises(ProtocolError, match="no place"):
        tools.Encrypted(5, worker, "ckks").silo("silo-001").convict(b"")


def test_a_silo_that_insists_on_post_quantum_rounds_refuses_a_classical_one(tools, play, worker):
    consortium = tools.Encrypted(5, worker, "ckks")
    server, parties = consortium.server(), consortium.parties()
    request = play.answer(server.start(consortium.names), server, parties).requests["silo-001"]
    silo = consortium.silo("silo-001", policy=replace(consortium.policy, post_quantum=True))

    assert tools.refusal_code(silo.handle(request)) == "classical_profile"
