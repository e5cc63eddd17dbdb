"""Requests and replies: what is written is what is read, and nothing else is read at all."""

from collections.abc import Iterator
from dataclasses import fields

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fedcollm_crypto.errors import ProtocolError
from fedcollm_secure.audit_log.witness import View
from fedcollm_secure.federation.messages import Begin, Close, Show, Step, decode, encode
from fedcollm_secure.federation.replies import (
    LARGEST_NOTE,
    Closed,
    Cosigned,
    Declined,
    Greeting,
    Refusal,
    declined_reply,
    greeting_reply,
    note_reply,
    payload_reply,
    read_reply,
)

VIEW = View(note="log\n1\nroot\n\n— log AAAA\n", old=0, proof=(bytes(32),))
BEGIN = Begin(
    view=VIEW,
    reference=np.array([0.25], dtype=np.float32),
    adapter=np.array([0.5, -1.0, 2.0], dtype=np.float32),
    payload=b"first",
    proofs=(b"one", b"", b"two"),
)


def test_begin_is_read_back() -> None:
    found = decode(encode(BEGIN))

    assert isinstance(found, Begin)
    assert (found.adapter.tolist(), found.payload, found.proofs) == ([0.5, -1.0, 2.0], b"first", (b"one", b"", b"two"))
    assert (found.view, found.reference.tolist()) == (VIEW, [0.25])


@pytest.mark.parametrize(
    "request_",
    [
        Step(payload=b"abc"),
        Step(payload=b""),
        Close(session="s", round=2, adapter="ab" * 32),
        Show(view=VIEW),
        Show(view=None),
    ],
)
def test_other_requests_are_read_back(request_: Step | Close | Show) -> None:
    assert decode(encode(request_)) == request_


@pytest.mark.parametrize(
    ("number", "adapter", "message"),
    [(-1, "ab" * 32, "close.round"), (True, "ab" * 32, "close.round"), (1, "not a digest", "close.adapter")],
)
def test_a_close_that_no_journal_could_keep_is_refused(number: int, adapter: str, message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        decode(encode(Close(session="s", round=number, adapter=adapter)))


@given(cut=st.integers(0, len(encode(BEGIN)) - len(b"first") - 1))
def test_a_begin_that_is_cut_off_is_refused(cut: int) -> None:
    with pytest.raises(ProtocolError):
        decode(encode(BEGIN)[:cut])


@given(data=st.binary(max_size=200))
def test_foreign_bytes_never_pass(data: bytes) -> None:
    with pytest.raises(ProtocolError):
        decode(data)


@given(data=st.binary(max_size=60), at=st.integers(0, 400))
def test_bytes_written_over_a_begin_pass_only_as_a_valid_request(data: bytes, at: int) -> None:
    message = bytearray(encode(BEGIN))
    message[at : at + len(data)] = data
    try:
        decode(bytes(message))
    except ProtocolError as error:
        assert "Traceback" not in str(error)


def test_begin_carries_no_manifest_of_its_own() -> None:
    """One manifest, the one that the server signed inside the payload: a second one could differ from it."""
    assert "manifest" not in {field.name for field in fields(Begin)}


def test_a_signed_refusal_stands_in_for_a_greeting() -> None:
    assert read_reply(declined_reply(b"Msigned")) == Declined(refusal=b"Msigned")


def test_payload_replies_stream_through() -> None:
    reply = read_reply(payload_reply([b"one", b"", b"two"]))

    assert isinstance(reply, Iterator)
    assert b"".join(reply) == b"onetwo"


@given(size=st.integers(1, 40))
def test_a_greeting_streams_through_behind_its_cosignature_however_it_is_cut(size: int) -> None:
    whole = b"".join(greeting_reply("— nörd AAAA\n", [b"one", b"two"]))
    reply = read_reply([whole[start : start + size] for start in range(0, len(whole), size)])

    assert isinstance(reply, Greeting)
    assert (reply.lines, b"".join(reply.chunks)) == ("— nörd AAAA\n", b"onetwo")


@pytest.mark.parametrize(
    "note",
    [
        Refusal(reason_code="budget_exhausted", reason="no"),
        Closed(ledger="ab" * 32, epsilon="1.5"),
        Closed(ledger="", epsilon=""),
        Cosigned(lines="— north AAAA\n" * 2, size=7, heard=5),
    ],
)
def test_notes_are_read_back(note: Refusal | Closed | Cosigned) -> None:
    assert read_reply(note_reply(note)) == note


@pytest.mark.parametrize(
    ("reply", "message"),
    [
        ([], "expected a payload"),
        ([b"\x09x"], "expected a payload"),
        ([b"\x02", b"{}"], "refusal: the field reason_code is missing"),
        ([b"\x02", b'{"reason":"no","reason_code":3}'], "refusal.reason_code"),
        ([b"\x03", b'{"epsilon":"1.5","ledger":"not a head"}'], "closed.ledger"),
        ([b"\x03", b'{"epsilon":"1e9","ledger":""}'], "closed.epsilon"),
        ([b"\x03", b'{"epsilon":"","ledger":"","x":""}'], "closed: unknown fields"),
        ([b"\x02", b"[]"], "refusal: an object was expected"),
        ([b"\x02", b"not json"], "."),
        ([b"\x04", b'{"lines":"","size":-1}'], "cosigned.size"),
        ([b"\x04", b'{"heard":8,"lines":"","size":7}'], "cosigned: heard"),
        ([b"\x05", b"\x01\x00"], "cut off inside the cosignature"),
        ([b"\x05\x01\x00\x00\x00\xff"], "in UTF-8"),
        ([b"\x05\xff\xff\xff\xff"], "a cosignature of at most"),
        ([b"\x03" + b" " * (LARGEST_NOTE + 1)], "a note of at most"),
        ([b"\x06" + b" " * (LARGEST_NOTE + 1)], "a note of at most"),
    ],
)
def test_a_reply_that_is_none_is_refused(reply: list[bytes], message: str) -> None:
    with pytest.raises(ProtocolError, match=message):
        read_reply(reply)
