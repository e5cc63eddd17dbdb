"""Crafted ciphertexts, made of real TenSEAL bytes: none is ever loaded, and what is in range opens to nothing.

The cases: a `sizes` field beyond the slots (the library reads past its heap), no `sizes` (it crashes), duplicated
ciphertexts (it runs out of memory), another scale, and (0, round(q/t)), which decrypts to the secret key. Each is sent
as an upload, as a public key, and as a sum to be opened: as it is, and cut or filled up to the length expected.
"""

import os
import random
import struct
from dataclasses import replace

import numpy as np
import pytest
import tenseal as ts

from fedcollm_crypto.errors import CryptoError, ProtocolError, TooFewSilos
from fedcollm_crypto.homomorphic import messages, seal_format
from fedcollm_crypto.homomorphic.ciphertext_carriers import CiphertextSum
from fedcollm_crypto.homomorphic.commitments import SEND_REQUEST, Deposit
from fedcollm_crypto.homomorphic.residues import from_wire, wire_bytes
from fedcollm_crypto.masking.requests import ASK_VECTOR, Refusal
from fedcollm_crypto.signed import Signed, sign

FUZZ_CASES = int(os.environ.get("FUZZ_CASES", "2000"))
UPLOAD_BYTES = wire_bytes(2 * 8192)
CASES = ("sizes overflow", "missing sizes", "duplicated ciphertexts", "key extraction", "scale mismatch")


def field(number: int, data: bytes) -> bytes:
    size, varint = len(data), bytearray()
    while size > 0x7F:
        varint.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2, *varint, size]) + data


@pytest.fixture(scope="module")
def crafted() -> dict[str, bytes]:
    """Return the crafted messages, by what is wrong with them."""
    context = ts.context(ts.SCHEME_TYPE.CKKS, 8192, coeff_mod_bit_sizes=[60, 60], n_threads=1)
    context.global_scale = 2.0**20
    (seal,) = seal_format.vector_ciphertexts(ts.ckks_vector(context, [1.0, 2.0]).serialize())
    form, residues = seal_format.strip_ciphertext(seal)
    scaled = seal_format.wrap_ciphertext(replace(form, scale=2.0**40), residues)
    scale = b"\x19" + struct.pack("<d", 2.0**20)
    return {
        "sizes overflow": field(1, b"\xff\xff\x7f") + field(2, seal) + scale,
        "missing sizes": field(2, seal) + scale,
        "duplicated ciphertexts": field(1, b"\x02") + field(2, seal) * 3 + scale,
        "key extraction": seal_format.wrap_ciphertext(form, np.concatenate([np.zeros(8192), one()]).astype(np.uint64)),
        "scale mismatch": field(1, b"\x02") + field(2, scaled) + scale,
    }


def one(value: int = 65536) -> np.ndarray:
    """Return the constant polynomial round(q/t)."""
    polynomial = np.zeros(8192, dtype=np.uint64)
    polynomial[0] = value
    return polynomial


def fitted(data: bytes, size: int) -> bytes:
    """Return the bytes, cut or filled up to a length."""
    return (data * (1 + size // len(data)))[:size]


def as_residues(data: bytes) -> np.ndarray:
    """Return the coefficients of one ciphertext that foreign bytes of the right length stand for."""
    return from_wire(fitted(data, UPLOAD_BYTES), 1 << 60, 2 * 8192)


# --- as an upload ---


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("scheme", ["bfv", "ckks"])
def test_hostile_ciphertext_as_an_upload_drops_its_sender(tools, worker, play, crafted, scheme, case):
    consortium = tools.Encrypted(5, worker, scheme)
    server, parties = consortium.server(), consortium.parties()
    ask = play.play_to(ASK_VECTOR if scheme == "bfv" else SEND_REQUEST, server, parties, consortium.names)
    reply = b"".join(parties["silo-002"].handle(ask.requests["silo-002"]))
    server.absorb("silo-002", [b"V", crafted[case], reply[1 + UPLOAD_BYTES :]])
    result = play.finish(ask, server, parties)

    assert result.contributors == set(consortium.names) - {"silo-002"}
    assert (result.total == consortium.total(result.contributors)).all()
    assert server.dropped["silo-002"]


@pytest.mark.parametrize("case", CASES)
def test_hostile_ciphertext_that_is_in_range_opens_to_nothing_guard_range(tools, worker, play, crafted, case):
    """As long as a ciphertext is long, every coefficient below q: then the range after unmasking catches it."""
    consortium = tools.Encrypted(5, worker)
    craft = (lambda _: extraction()) if case == "key extraction" else (lambda _: as_residues(crafted[case]))
    server, parties = consortium.server(), consortium.parties()
    parties["silo-002"] = consortium.silo("silo-002", worker=play.CraftingWorker(worker=worker, craft=craft))

    with pytest.raises(ProtocolError, match="outside the range of honest sums: nothing is released"):
        play.finish(server.start(consortium.names), server, parties)


@pytest.mark.parametrize("case", CASES)
def test_hostile_ciphertext_without_masks_opens_to_nothing_either(tools, worker, play, crafted, case):
    consortium = tools.Encrypted(5, worker, "ckks")
    craft = (lambda _: extraction()) if case == "key extraction" else (lambda _: as_residues(crafted[case]))
    server, parties = consortium.server(), consortium.parties()
    parties["silo-002"] = consortium.silo("silo-002", worker=play.CraftingWorker(worker=worker, craft=craft))

    with pytest.raises(TooFewSilos):
        play.finish(server.start(consortium.names), server, parties)
    assert "nothing is released" in server.dropped["decryptor"]


def extraction() -> np.ndarray:
    """Return (0, round(q/t)), which decrypts to the secret key."""
    return np.concatenate([np.zeros(8192, dtype=np.uint64), one()])


# --- as a public key ---


@pytest.mark.parametrize("case", CASES)
def test_hostile_ciphertext_as_a_public_key_ends_the_attempt(tools, worker, play, crafted, case):
    consortium = tools.Encrypted(3, worker)
    server, parties = consortium.server(), consortium.parties()
    server.absorb("decryptor", signed_key(consortium, server.start(consortium.names), parties, crafted[case]))

    with pytest.raises(TooFewSilos, match="decryption"):
        server.step()
    assert server.dropped["decryptor"]


@pytest.mark.parametrize("case", CASES)
def test_hostile_ciphertext_in_a_keys_length_encrypts_to_nothing(tools, worker, play, crafted, case):
    consortium = tools.Encrypted(3, worker)
    server, parties = consortium.server(), consortium.parties()
    key = fitted(crafted[case], wire_bytes(4 * 8192))
    server.absorb("decryptor", signed_key(consortium, server.start(consortium.names), parties, key))
    ask = server.step()

    with pytest.raises(CryptoError, match=r"outside the range|stage manifest|decryption"):
        play.finish(ask, server, parties)


def signed_key(consortium, ask, parties, wire: bytes) -> list[bytes]:
    """Return what a decryptor says that vouches for these bytes as its key."""
    *_, message = parties["decryptor"].handle(ask.requests["decryptor"])
    signed = Signed.decode(message)
    body = {**signed.body, "key_hash": messages.key_hash(wire).hex()}
    return [b"V", wire, sign(consortium.identities["decryptor"], signed.kind, body).encode()]


# --- as a sum to be opened ---


@pytest.fixture(scope="module")
def asked(tools, worker, openings):
    """A sum that waits to be opened: what is refused leaves it so."""
    return openings.of(tools.Encrypted(3, worker))


@pytest.mark.parametrize("case", CASES)
def test_hostile_ciphertext_as_a_sum_is_refused(asked, tools, crafted, case):
    data = crafted[case]

    assert asked.refused(tools, data, sum_hash=messages.sum_hash(data).hex()) == "malformed"


@pytest.mark.parametrize("case", CASES)
def test_hostile_ciphertext_in_a_sums_length_is_no_sum(tools, worker, play, openings, crafted, case):
    waiting = openings.of(tools.Encrypted(3, worker))
    data = fitted(crafted[case], UPLOAD_BYTES)
    request = play.resigned(waiting.consortium, waiting.request, data, sum_hash=messages.sum_hash(data).hex())
    reply = b"".join(waiting.parties["decryptor"].handle(request))
    waiting.server.absorb("decryptor", [reply])

    assert reply[:1] in (b"V", b"M")  # opened to noise, or a coefficient was q or more
    with pytest.raises(TooFewSilos, match="decryption"):
        waiting.server.step()


# --- anything at all ---


def seeded(number: int) -> random.Random:
    return random.Random(number)  # noqa: S311 - cases that can be repeated, no secret


def mutated(value, generator: random.Random):
    """Return JSON with one place changed: another value, a missing or a repeated one."""
    if isinstance(value, dict) and value and generator.random() < 0.9:
        key = generator.choice(sorted(value))
        if generator.random() < 0.1:
            return {name: each for name, each in value.items() if name != key}
        return {**value, key: mutated(value[key], generator)}
    if isinstance(value, list) and value and generator.random() < 0.9:
        place = generator.randrange(len(value))
        if generator.random() < 0.1:
            return [*value, value[place]]
        return [*value[:place], mutated(value[place], generator), *value[place + 1 :]]
    return generator.choice([None, True, -1, 0, 1, 2**53 - 1, "", "x", "66" * 32, "\u2028" * 40, [], {}, [[]], {"": 0}])


def spoiled(data: bytes, generator: random.Random) -> bytes:
    """Return bytes with something wrong about them."""
    match generator.randrange(5):
        case 0:
            return data[: generator.randrange(len(data) + 1)]
        case 1:
            return data + generator.randbytes(generator.randrange(1, 40))
        case 2:
            place = generator.randrange(len(data) + 1)
            return data[:place] + generator.randbytes(1 + generator.randrange(16)) + data[place + 4 :]
        case 3:
            return generator.randbytes(generator.randrange(200))
        case _:
            return data


@pytest.mark.parametrize("scheme", ["bfv", "ckks"])
def test_hostile_ciphertext_fuzz_of_a_decryptor(tools, worker, play, scheme):
    """Whatever a server signs, the answer is a refusal; and what it asks honestly after that still works."""
    consortium = tools.Encrypted(3, worker, scheme)
    server, parties, generator = consortium.server(), consortium.parties(), seeded(1)
    kind = "he-open-request" if scheme == "bfv" else Deposit.KIND
    ask = play.play_to(kind, server, parties, consortium.names)
    request = ask.requests["decryptor"]
    message, attached = messages.detach(request)
    body, attachment = Signed.decode(message).body, bytes(attached)
    for _ in range(FUZZ_CASES * 3 // 8):
        changed = mutated(body, generator)
        if changed == body or not isinstance(changed, dict):
            continue
        signed = sign(consortium.identities["server"], kind, changed).encode()
        data = messages.attach(signed, spoiled(attachment, generator))
        assert refused(parties["decryptor"], data), changed

    assert len(play.finish(ask, server, parties).contributors) == 3


def test_hostile_ciphertext_fuzz_of_raw_requests(tools, worker, play):
    consortium = tools.Encrypted(3, worker)
    server, parties, generator = consortium.server(), consortium.parties(), seeded(2)
    ask = play.play_to("manifest", server, parties, consortium.names)
    request = ask.requests["silo-001"]
    for _ in range(FUZZ_CASES // 8):
        data = spoiled(request, generator)
        assert data == request or refused(parties["silo-001"], data) or data.startswith(request)
        assert refused(parties["decryptor"], data)

    assert len(play.finish(ask, server, parties).contributors) == 3


def test_hostile_ciphertext_fuzz_of_sums(tools, worker):
    """A running sum takes whole ciphertexts below q, and nothing else; what it refuses leaves it as it was."""
    packing, generator = tools.Encrypted(3, worker).packing, seeded(3)
    prime = (1 << 60) - (1 << 14) * 20 + 1
    total = CiphertextSum(packing, 5, prime)
    for _ in range(FUZZ_CASES // 8):
        data = spoiled(fitted(generator.randbytes(64), UPLOAD_BYTES), generator)
        before = total.to_wire()[:64]
        try:
            total.add(data)
        except ProtocolError:
            assert total.to_wire()[:64] == before
        assert total.residues().max() < prime


def refused(end, request: bytes) -> bool:
    """Say whether a request is answered with a signed refusal, or not at all."""
    try:
        reply = b"".join(end.handle(request))
    except ProtocolError:
        return True
    return reply[:1] == b"M" and Signed.decode(reply[1:]).kind == Refusal.KIND
