import hashlib
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import (
    HYBRID_DOMAIN,
    HYBRID_SIGNATURE_BYTES,
    Identity,
    signing_input,
    verification_key,
    verify_signature,
)


@pytest.mark.parametrize("password", [None, b"correct horse"])
def test_a_key_survives_its_file_and_only_its_owner_can_read_it(tmp_path: Path, password: bytes | None):
    identity = Identity.generate("silo-1")
    identity.save(tmp_path / "key.pem", password)

    assert Identity.load("silo-1", tmp_path / "key.pem", password).public_key == identity.public_key
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
    assert (b"ENCRYPTED" in (tmp_path / "key.pem").read_bytes()) == (password is not None)


@pytest.mark.parametrize("password", [None, b"correct horse"])
@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_both_keys_of_a_hybrid_identity_survive_their_file(tmp_path: Path, password: bytes | None, newline: bytes):
    identity = Identity.generate("silo-1", post_quantum=True)
    identity.save(tmp_path / "key.pem", password)
    (tmp_path / "copy.pem").write_bytes((tmp_path / "key.pem").read_bytes().replace(b"\n", newline))

    assert Identity.load("silo-1", tmp_path / "copy.pem", password).public_keys == identity.public_keys
    assert [len(key) for key in identity.public_keys] == [32, 1312]


def test_two_keys_of_one_kind_or_in_another_order_are_refused(tmp_path: Path):
    for party, hybrid in (("a", True), ("b", False)):
        Identity.generate(party, post_quantum=hybrid).save(tmp_path / party)
    ed25519, mldsa44 = (tmp_path / "a").read_bytes()[:119], (tmp_path / "a").read_bytes()[119:]
    for number, blocks in enumerate([ed25519 * 2, mldsa44 + ed25519, mldsa44, ed25519 + mldsa44 * 2]):
        (tmp_path / str(number)).write_bytes(blocks)

        with pytest.raises(ValueError, match="an Ed25519 private key was expected"):
            Identity.load("a", tmp_path / str(number))


def test_a_key_file_is_never_overwritten(tmp_path: Path):
    Identity.generate("a").save(tmp_path / "key.pem")

    with pytest.raises(FileExistsError):
        Identity.generate("b").save(tmp_path / "key.pem")


@pytest.mark.parametrize(("saved", "given"), [(b"right", b"wrong"), (b"right", None), (None, b"needless")])
def test_a_wrong_password_is_refused(tmp_path: Path, saved: bytes | None, given: bytes | None):
    Identity.generate("a").save(tmp_path / "key.pem", saved)

    with pytest.raises(ValueError, match="password"):
        Identity.load("a", tmp_path / "key.pem", given)


def test_a_key_of_another_kind_is_refused(tmp_path: Path):
    pem = X25519PrivateKey.generate().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (tmp_path / "key.pem").write_bytes(pem)

    with pytest.raises(ValueError, match="an Ed25519 private key was expected"):
        Identity.load("a", tmp_path / "key.pem")


def test_a_signature_speaks_for_one_kind_of_message_and_one_body():
    identity = Identity.generate("a")
    key = Ed25519PublicKey.from_public_bytes(identity.public_key)
    signature = identity.sign("consent", b"{}")

    verify_signature(key, "consent", b"{}", signature, "a")
    for kind, body in (("hello", b"{}"), ("consent", b"[]")):
        with pytest.raises(ProtocolError, match=f"signature of a under a message of kind {kind} does not verify"):
            verify_signature(key, kind, body, signature, "a")


def test_what_is_signed_is_as_specified():
    hashed = hashlib.sha256(b"{}").digest()

    assert signing_input("hello", b"{}") == b"fedcollm/v1/hello\0" + hashed
    assert signing_input("hello", b"{}", HYBRID_DOMAIN) == b"fedcollm/v1+mldsa44/hello\0" + hashed


def test_a_hybrid_signature_counts_only_whole():
    identity, other = Identity.generate("a", post_quantum=True), Identity.generate("b", post_quantum=True)
    key = verification_key(*identity.public_keys)
    whole, foreign = identity.sign("hello", b"{}"), other.sign("hello", b"{}")
    bad = {
        "Ed25519 alone": whole[:64],
        "ML-DSA-44 alone": whole[64:],
        "Ed25519 with a foreign ML-DSA-44": whole[:64] + foreign[64:],
        "a foreign Ed25519 with ML-DSA-44": foreign[:64] + whole[64:],
        "ML-DSA-44 first": whole[64:] + whole[:64],
        "a classical signature": Identity(party="a", key=identity.key).sign("hello", b"{}"),
        "a byte too many": whole + b"\0",
        "nothing": b"",
    }

    verify_signature(key, "hello", b"{}", whole, "a")
    assert len(whole) == HYBRID_SIGNATURE_BYTES
    for signature in bad.values():
        with pytest.raises(ProtocolError, match="the signature of a under a message of kind hello does not verify"):
            verify_signature(key, "hello", b"{}", signature, "a")


def test_no_half_of_a_hybrid_signature_passes_for_a_classical_one():
    identity = Identity.generate("a", post_quantum=True)

    with pytest.raises(ProtocolError, match="does not verify"):
        verify_signature(verification_key(identity.public_key), "hello", b"{}", identity.sign("hello", b"{}")[:64], "a")


def test_a_private_key_is_not_printed():
    for post_quantum in (False, True):
        assert repr(Identity.generate("a", post_quantum=post_quantum)) == "Identity(party='a')"
