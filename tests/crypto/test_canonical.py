import contextlib

import pytest
import rfc8785
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcollm_crypto.canonical import decode, encode
from fedcollm_crypto.errors import ProtocolError

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)


@settings(max_examples=300)
@given(VALUES)
def test_every_value_survives_in_the_spelling_of_the_reference_package(value: object):
    data = encode(value)  # type: ignore[arg-type]

    assert data == rfc8785.dumps(value)  # type: ignore[arg-type]
    assert decode(data) == value


@settings(max_examples=300)
@given(VALUES, st.integers(0, 10**6), st.integers(1, 255))
def test_no_changed_byte_gives_a_second_spelling(value: object, where: int, change: int):
    data = bytearray(encode(value))  # type: ignore[arg-type]
    data[where % len(data)] ^= change

    try:
        changed = decode(bytes(data))
    except ProtocolError:
        return
    assert encode(changed) == bytes(data)


@settings(max_examples=500)
@given(st.binary(max_size=60))
def test_any_bytes_are_decoded_or_refused(data: bytes):
    with contextlib.suppress(ProtocolError):
        assert encode(decode(data)) == data


@pytest.mark.parametrize(
    "data",
    [
        b'{"a":1,"a":1}',  # duplicate key
        b'{"b":1,"a":2}',  # order of keys
        b'{"a": 1}',  # blank
        b'{"a":1}\n',  # trailing bytes
        b'{"a":1}{}',
        b"1.0",  # float
        b"1e3",
        b"NaN",
        b"-Infinity",
        b"-0",
        b"9007199254740992",  # 2^53
        b'"\\u0061"',  # an escape that is not needed
        b'"\\ud800"',  # lone surrogate
        b'"\xff"',  # not UTF-8
        b"[" * 100_000,  # depth
        b"9" * 5000,
        b"",
    ],
)
def test_a_foreign_spelling_is_refused(data: bytes):
    with pytest.raises(ProtocolError, match="not canonical JSON"):
        decode(data)


@pytest.mark.parametrize(
    ("value", "message"),
    [(1.5, "float.hex"), ([{"a": float("nan")}], "float.hex"), (b"x", "bytes"), ({1: 2}, "keys are text")],
)
def test_what_is_not_json_of_ours_is_not_encoded(value: object, message: str):
    with pytest.raises(TypeError, match=message):
        encode(value)  # type: ignore[arg-type]


def test_what_nobody_would_read_is_not_encoded():
    value: object = 0
    for _ in range(16):
        value = [value]

    assert decode(encode(value)) == value  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at most 16"):
        encode({"a": value})  # type: ignore[dict-item]


def test_integers_that_other_readers_would_round_are_not_encoded():
    with pytest.raises(ValueError, match=r"beyond 2\^53"):
        encode([2**53])


def test_a_key_that_stands_twice_among_very_many_is_found_in_one_pass():
    many = ",".join(f'"{number:06d}":1' for number in range(60_000))

    with pytest.raises(ProtocolError, match="'000007' stands there twice"):
        decode(f'{{{many},"000007":1}}'.encode())
