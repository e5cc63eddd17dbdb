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
from typing import Annotated, ClassVar, Protocol, TypeAlias

from fedcollm_crypto.aggregation import PartyId
from fedcollm_crypto.canonical import Json
from fedcollm_crypto.declared import Declared, Listed
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.kinds import Sha256
from fedcollm_crypto.masking.dealing import Parcel
from fedcollm_crypto.signed import Carried, Signed, sign

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
class Refusal(Declared):
    """A silo says no: why, to which request, and whom else it accuses (empty: nobody but the server)."""

    KIND: ClassVar[str] = "refusal"
    manifest_hash: Sha256
    request_hash: Sha256
    reason_code: str
    reason: str
    accused: PartyId


@dataclass(frozen=True, kw_only=True)
class Relay(Declared):
    """A request after M0: silos' signed messages, carried on unchanged. Its kind says what is asked for."""

    manifest_hash: Sha256
    messages: tuple[Carried, ...]


@dataclass(frozen=True, kw_only=True)
class Delivery(Declared):
    """The request after M2: one parcel from each dealer, for one recipient."""

    manifest_hash: Sha256
    parcels: tuple[Parcel, ...]


@dataclass(frozen=True, kw_only=True)
class VectorRequest(Declared):
    """The request for M3: U2, and the disclosures of those of its members whose box did not open for the recipient."""

    manifest_hash: Sha256
    members: Annotated[tuple[PartyId, ...], Listed(ascending=True)]
    disclosures: tuple[Carried, ...]


Body: TypeAlias = Relay | Delivery | VectorRequest


def read_body(request: Signed) -> Body:
    """Read the body of a request after M0. Raises: ProtocolError."""
    if request.kind == ASK_CHECK:
        return Delivery.from_body(request.body)
    if request.kind == ASK_VECTOR:
        return VectorRequest.from_body(request.body)
    return Relay.from_body(request.body)
