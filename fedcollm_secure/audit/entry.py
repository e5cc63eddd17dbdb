"""One line of the log: its body, its signature, and the chain that binds it to every line before it.

    line      = canonical JSON of {"body": {event, index, previous, time, version}, "signature"}
    signature = Ed25519 over  "fedcollm/v1/audit-entry" ‖ 0x00 ‖ SHA-256(canonical body)
    link      = SHA-256("fedcollm/v1/audit-line" ‖ 0x00 ‖ line);  the next line's `previous`, and the log's root

The first line's `previous` is 64 zeros. Another `version` may hold more in its body; a line is never rewritten.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from fedcollm_crypto.canonical import Json, decode, encode
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import signing_input, verify_signature
from fedcollm_secure.audit.events import Event, event_from_json, event_to_json

VERSION = 1
KIND = "audit-entry"
GENESIS = "0" * 64
MAX_LINE_BYTES = 1 << 20  # a cohort of thousands fits; a hostile file does not fill the memory
TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"
BODY_FIELDS = {"event", "index", "previous", "time", "version"}


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A verified line: where it stands, when it was written (the writer's clock, UTC), and what it says."""

    index: int
    time: str
    event: Event
    link: str


def write_line(event: Event, *, index: int, previous: str, time: str, signer: Ed25519PrivateKey) -> bytes:
    """Return the signed line, without its newline."""
    body: dict[str, Json] = {
        "event": event_to_json(event),
        "index": index,
        "previous": previous,
        "time": time,
        "version": VERSION,
    }
    signature = signer.sign(signing_input(KIND, encode(body)))
    return encode({"body": body, "signature": signature.hex()})


def read_line(line: bytes, *, index: int, previous: str, public_key: Ed25519PublicKey) -> Entry:
    """Verify one line against its place in the chain.

    Guarantee: what is returned was signed by the holder of `public_key` for this index and after exactly the lines
    that `previous` stands for.
    Raises: ValueError with the reason.
    """
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"the line is longer than {MAX_LINE_BYTES} bytes")
    outer = _decode(line)
    if not isinstance(outer, dict) or set(outer) != {"body", "signature"}:
        raise ValueError("a line must hold exactly body and signature")
    body = outer["body"]
    if not isinstance(body, dict) or set(body) != BODY_FIELDS:
        raise ValueError(f"a body must hold exactly {', '.join(sorted(BODY_FIELDS))}")
    _check_signature(body, outer["signature"], public_key)
    _check_place(body, index=index, previous=previous)
    return Entry(index=index, time=_time(body["time"]), event=event_from_json(body["event"]), link=link(line))


def link(line: bytes) -> str:
    """Return the hash that the next line repeats; it stands for this line and all before it."""
    return hashlib.sha256(b"fedcollm/v1/audit-line\0" + line).hexdigest()


def _decode(line: bytes) -> Json:
    try:
        return decode(line)
    except ProtocolError as error:
        raise ValueError(str(error)) from error


def _check_signature(body: dict[str, Json], signature: Json, public_key: Ed25519PublicKey) -> None:
    try:
        if not isinstance(signature, str) or len(signature) != 128 or signature != signature.lower():
            raise ValueError("a signature must be 128 lower-case hexadecimal digits")
        verify_signature(public_key, KIND, encode(body), bytes.fromhex(signature), "the log keeper")
    except ProtocolError as error:
        raise ValueError("the signature is not the log keeper's: the line was changed or re-signed") from error


def _check_place(body: dict[str, Json], *, index: int, previous: str) -> None:
    # A bool equals an int in Python, so the types are compared as well.
    if type(body["version"]) is not int or body["version"] != VERSION:
        raise ValueError(f"entry version {body['version']!r} is unknown; this program reads version {VERSION}")
    if type(body["index"]) is not int or body["index"] != index:
        raise ValueError(f"it says it is entry {body['index']!r}: a line was deleted, inserted or moved before it")
    if body["previous"] != previous:
        raise ValueError("it does not follow the line before it: a line was deleted, replaced or moved")


def _time(value: Json) -> str:
    if not isinstance(value, str) or datetime.strptime(value, TIME_FORMAT).strftime(TIME_FORMAT) != value:
        raise ValueError(f"the time must read like 2026-01-31T12:00:00Z, got {value!r}")
    return value
