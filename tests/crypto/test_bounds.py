"""Foreign bytes are measured before they are parsed: of any depth, fullness and length they end in ProtocolError."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcollm_crypto import canonical
from fedcollm_crypto.bounds import MAX_BYTES, MAX_DEPTH, MAX_VALUES, check_bounds
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.homomorphic import messages
from fedcollm_crypto.logproof import LogProof
from fedcollm_crypto.masking.requests import Refusal
from fedcollm_crypto.note import Note, SignatureLine
from fedcollm_crypto.roster import read_roster
from fedcollm_crypto.signed import MAX_SMALL_BYTES, Signed, sign

SOME_DEPTHS = [*range(1, 40), *range(40, 5001, 23), *range(980, 1001)]  # 1000: where Python's own stack ends
Tools = Any


def nested(depth: int, shape: int) -> bytes:
    """Return canonical JSON of this depth: lists, objects, or both by turns."""
    opening = (b"[", b'{"a":', b'[{"a":')[shape]
    closing = (b"]", b"}", b"}]")[shape]
    levels = depth if shape < 2 else (depth + 1) // 2
    return opening * levels + b"0" + closing * levels


def refused(read: Callable[[], object]) -> bool:
    """Say whether it ended in ProtocolError; anything else that is raised fails the test."""
    try:
        read()
    except ProtocolError:
        return True
    return False


def test_each_bound_is_met_exactly() -> None:
    for shape in range(3):
        check_bounds(nested(MAX_DEPTH, shape))
        with pytest.raises(ProtocolError, match="at most 16 inside one another"):
            check_bounds(nested(MAX_DEPTH + 2, shape))
    check_bounds(b"[" + b"0," * (MAX_VALUES - 2) + b"0]")
    with pytest.raises(ProtocolError, match="at most 131072 values"):
        check_bounds(b"[" + b"0," * MAX_VALUES + b"0]")
    check_bounds(b'"' + b"a" * (MAX_BYTES - 2) + b'"')
    with pytest.raises(ProtocolError, match="at most 16777216 bytes"):
        check_bounds(b'"' + b"a" * (MAX_BYTES - 1) + b'"')
    with pytest.raises(ProtocolError, match="quotation marks"):
        check_bounds(b'"' + b"\\\\" * (1 << 20) + b'"')


def test_brackets_inside_texts_are_no_levels() -> None:
    check_bounds(json.dumps(["[" * 100, '"[{' * 100, "\\" * 7 + '"[[', {"}" * 50: "\\"}]).encode())


@settings(max_examples=2000)
@given(st.text('[]{}",:\\a0', max_size=80))
def test_what_is_within_the_bounds_is_no_deeper_for_the_parser(text: str) -> None:
    if refused(lambda: check_bounds(text.encode())):
        return
    try:
        value = json.loads(text)
    except ValueError:
        return
    assert depth_of(value) <= MAX_DEPTH


def depth_of(value: object) -> int:
    match value:
        case dict():
            return 1 + max(map(depth_of, value.values()), default=0)
        case list():
            return 1 + max(map(depth_of, value), default=0)
        case _:
            return 0


@settings(max_examples=300)
@given(st.recursive(st.integers(0, 9), lambda inner: st.lists(inner, max_size=3), max_leaves=60))
def test_a_second_count_of_levels_agrees(value: object) -> None:
    assert refused(lambda: check_bounds(json.dumps(value).encode())) == (depth_of(value) > MAX_DEPTH)


READERS: dict[str, Callable[[bytes], object]] = {
    "canonical": canonical.decode,
    "signed": lambda data: Signed.decode(data).body,
    "roster": lambda data: read_roster(data, bytes(32), 1),
    "detached": lambda data: Signed.decode(messages.detach(messages.attach(data))[0]).body,
    "proof": lambda data: LogProof.decode(data.decode()),
    "note": lambda data: Note.decode(data.decode()),
}


@pytest.mark.parametrize("name", READERS)
def test_no_depth_gets_anything_but_a_refusal_out_of_a_reader(name: str) -> None:
    wrap = b'{"body":{"a":%s},"from":"a","kind":"hello","signature":"' + b"00" * 64 + b'"}'
    for depth in SOME_DEPTHS:
        for shape in range(3):
            bare = nested(depth, shape)
            for data in (bare, wrap % bare, b"[" * depth):
                was_refused = refused(lambda data=data: READERS[name](data))
                assert was_refused or depth <= MAX_DEPTH


def test_each_depth_up_to_5000_is_read_or_refused() -> None:
    found = [refused(lambda depth=depth: canonical.decode(nested(depth, 0))) for depth in range(1, 5001)]

    assert found == [False] * MAX_DEPTH + [True] * (5000 - MAX_DEPTH)


def signed_raw(consortium: Any, party: str, kind: str, body: bytes) -> bytes:
    """Return a message whose body is exactly these bytes, rightly signed."""
    signature = consortium.identities[party].sign(kind, body)
    return Signed(kind=kind, sender=party, body_bytes=body, signature=signature).encode()


def hostile(consortium: Any, party: str, kind: str) -> Iterator[bytes]:
    wrap = b'{"body":{"a":%s},"from":"' + party.encode() + b'","kind":"hello","signature":"' + b"00" * 64 + b'"}'
    manifest_hash = consortium.manifest.hash.hex().encode()
    for depth in SOME_DEPTHS:
        for shape in range(3):
            deep = nested(depth, shape)
            yield deep
            yield wrap % deep
            yield signed_raw(consortium, party, kind, b'{"a":%s,"manifest_hash":"%s"}' % (deep, manifest_hash))
            yield signed_raw(consortium, party, "refusal", b'{"a":%s}' % deep)


def test_absorb_never_raises_whatever_depth_the_reply_has(tools: Tools) -> None:
    consortium = tools.Consortium(3)
    party = consortium.names[0]
    for data in hostile(consortium, party, "hello"):
        server = consortium.server()
        server.start(consortium.names)
        server.absorb(party, [b"M" + data])


def test_a_silo_answers_or_refuses_whatever_depth_the_request_has(tools: Tools) -> None:
    consortium = tools.Consortium(3)
    for data in hostile(consortium, "server", "manifest"):
        silo = consortium.silo("silo-001")
        if not refused(lambda data=data, silo=silo: b"".join(silo.handle(data))):
            assert tools.refusal_code(silo.handle(data)) == "malformed"


def test_a_strangers_bytes_are_not_parsed_before_the_signature_is_checked(
    tools: Tools, monkeypatch: pytest.MonkeyPatch
) -> None:
    consortium = tools.Consortium(3)
    parsed: list[int] = []
    decode = canonical.decode
    monkeypatch.setattr(canonical, "decode", lambda data, *more: parsed.append(len(data)) or decode(data, *more))
    body = b'{"a":[' + b"0," * 60_000 + b"0]}"
    forged = b'{"body":%s,"from":"server","kind":"manifest","signature":"%s"}' % (body, b"00" * 64)

    with pytest.raises(ProtocolError, match="does not verify"):
        consortium.silo("silo-001").handle(forged)

    assert max(parsed) < 1000  # the envelope


def test_a_message_that_does_not_grow_with_the_cohort_is_short(tools: Tools) -> None:
    consortium = tools.Consortium(3)
    silo = consortium.identities["silo-001"]
    long = sign(silo, "hello", {"a": "a" * MAX_SMALL_BYTES})

    with pytest.raises(ProtocolError, match="at most 32768 bytes"):
        _ = Signed.decode(long.encode()).body
    assert Signed.decode(sign(silo, "shares", {"a": "a" * MAX_SMALL_BYTES}).encode()).body


@pytest.mark.parametrize(("n", "post_quantum"), [(3, False), (12, True)])
def test_honest_messages_stay_far_within_the_bounds(n: int, post_quantum: bool, tools: Tools) -> None:
    """The fullest message of a round grows by so many values a silo that 1000 silos still fit."""
    consortium = tools.Consortium(n, post_quantum=post_quantum)
    silos, server = consortium.silos(), consortium.server()
    ask, deepest, fullest = server.start(consortium.names), 0, 0
    for _ in range(5):
        for party, request in ask.requests.items():
            value = json.loads(request)
            deepest, fullest = max(deepest, depth_of(value)), max(fullest, request.count(b",") + request.count(b"{"))
            reply = b"".join(silos[party].handle(request))
            skip = 8 * consortium.manifest.quantisation.length if reply[:1] == b"V" else 0
            message = tools.reply_of(reply, skip)
            assert message.kind != Refusal.KIND
            deepest = max(deepest, depth_of(message.to_json()))
            server.absorb(party, [reply])
        ask = server.step()
        if isinstance(ask, tools.Sum):
            break

    assert deepest <= MAX_DEPTH // 2
    assert fullest < 60 * n  # 60,000 among 1000 silos: half of MAX_VALUES


@pytest.mark.parametrize(
    ("read", "data"),
    [
        (SignatureLine.decode, "— a\x85b AAAAAAAA"),
        (SignatureLine.decode, "— a\u200bb AAAAAAAA"),
        (Note.decode, "a\n\n— \ue000 AAAAAAAA\n"),
        (LogProof.decode, "c2sp.org/tlog-proof@v1\nextra ä\nindex 1\n\nx"),
        (LogProof.decode, "c2sp.org/tlog-proof@v1\nextra AAAA\nindex " + "9" * 5000 + "\n\nx"),
    ],
)
def test_odd_letters_and_endless_numbers_are_refused_by_the_readers_of_text(
    read: Callable[[str], object], data: str
) -> None:
    with pytest.raises(ProtocolError):
        read(data)


@settings(max_examples=500)
@given(st.text(st.sampled_from("— abc\n+=/AZ09\u0661\x85\u200b\t"), max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    note = f"fedcollm/x\n3\nqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqo=\n\n{text}\n"
    for read in (Note.decode, SignatureLine.decode, LogProof.decode):
        refused(lambda read=read: read(text))
        refused(lambda read=read: read(note))


@pytest.mark.parametrize("end", [b"", b"\\", b"x"])
def test_a_text_that_never_ends_is_looked_at_once(end: bytes) -> None:
    """Tried again at each mark in it, this would take hours."""
    text = b'"' + b'\\"' * 200_000 + end

    check_bounds(text)
    check_bounds(b"[" + b'"a",' * 1000 + b'"b"]' + text)
    with pytest.raises(ValueError):  # noqa: PT011 - any reader's
        json.loads(text)
