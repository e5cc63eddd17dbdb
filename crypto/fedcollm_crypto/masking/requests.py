"""The requests that the server sends in a masked round, and how a silo says no.

| request (server)          | reply (silo)                       |
|---------------------------|------------------------------------|
| `manifest`                | `hello`                            |
| `ask-shares` + hellos     | `shares`, with a box for each      |
| `ask-check` + parcels     | `checked`, with complaints, if any |
| `ask-disclosure`          | `disclosure`                       |
| `ask-vector` + U2         | masked words, then `upload`        |
| `ask-consent` + uploads   | `consent`                          |
| `ask-reveal` + consents   | `reveal`                           |

or, instead of any reply, `refusal`. A request carries silos' signed messages on unchanged and adds nothing to them.
`ask-disclosure` goes to dealers about whom somebody complained, and usually to nobody.
"""

from dataclasses import dataclass
from typing import ClassVar, Protocol, Self

from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.canonical import Json
from fedcollm_crypto.derivation import HASH_BYTES
from fedcollm_crypto.fields import Fields
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.masking.dealing import Parcel
from fedcollm_crypto.signed import Signed, sign

MANIFEST = "manifest"
ASK_SHARES = "ask-shares"
ASK_CHECK = "ask-check"
ASK_DISCLOSURE = "ask-disclosure"
ASK_VECTOR = "ask-vector"
ASK_CONSENT = "ask-consent"
ASK_REVEAL = "ask-reveal"
STAGES = (MANIFEST, ASK_SHARES, ASK_CHECK, ASK_DISCLOSURE, ASK_VECTOR, ASK_CONSENT, ASK_REVEAL)
"""The kinds of request in their only order; a stage's number is its place here."""

VECTOR_FRAME = b"V"
"""First byte of a reply that starts with a vector's words; a signed upload follows them."""
DEALING_FRAME = b"D"
"""First byte of a reply that brings a dealer's boxes beside its signed root."""
MESSAGE_FRAME = b"M"
"""First byte of any other reply."""


class Message(Protocol):
    """A body that knows its kind."""

    KIND: ClassVar[str]

    def to_body(self) -> dict[str, Json]:
        """Return the body as a JSON object."""
        ...


def sign_message(identity: Identity, message: Message) -> Signed:
    """Sign a message as its kind."""
    return sign(identity, message.KIND, message.to_body())


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """A silo says no: why, to which request, and whom else it accuses (empty: nobody but the server)."""

    KIND: ClassVar[str] = "refusal"
    manifest_hash: bytes
    request_hash: bytes
    reason_code: str
    reason: str
    accused: PartyId

    def to_body(self) -> dict[str, Json]:
        """Return the body as a JSON object."""
        return {
            "accused": self.accused,
            "manifest_hash": self.manifest_hash.hex(),
            "reason": self.reason,
            "reason_code": self.reason_code,
            "request_hash": self.request_hash.hex(),
        }

    @classmethod
    def from_body(cls, body: Json) -> Self:
        """Read the body. Raises: ProtocolError."""
        fields = Fields(cls.KIND, body)
        message = cls(
            manifest_hash=fields.octets("manifest_hash", HASH_BYTES),
            request_hash=fields.octets("request_hash", HASH_BYTES),
            reason_code=fields.text("reason_code"),
            reason=fields.text("reason"),
            accused=fields.text("accused"),
        )
        fields.close()
        return message


@dataclass(frozen=True, kw_only=True)
class Relay:
    """A request after M0: silos' signed messages, carried on unchanged. Its kind says what is asked for."""

    manifest_hash: bytes
    messages: tuple[Signed, ...]

    def to_body(self) -> dict[str, Json]:
        """Return the body as a JSON object."""
        return {
            "manifest_hash": self.manifest_hash.hex(),
            "messages": [message.to_json() for message in self.messages],
        }

    @classmethod
    def from_body(cls, body: Json) -> Self:
        """Read the body. Raises: ProtocolError."""
        fields = Fields("relay", body)
        relay = cls(
            manifest_hash=fields.octets("manifest_hash", HASH_BYTES),
            messages=tuple(Signed.from_json(value) for value in fields.items("messages")),
        )
        fields.close()
        return relay


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """The request after M2: one parcel from each dealer, for one recipient."""

    manifest_hash: bytes
    parcels: tuple[Parcel, ...]

    def to_body(self) -> dict[str, Json]:
        """Return the body as a JSON object."""
        return {
            "manifest_hash": self.manifest_hash.hex(),
            "parcels": [parcel.to_body() for parcel in self.parcels],
        }

    @classmethod
    def from_body(cls, body: Json) -> Self:
        """Read the body. Raises: ProtocolError."""
        fields = Fields("delivery", body)
        delivery = cls(
            manifest_hash=fields.octets("manifest_hash", HASH_BYTES),
            parcels=tuple(Parcel.from_body(value) for value in fields.items("parcels")),
        )
        fields.close()
        return delivery


@dataclass(frozen=True, kw_only=True)
class VectorRequest:
    """The request for M3: U2, and the disclosures of those of its members whose box did not open for the recipient."""

    manifest_hash: bytes
    members: tuple[PartyId, ...]
    disclosures: tuple[Signed, ...]

    def to_body(self) -> dict[str, Json]:
        """Return the body as a JSON object."""
        return {
            "disclosures": [message.to_json() for message in self.disclosures],
            "manifest_hash": self.manifest_hash.hex(),
            "members": list(self.members),
        }

    @classmethod
    def from_body(cls, body: Json) -> Self:
        """Read the body. Raises: ProtocolError."""
        fields = Fields("vector-request", body)
        request = cls(
            manifest_hash=fields.octets("manifest_hash", HASH_BYTES),
            members=fields.sorted_names("members"),
            disclosures=tuple(Signed.from_json(value) for value in fields.items("disclosures")),
        )
        fields.close()
        return request
