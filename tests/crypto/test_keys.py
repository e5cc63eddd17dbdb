import hashlib
import stat
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import Identity, signing_input, verify_signature


@pytest.mark.parametrize("password", [None, b"correct horse"])
def test_a_key_survives_its_file_and_only_its_owner_can_read_it(tmp_path: Path, password: bytes | None):
    identity = Identity.generate("silo-1")
    identity.save(tmp_path / "key.pem", password)

    assert Identity.load("silo-1", tmp_path / "key.pem", password).public_key == identity.public_key
    assert stat.S_IMODE((tmp_path / "key.pem").stat().st_mode) == 0o600
    assert (b"ENCRYPTED" in (tmp_path / "key.pem").read_bytes()) == (password is not None)


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
    assert signing_input("hello", b"{}") == b"fedcollm/v1/hello\0" + hashlib.sha256(b"{}").digest()


def test_a_private_key_is_not_printed():
    identity = Identity.generate("a")

    assert repr(identity) == "Identity(party='a')"
