"""A decryptor opens sums and nothing else: A7, each way of it, and each rule taken away."""

from collections.abc import Callable, Iterator

import numpy as np
import pytest
from numpy.typing import NDArray

from fedcollm_crypto.homomorphic import messages, trustee
from fedcollm_crypto.homomorphic.messages import OpenRequest
from fedcollm_crypto.homomorphic.packing import Packing
from fedcollm_crypto.homomorphic.residues import to_wire, wire_bytes
from fedcollm_crypto.homomorphic.worker import Worker
from fedcollm_crypto.masking import invariant, rules
from fedcollm_crypto.signed import Signed, sign
from fedcollm_secure.assurance.attacks import misused_decryptor
from fedcollm_secure.assurance.attacks.attack_consortium import SERVER
from fedcollm_secure.assurance.attacks.encrypted_consortium import DECRYPTOR, Encrypted, play_to
from fedcollm_secure.assurance.attacks.malicious_server import Blocked
from fedcollm_secure.assurance.attacks.twins.foreign_decryptor_child import MODULUS, _coefficients

Way = Callable[[Worker], bool]


def allow_everything(*_: object) -> None:
    """Stand in for a rule that was taken away."""


def unchecked(packing: Packing, slots: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    """Stand in for `Packing.unpack`, and let any value pass."""
    return slots.reshape(-1)[:length].copy()


@pytest.fixture(scope="module")
def worker() -> Iterator[Worker]:
    with Worker() as shared:
        yield shared


def test_the_twin_opens_everything_hands_out_its_key_and_crashes() -> None:
    outcome = misused_decryptor.against_twin()

    assert outcome.succeeded
    assert outcome.figures["max_abs_error"] < 1e-6
    assert outcome.figures["key_coefficients_ternary"] == 8192
    assert outcome.figures["exit_status_without_sizes"] < 0
    assert "values_beyond_the_slots" in outcome.figures  # as many as the heap has: none, where it was never used


@pytest.mark.parametrize(
    ("way", "code"),
    [
        (misused_decryptor.open_one_alone, "too_few"),
        (misused_decryptor.cancel_the_others, "other_ciphertexts"),
        (misused_decryptor.cancel_under_masks, "nothing_released"),
        (misused_decryptor.hand_out_another_key, "other_encryption"),
        (misused_decryptor.open_two_sums, "released"),
        (misused_decryptor.send_the_key_in_disguise, "nothing_released"),
    ],
)
def test_every_way_is_refused_with_its_reason(worker: Worker, way: Way, code: str) -> None:
    with pytest.raises(Blocked, match=f"^{code}$"):
        way(worker)


def test_foreign_bytes_drop_their_sender_and_the_round_goes_on(worker: Worker) -> None:
    assert not misused_decryptor.send_foreign_bytes(worker)


# --- each rule taken away, and the attack that then works ---


def test_without_commit_first_the_cancelling_silo_opens_its_victim(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trustee, "require_committed", allow_everything)

    assert misused_decryptor.cancel_the_others(worker)


def test_without_the_floor_one_silos_ciphertexts_are_opened(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rules, "require_floor", allow_everything)

    assert misused_decryptor.open_one_alone(worker)


def test_without_the_rule_on_encryption_another_decryptor_opens_a_silo(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rules, "require_encryption", allow_everything)

    assert misused_decryptor.hand_out_another_key(worker)


def test_without_one_opening_for_a_model_two_sums_give_a_silo_away(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rule in ("require_unreleased", "require_one_dimension"):
        monkeypatch.setattr(invariant, rule, allow_everything)

    assert misused_decryptor.open_two_sums(worker)


def test_without_the_guard_range_noise_and_key_are_released(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Packing, "unpack", unchecked)

    assert misused_decryptor.send_the_key_in_disguise(worker)


def test_masks_inside_need_no_commitment(worker: Worker, monkeypatch: pytest.MonkeyPatch) -> None:
    """The cancelled sum carries the victim's masks with everybody else: even unchecked it is noise."""

    monkeypatch.setattr(Packing, "unpack", unchecked)

    assert not misused_decryptor.cancel_under_masks(worker)


def test_a_servers_own_ciphertext_may_open_to_the_key_and_the_masks_still_hide(worker: Worker) -> None:
    """The limit that the threat model states: the decryptor can't tell, so the masks alone hide from such a server."""
    attacked = Encrypted(worker, trusting=False)
    server, parties = attacked.server(), attacked.parties()
    ask = play_to(OpenRequest.KIND, server, parties, attacked.names)
    message, attached = messages.detach(ask.requests[DECRYPTOR])
    each, data = 2 * attacked.packing.scheme.lattice.degree, bytearray(attached)
    crafted = np.zeros(each, dtype=np.uint64)
    crafted[each // 2] = misused_decryptor.KEY_FACTOR
    data[: wire_bytes(each)] = to_wire(crafted)
    body = {**Signed.decode(message).body, "sum_hash": messages.sum_hash(data).hex()}
    request = messages.attach(sign(attacked.identities[SERVER], OpenRequest.KIND, body).encode(), bytes(data))
    reply = b"".join(parties[DECRYPTOR].handle(request))
    slots = np.frombuffer(reply[1:], "<u8", count=attacked.packing.scheme.slots)

    key = _coefficients(slots.tolist())
    assert sum(coefficient in (0, 1, MODULUS - 1) for coefficient in key) == 8192
