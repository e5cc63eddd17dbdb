"""Known answers, replayed; where it can be done in a few lines, by a second derivation."""

import hashlib
import hmac
import importlib.util
import json
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from fedcollm_crypto import canonical, shamir
from fedcollm_crypto.errors import ProtocolError

FOLDER = Path(__file__).parent.parent / "vectors"
SPEC = importlib.util.spec_from_file_location("make_vectors", FOLDER / "make_vectors.py")
assert SPEC is not None
assert SPEC.loader is not None
make_vectors = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(make_vectors)


def load(name: str):
    return json.loads((FOLDER / name).read_text())


@pytest.mark.parametrize("name", sorted(make_vectors.FILES))
def test_vectors_are_those_that_the_code_makes_today(name: str):
    assert make_vectors.render(make_vectors.FILES[name]()) == (FOLDER / name).read_text()


@pytest.mark.parametrize("case", load("stream.json")["cases"], ids=lambda c: c["key"][:4])
def test_stream_vectors_are_aes_of_a_counter(case):
    aes = Cipher(algorithms.AES(bytes.fromhex(case["key"])), modes.ECB()).encryptor()  # noqa: S305 - CTR spelled out
    stream = aes.update(b"".join(i.to_bytes(16, "big") for i in range(500)))

    assert stream[:16].hex() == case["first_16_bytes"]
    assert hashlib.sha256(stream).hexdigest() == case["sha256_of_8000_bytes"]


@pytest.mark.parametrize("case", load("shamir.json")["cases"], ids=lambda c: str(c["threshold"]))
def test_shamir_vectors_lie_on_their_polynomial(case):
    draw, prime = make_vectors.fixed(case["coefficients_from"]), 2**521 - 1
    drawn = [int.from_bytes(draw(66), "big") & prime for _ in range(case["threshold"] - 1)]
    polynomial = [int(case["secret"], 16), *drawn]

    for point, share in case["shares"].items():
        assert int(share, 16) == sum(a * int(point) ** k for k, a in enumerate(polynomial)) % prime
    shares = {int(p): bytes.fromhex(s) for p, s in case["shares"].items()}
    assert shamir.combine(shares, case["threshold"]).hex() == case["secret"]


@pytest.mark.parametrize("case", load("shamir_bad_shares.json")["cases"], ids=lambda c: c["name"])
def test_shamir_bad_vectors_are_refused(case):
    with pytest.raises(ProtocolError, match=case["reason"]):
        shamir.combine({int(p): bytes.fromhex(s) for p, s in case["shares"].items()}, case["threshold"])


def packed(label: str, *parts: bytes) -> bytes:
    return label.encode() + b"\0" + b"".join(len(p).to_bytes(4, "big") + p for p in parts)


def hkdf(secret: bytes, salt: bytes, info: bytes) -> bytes:
    """RFC 5869 with SHA-256, one block."""
    extracted = hmac.digest(salt, secret, "sha256")
    return hmac.digest(extracted, info + b"\x01", "sha256")


def test_derivation_vectors_follow_from_hmac_and_sha_256():
    v = load("derivation.json")
    secret, t1, manifest = (bytes.fromhex(v[k]) for k in ("secret", "transcript", "manifest_hash"))
    share = secret + secret + b"\x11\x11"

    def sha(*args) -> str:
        return hashlib.sha256(packed(*args)).hexdigest()

    masks = {
        "pair_mask_key_silo-1_silo-2": packed("fedcollm/v1/mask", manifest, b"silo-1", b"silo-2"),
        "self_mask_key_silo-1": packed("fedcollm/v1/self-mask", manifest, b"silo-1"),
        "box_key_silo-1_to_silo-2": packed("fedcollm/v1/share-box", b"silo-1", b"silo-2"),
        "box_key_silo-2_to_silo-1": packed("fedcollm/v1/share-box", b"silo-2", b"silo-1"),
    }
    assert {name: v[name] for name in masks} == {name: hkdf(secret, t1, info).hex() for name, info in masks.items()}
    assert v["seed_commitment"] == sha("fedcollm/v1/seed-commitment", secret)
    assert v["seed_share_commitment"] == sha("fedcollm/v1/seed-share-commitment", share)
    assert v["key_share_commitment"] == sha("fedcollm/v1/key-share-commitment", share)
    assert v["cohort_hash_a_b"] == sha("fedcollm/v1/cohort", b"a", b"b")
    assert v["survivors_hash"] == sha("fedcollm/v1/survivors", b"a", t1, b"b", secret)
    assert v["labelled_a_bc"] == packed("label", b"a", b"bc").hex()


@pytest.mark.parametrize("case", load("fixedpoint.json")["cases"], ids=lambda c: f"{c['ring_bits']}-{c['weight']}")
def test_fixedpoint_vectors_follow_from_exact_fractions(case):
    levels, clip, weight = 2 ** (case["bits"] - 1) - 1, Fraction(case["clip"]), case["weight"]
    values = [max(-clip, min(clip, Fraction(float.fromhex(x)))) for x in case["update"]]

    by_hand = [round(x * levels / clip) * weight % 2 ** case["ring_bits"] for x in values]

    assert [int(x) for x in case["encoded"]] == [*by_hand, weight, 1]


@pytest.mark.parametrize("case", load("canonical.json")["cases"], ids=lambda c: c["canonical"][:12])
def test_canonical_vectors_are_read_and_spelt_back(case):
    data = bytes.fromhex(case["canonical"])

    assert canonical.decode(data) == case["value"]
    assert canonical.encode(case["value"]) == data


@pytest.mark.parametrize("case", load("canonical_bad_spelling.json")["cases"], ids=lambda c: c["bytes"][:12])
def test_canonical_bad_vectors_are_refused(case):
    with pytest.raises(ProtocolError, match=case["reason"]):
        canonical.decode(bytes.fromhex(case["bytes"]))


@pytest.mark.parametrize("name", ["masking.json", "masking_dispute.json"])
def test_masking_vectors_replay_byte_for_byte(name: str):
    vectors, setting = load(name), make_vectors.Setting()
    junk = vectors.get("box_of_zeros", {})
    silos = {name: setting.silo(name) for name in setting.names}

    for stage, messages in enumerate(vectors["rounds"]):
        for party, message in messages.items():
            reply = b"".join(silos[party].handle(bytes.fromhex(message["request"])))
            if (stage, party) == (1, junk.get("dealer")):
                reply = setting.with_junk(reply, junk["recipient"])
            assert reply.hex() == message["reply"]


def test_the_dispute_vectors_hold_a_complaint_its_disclosure_and_the_whole_sum():
    vectors = load("masking_dispute.json")
    checked = [bytes.fromhex(vectors["rounds"][2][f"silo-{i}"]["reply"]) for i in range(1, 6)]

    assert [json.loads(reply[1:])["body"]["complaints"] for reply in checked] == [["silo-5"], [], [], [], []]
    assert list(vectors["rounds"][3]) == ["silo-5"]
    assert vectors["total"] == [15 * i for i in range(4)]


def test_masking_vectors_hold_the_sum_of_the_survivors():
    vectors = load("masking.json")
    survivors = [np.array(v) for n, v in vectors["vectors"].items() if n != vectors["lost_before_vectors"]]

    assert vectors["total"] == np.sum(survivors, axis=0).tolist()


@pytest.mark.parametrize("of", ["", "_of_a_dispute"])
def test_masking_bad_vectors_are_refused_at_their_step(of: str, tools):
    vectors = load("masking_bad_requests.json")

    for case in vectors[f"cases{of}"]:
        silo = make_vectors.Setting().silo("silo-1")
        for request in vectors[f"good_requests{of}"][: case["after_good_requests"]]:
            b"".join(silo.handle(bytes.fromhex(request)))
        assert tools.refusal_code(silo.handle(bytes.fromhex(case["request"]))) == case["reason_code"], case["name"]
