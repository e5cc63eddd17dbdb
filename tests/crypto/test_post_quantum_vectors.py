"""Known answers of the post-quantum profile: where the library draws randomness itself, only one direction is fixed."""

import hashlib
import hmac
import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

from fedcollm_crypto import canonical, hpke
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import Identity, verification_key, verify_signature

FOLDER = Path(__file__).parent.parent / "vectors"
SPEC = importlib.util.spec_from_file_location("make_post_quantum", FOLDER / "make_post_quantum.py")
assert SPEC is not None
assert SPEC.loader is not None
make_post_quantum = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(make_post_quantum)
make_vectors = make_post_quantum.make_vectors


def load(name: str):
    return json.loads((FOLDER / name).read_text())


@pytest.mark.parametrize("name", sorted(make_post_quantum.FILES))
def test_vectors_are_those_that_the_code_makes_today(name: str):
    assert make_vectors.render(make_post_quantum.FILES[name]()) == (FOLDER / name).read_text()


def packed(label: str, *parts: bytes) -> bytes:
    return label.encode() + b"\0" + b"".join(len(p).to_bytes(4, "big") + p for p in parts)


def hkdf(secret: bytes, salt: bytes, info: bytes, blocks: int = 1) -> bytes:
    """RFC 5869 with SHA-256."""
    extracted, block, output = hmac.digest(salt, secret, "sha256"), b"", b""
    for number in range(1, blocks + 1):
        block = hmac.digest(extracted, block + info + bytes([number]), "sha256")
        output += block
    return output


def test_derivation_vectors_follow_from_hmac_and_sha_256():
    v = load("post_quantum_derivation.json")
    master, t1, manifest, shared = (bytes.fromhex(v[k]) for k in ("master", "transcript", "manifest_hash", "shared"))
    pair = manifest, b"silo-1", b"silo-2"
    scalar = hkdf(master, manifest, packed("fedcollm/v1/pq-master-x25519", b"silo-1"))
    seed = hkdf(master, manifest, packed("fedcollm/v1/pq-master-mlkem768", b"silo-1"), blocks=2)
    secret = hkdf(master, t1, packed("fedcollm/v1/pq-mask-secret", *pair))
    public = X25519PrivateKey.from_private_bytes(scalar).public_key().public_bytes_raw()

    assert (v["x25519_private_silo-1"], v["mlkem768_seed_silo-1"]) == (scalar.hex(), seed.hex())
    assert v["x25519_public_silo-1"] == public.hex()
    assert v["mlkem768_public_silo-1"] == MLKEM768PrivateKey.from_seed_bytes(seed).public_key().public_bytes_raw().hex()
    assert v["mask_secret_silo-1_to_silo-2"] == secret.hex()
    assert v["mask_secret_commitment"] == (
        hashlib.sha256(packed("fedcollm/v1/pq-mask-secret-commitment", secret)).hexdigest()
    )
    assert v["pair_mask_key_silo-1_silo-2"] == hkdf(shared + secret, t1, packed("fedcollm/v1/pq-mask", *pair)).hex()


def opened(kind: str, box: str) -> bytes:
    v = load("post_quantum_boxes.json")
    kem = MLKEM768PrivateKey.from_seed_bytes(bytes.fromhex(v["mlkem768_seed"]))
    context = bytes.fromhex(v["context"])
    if kind == "mlkem768_box":
        return hpke.open_kem(kem, bytes.fromhex(box), context)
    x25519 = X25519PrivateKey.from_private_bytes(bytes.fromhex(v["x25519_private"]))
    return hpke.open_hybrid((kem, x25519), bytes.fromhex(box), context)


@pytest.mark.parametrize("kind", ["mlkem768_box", "hybrid_box"])
def test_box_vectors_open(kind: str):
    v = load("post_quantum_boxes.json")

    assert opened(kind, v[kind]).hex() == v["plaintext"]


@pytest.mark.parametrize("case", load("post_quantum_bad_boxes.json")["cases"], ids=lambda c: c["name"])
def test_box_bad_vectors_are_refused(case):
    with pytest.raises(ProtocolError, match=load("post_quantum_bad_boxes.json")["reason"]):
        opened(case["kind"], case["box"])


def verify(signature: str) -> None:
    v = load("post_quantum_signatures.json")
    key = verification_key(bytes.fromhex(v["ed25519"]), bytes.fromhex(v["mldsa44"]))
    verify_signature(key, v["kind"], v["body"].encode(), bytes.fromhex(signature), "silo-1")


def test_signature_vectors_verify_and_their_keys_follow_from_their_seeds():
    v = load("post_quantum_signatures.json")
    identity = Identity.generate("silo-1", make_vectors.fixed(v["identity"]), post_quantum=True)

    verify(v["signature"])
    assert [key.hex() for key in identity.public_keys] == [v["ed25519"], v["mldsa44"]]


@pytest.mark.parametrize("case", load("post_quantum_bad_signatures.json")["cases"], ids=lambda c: c["name"])
def test_signature_bad_vectors_are_refused(case):
    with pytest.raises(ProtocolError, match=load("post_quantum_bad_signatures.json")["reason"]):
        verify(case["signature"])


def test_round_vectors_replay_but_for_boxes_and_signatures():
    """Masks are made from the boxes that others sealed once: those words are fixed to the last bit."""
    v, setting = load("post_quantum_round.json"), make_vectors.Setting(4, post_quantum=True)
    silo = setting.silo("silo-2")

    for request, reply in zip(v["requests"], v["replies"], strict=True):
        assert make_post_quantum.fixed_part(b"".join(silo.handle(canonical.encode(request)))) == reply
    survivors = [setting.vectors[name] for name in ("silo-2", "silo-3", "silo-4")]
    assert v["total"] == np.sum(survivors, axis=0).tolist()
    assert set(v["replies"][5]["body"]["key_shares"]) == {"silo-1"}


@pytest.mark.parametrize("case", load("post_quantum_bad_requests.json")["cases"], ids=lambda c: c["name"])
def test_round_bad_vectors_are_refused_at_their_step(case, tools):
    silo = make_vectors.Setting(4, post_quantum=True).silo("silo-2")
    for request in load("post_quantum_round.json")["requests"][: case["after_good_requests"]]:
        b"".join(silo.handle(canonical.encode(request)))

    assert tools.refusal_code(silo.handle(canonical.encode(case["request"]))) == case["reason_code"]
