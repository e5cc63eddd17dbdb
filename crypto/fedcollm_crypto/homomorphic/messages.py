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
from typing import ClassVar, Self

from fedcollm_crypto.canonical import Json
from fedcollm_crypto.derivation import HASH_BYTES, digest
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.fields import Fields
from fedcollm_crypto.keys import PUBLIC_KEY_BYTES
from fedcollm_crypto.masking.manifest import RoundManifest
from fedcollm_crypto.masking.stages import Where
from fedcollm_crypto.sealing import x25519_key
from fedcollm_crypto.signed import Signed

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
class KeyRequest:
    """The server asks the decryptor for the fresh key of an attempt."""

    KIND: ClassVar[str] = "he-key-request"
    where: Where
    parameters_hash: str

    def to_body(self) -> dict[str, Json]:
        """Return the body as a JSON object."""
        return self.where.to_body() | {"parameters_hash": self.parameters_hash}

    @classmethod
    def from_body(cls, body: Json) -> Self:
        """Read the body. Raises: ProtocolError."""
        fields = Fields(cls.KIND, body)
        message = cls(where=Where.take(fields), parameters_hash=fields.text("parameters_hash"))
        fields.close()
        return message


@dataclass(frozen=True, kw_only=True)
class FreshKey:
    """The decryptor vouches for a public key: for one attempt, under these parameters, made by this library.

    `box_key` is an X25519 key for what must reach the decryptor alone; `prime` is q.
    """

    KIND: ClassVar[str] = "he-key"
    where: Where
    parameters_hash: str
    key_hash: bytes
    box_key: bytes
    prime: int
    library: str

    def to_body(self) -> dict[str, Json]:
        """Return the body as a JSON object; q as text, since JSON's integers end at 2^53."""
        return self.where.to_body() | {
            "box_key": self.box_key.hex(),
            "key_hash": self.key_hash.hex(),
            "library": self.library,
            "parameters_hash": self.parameters_hash,
            "prime": str(self.prime),
        }

    @classmethod
    def from_body(cls, body: Json) -> Self:
        """Read the body. Raises: ProtocolError."""
        fields = Fields(cls.KIND, body)
        prime = fields.text("prime")
        if not (prime.isascii() and prime.isdecimal() and 0 < int(prime) < 1 << 60):
            raise ProtocolError(f"{cls.KIND}.prime: a prime of at most 60 bits was expected")
        message = cls(
            where=Where.take(fields),
            parameters_hash=fields.text("parameters_hash"),
            key_hash=fields.octets("key_hash", HASH_BYTES),
            box_key=fields.octets("box_key", PUBLIC_KEY_BYTES),
            prime=int(prime),
            library=fields.text("library"),
        )
        fields.close()
        x25519_key(message.box_key, "the decryptor")
        return message


@dataclass(frozen=True, kw_only=True)
class OpenRequest:
    """The server asks for one sum to be opened: the manifest, and the signed messages that justify it.

    With masks inside: M3's uploads of U3 and t consents to them, and the sum's ciphertexts beside the message.
    Without: every silo's commitment; the ciphertexts came before, one silo at a time.
    """

    KIND: ClassVar[str] = "he-open-request"
    manifest: RoundManifest
    messages: tuple[Signed, ...]
    sum_hash: bytes

    def to_body(self) -> dict[str, Json]:
        """Return the body as a JSON object."""
        return {
            "manifest": self.manifest.to_body(),
            "messages": [message.to_json() for message in self.messages],
            "sum_hash": self.sum_hash.hex(),
        }

    @classmethod
    def from_body(cls, body: Json) -> Self:
        """Read the body. Raises: ProtocolError."""
        fields = Fields(cls.KIND, body)
        message = cls(
            manifest=RoundManifest.from_body(fields.members("manifest")),
            messages=tuple(Signed.from_json(value) for value in fields.items("messages")),
            sum_hash=fields.octets("sum_hash", HASH_BYTES),
        )
        fields.close()
        return message


@dataclass(frozen=True, kw_only=True)
class Opened:
    """The decryptor's statement: under this manifest it opened this one sum, and this is what was in it."""

    KIND: ClassVar[str] = "he-opened"
    manifest_hash: bytes
    sum_hash: bytes
    opened_hash: bytes

    def to_body(self) -> dict[str, Json]:
        """Return the body as a JSON object."""
        return {
            "manifest_hash": self.manifest_hash.hex(),
            "opened_hash": self.opened_hash.hex(),
            "sum_hash": self.sum_hash.hex(),
        }

    @classmethod
    def from_body(cls, body: Json) -> Self:
        """Read the body. Raises: ProtocolError."""
        fields = Fields(cls.KIND, body)
        message = cls(
            manifest_hash=fields.octets("manifest_hash", HASH_BYTES),
            sum_hash=fields.octets("sum_hash", HASH_BYTES),
            opened_hash=fields.octets("opened_hash", HASH_BYTES),
        )
        fields.close()
        return message


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
