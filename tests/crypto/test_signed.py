import pytest

from fedcollm_crypto import canonical
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.signed import Signed, sign

A = Identity.generate("a")


def test_a_message_survives_the_wire_and_verifies():
    message = sign(A, "hello", {"x": 1})

    received = Signed.decode(message.encode())

    received.verify(A.key.public_key())
    assert received.body == {"x": 1}


def test_a_changed_body_does_not_verify():
    data = sign(A, "hello", {"x": 1}).encode().replace(b'"x":1', b'"x":2')

    with pytest.raises(ProtocolError, match="does not verify"):
        Signed.decode(data).verify(A.key.public_key())


def test_a_changed_kind_does_not_verify():
    data = sign(A, "hello", {"x": 1}).encode().replace(b"hello", b"howdy")

    with pytest.raises(ProtocolError, match="kind howdy does not verify"):
        Signed.decode(data).verify(A.key.public_key())


@pytest.mark.parametrize(
    "change",
    [
        {"signature": "00" * 63},
        {"signature": "AA" * 64},
        {"signature": "0 " * 64},
        {"body": []},
        {"kind": 1},
        {"more": 1},
    ],
)
def test_a_malformed_message_is_refused(change: dict[str, object]):
    value = sign(A, "hello", {"x": 1}).to_json() | change  # type: ignore[operator]

    with pytest.raises(ProtocolError):
        Signed.decode(canonical.encode(value))
