"""The messages to and from the decryptor, and those between silos that commit before they send.

| request (server)                       | reply                                      |
|----------------------------------------|--------------------------------------------|
| `he-key-request`                        | decryptor: public key, then `he-key`       |
| `he-open-request` + sum of ciphertexts  | decryptor: opened slots, then `he-opened`  |
| `he-commit-request` + key               | silo: `he-commit`                          |
| `he-send-request` + commitments         | silo: sealed ciphertexts, then `he-sent`   |
| `he-deposit` + one silo's sealed upload | decryptor: `he-received`                   |

The last three are those of `trustee`, where no masks are inside. Bytes that are no JSON travel beside a message:
`attach` puts them behind it, and the message holds their hash.
"""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from fedcollm_crypto.declared import FLAT, Declared
from fedcollm_crypto.derivation import digest
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.kinds import BigWhole, Sha256
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.stages import Where
from fedcollm_crypto.sealing import X25519Public
from fedcollm_crypto.signed import Carried

KEY_LABEL = b"fedcollm/v1/he-public-key"
SUM_LABEL = b"fedcollm/v1/he-sum"
OPENED_LABEL = b"fedcollm/v1/he-opened"

LIBRARY = "tenseal 0.3"
"""Whose residues these are. Named in every key, so that another library's refuse at once and don't sum wrongly."""

KEY_COEFFICIENTS = 4
"""Polynomials of degree N in a public key: two, at two primes each."""

ATTACHED = b"A"
"""First byte of a request that brings more than one signed message; all others start with a brace."""
_LENGTH_BYTES = 8


@dataclass(frozen=True, kw_only=True)
class KeyRequest(Declared):
    """The server asks the decryptor for the fresh key of an attempt."""

    KIND: ClassVar[str] = "he-key-request"
    where: Annotated[Where, FLAT]
    parameters_hash: str


@dataclass(frozen=True, kw_only=True)
class FreshKey(Declared):
    """The decryptor vouches for a public key: for one attempt, under these parameters, made by this library.

    `box_key` is an X25519 key for what must reach the decryptor alone; `prime` is q.
    """

    KIND: ClassVar[str] = "he-key"
    where: Annotated[Where, FLAT]
    parameters_hash: str
    key_hash: Sha256
    box_key: X25519Public
    prime: Annotated[int, BigWhole(1, (1 << 60) - 1, meaning="a prime of at most 60 bits, in decimal text,")]
    library: str


@dataclass(frozen=True, kw_only=True)
class OpenRequest(Declared):
    """The server asks for one sum to be opened: the manifest, and the signed messages that justify it.

    With masks inside: M3's uploads of U3 and t consents to them, and the sum's ciphertexts beside the message.
    Without: every silo's commitment; the ciphertexts came before, one silo at a time.
    """

    KIND: ClassVar[str] = "he-open-request"
    manifest: RoundManifest
    messages: tuple[Carried, ...]
    sum_hash: Sha256


@dataclass(frozen=True, kw_only=True)
class Opened(Declared):
    """The decryptor's statement: under this manifest it opened this one sum, and this is what was in it."""

    KIND: ClassVar[str] = "he-opened"
    manifest_hash: Sha256
    sum_hash: Sha256
    opened_hash: Sha256


def key_hash(wire: bytes) -> bytes:
    """Return the hash of a public key as it travels."""
    return digest(KEY_LABEL, wire)


def sum_hash(wire: bytes | memoryview) -> bytes:
    """Return the hash of a sum of ciphertexts as it travels."""
    return digest(SUM_LABEL, bytes(wire))


def opened_hash(words: bytes) -> bytes:
    """Return the hash of what a decryptor opened."""
    return digest(OPENED_LABEL, words)


def attach(message: bytes, *attachments: bytes) -> bytes:
    """Return a message with bytes behind it."""
    return b"".join([ATTACHED, len(message).to_bytes(_LENGTH_BYTES, "big"), message, *attachments])


def detach(data: bytes) -> tuple[bytes, memoryview]:
    """Return the message and what was attached. Raises: ProtocolError."""
    start = 1 + _LENGTH_BYTES
    size = int.from_bytes(data[1:start], "big")
    if data[:1] != ATTACHED or len(data) < start + size:
        raise ProtocolError("a message with an attachment was expected")
    return data[start : start + size], memoryview(data)[start + size :]
