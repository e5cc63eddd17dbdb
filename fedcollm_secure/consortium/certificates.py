"""A party's certificate for its connections: one key of its own, made where it lives, and signed by nobody else.

The roster holds every member's certificate, so that the members who sign it sign who may connect. Another key of a
member is the next epoch's. A certificate's key moves bytes; it signs no message of a round.
"""

import datetime as dt
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.x509.oid import NameOID

from fedcollm_crypto import durable

YEARS = 5


def make_certificate(party: str, key_file: Path, certificate_file: Path, password: bytes | None) -> None:
    """Draw a key and write it, encrypted where there is a password, and a certificate in the party's name.

    Raises: FileExistsError rather than overwrite a key.
    """
    key, now = Ed25519PrivateKey.generate(), dt.datetime.now(dt.UTC)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, party)])
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - dt.timedelta(days=1))  # clocks differ
        .not_valid_after(now + dt.timedelta(days=365 * YEARS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, None)
    )
    encryption = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption)
    durable.write_new(key_file, pem, private=True)
    durable.write_new(certificate_file, certificate.public_bytes(serialization.Encoding.PEM))


def is_certificate_of(text: str, party: str) -> bool:
    """Say whether a text is one certificate in PEM whose name is the party's, and which its own key signed."""
    try:
        (certificate,) = x509.load_pem_x509_certificates(text.encode())
        certificate.verify_directly_issued_by(certificate)
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return [name.value for name in names] == [party]


def to_der(text: str) -> bytes:
    """Return a certificate's bytes as a connection shows them."""
    return x509.load_pem_x509_certificate(text.encode()).public_bytes(serialization.Encoding.DER)


def expires(text: str) -> dt.datetime:
    """Return until when a certificate holds."""
    return x509.load_pem_x509_certificate(text.encode()).not_valid_after_utc
