"""Checkpoints and cosignatures are C2SP's: published ones verify, ours do, and forged ones don't."""

import base64
import importlib.util
import json
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from hypothesis import given
from hypothesis import strategies as st

from fedcollm_crypto.checkpoint import (
    Checkpoint,
    NoteKey,
    as_keys,
    cosign,
    cosigners,
    open_checkpoint,
    quorum,
    require_quorum,
    sign_checkpoint,
)
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.note import ED25519_NOTE, Note, SignatureLine, check_name, key_id

FOLDER = Path(__file__).parent.parent / "vectors"
SPEC = importlib.util.spec_from_file_location("make_log", FOLDER / "make_log.py")
assert SPEC is not None
assert SPEC.loader is not None
make_log = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(make_log)

HEAD = Checkpoint(origin="log", size=3, root=bytes(32))
KEEPER = Identity.generate("keeper", bytes, post_quantum=True)
WITNESS = Identity.generate("north", lambda count: b"\1" * count, post_quantum=True)


def load(name: str):
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def published_key(text: str) -> tuple[str, int, bytes]:
    name, identifier, data = text.split("+", 2)
    kind, *_ = decoded = base64.b64decode(data)
    assert key_id(name, kind, decoded[1:]).hex() == identifier
    return name, kind, decoded[1:]


@pytest.mark.parametrize("name", sorted(make_log.FILES))
def test_vectors_are_those_that_the_code_makes_today(name: str):
    assert make_log.render(make_log.FILES[name]()) == (FOLDER / name).read_text(encoding="utf-8")


def test_a_published_signed_note_reads_and_verifies():
    published = load("published_log.json")["note"]
    note, (name, kind, key) = Note.decode(published["signed"]), published_key(published["verifier_key"])

    assert (note.text, note.signatures[0].name, kind) == (published["text"], name, ED25519_NOTE)
    Ed25519PublicKey.from_public_bytes(key).verify(note.signatures[0].signature, note.text.encode())


def test_a_published_checkpoint_is_cosigned_with_both_kinds_of_key():
    published = load("published_log.json")["cosigned"]
    note = Note.decode(published["note"])
    name, _, ed25519 = published_key(published["ed25519_verifier_key"])
    _, _, mldsa44 = published_key(published["mldsa44_verifier_key"])

    assert cosigners(note, [NoteKey(name=name, ed25519=ed25519, mldsa44=mldsa44)]) == {name}
    forged = replace(note, text=note.text.replace("185550722", "185550721"))
    with pytest.raises(ProtocolError, match="does not verify"):
        cosigners(forged, [NoteKey(name=name, ed25519=ed25519, mldsa44=mldsa44)])


def test_our_vectors_hold():
    known = load("log_checkpoints.json")
    note = Note.decode(known["note"])
    keeper = NoteKey(name="", ed25519=bytes.fromhex(known["keeper"]))
    witnesses = as_keys({name: (bytes.fromhex(key), b"") for name, key in known["witnesses"].items()})

    head = open_checkpoint(note, keeper, known["origin"])
    assert (head.size, head.root.hex()) == (known["size"], known["root"])
    assert cosigners(note, witnesses) == set(known["cosigners"])


@pytest.mark.parametrize("case", load("log_bad_checkpoints.json")["cases"], ids=lambda c: c["name"])
def test_bad_checkpoints_are_refused(case):
    known = load("log_checkpoints.json")
    keeper = NoteKey(name="", ed25519=bytes.fromhex(known["keeper"]))
    witnesses = as_keys({name: (bytes.fromhex(key), b"") for name, key in known["witnesses"].items()})
    with pytest.raises(ProtocolError, match=case["reason"]):
        _accept(case["note"], keeper, known["origin"], witnesses)


def _accept(text: str, keeper: NoteKey, origin: str, witnesses: tuple[NoteKey, ...]) -> None:
    note = Note.decode(text)
    open_checkpoint(note, keeper, origin)
    cosigners(note, witnesses)


def test_post_quantum_both_kinds_of_signature_are_needed():
    keeper = NoteKey(name="", ed25519=KEEPER.public_key, mldsa44=KEEPER.mldsa44_key)
    witness = NoteKey(name="north", ed25519=WITNESS.public_key, mldsa44=WITNESS.mldsa44_key)
    lines = cosign(HEAD, "north", WITNESS, time_s=7)
    note = sign_checkpoint(HEAD, KEEPER).with_lines(lines)

    assert open_checkpoint(note, keeper) == HEAD
    assert cosigners(note, [witness]) == {"north"}
    assert cosigners(sign_checkpoint(HEAD, KEEPER).with_lines(lines[:1]), [witness]) == frozenset()
    with pytest.raises(ProtocolError, match="ML-DSA-44 signature is missing"):
        open_checkpoint(replace(note, signatures=note.signatures[:1]), keeper)
    with pytest.raises(ProtocolError, match="ML-DSA-44 signature of north does not verify"):
        cosigners(_with_last_bit_off(note), [witness])


def _with_last_bit_off(note: Note) -> Note:
    *lines, last = note.signatures
    forged = last.signature[:8] + bytes([last.signature[8] ^ 1]) + last.signature[9:]
    return replace(note, signatures=(*lines, replace(last, signature=forged)))


@given(st.integers(1, 60), st.integers(0, 20))
def test_two_quorums_share_an_honest_witness(witnesses: int, colluding: int):
    if colluding >= witnesses:
        with pytest.raises(ValueError, match="cannot be the liars"):
            quorum(witnesses, colluding)
        return
    q = quorum(witnesses, colluding)

    assert 2 * q - witnesses > colluding  # the least overlap of two quorums
    assert 2 * (q - 1) - witnesses <= colluding  # and one less would not do


def test_too_few_cosigners_are_no_quorum():
    require_quorum(frozenset({"a", "b", "c"}), 4, 1)
    with pytest.raises(ProtocolError, match="2 of 4 witnesses cosigned it, 3 are needed"):
        require_quorum(frozenset({"a", "b"}), 4, 1)


@pytest.mark.parametrize("name", ["", "two words", "a+b", "tab\there", "line\nbreak", "no\u00a0break"])
def test_a_name_that_no_line_can_carry_is_refused(name: str):
    with pytest.raises(ValueError, match="neither blanks nor plus"):
        check_name(name)
    with pytest.raises(ValueError, match="neither blanks nor plus"):
        SignatureLine(name=name, key_id=bytes(4), signature=bytes(64))


def test_what_no_checkpoint_can_hold_is_refused():
    with pytest.raises(ValueError, match="printable"):
        Checkpoint(origin="a\nb", size=0, root=bytes(32))
    with pytest.raises(ValueError, match="root of 32 bytes"):
        Checkpoint(origin="a", size=0, root=bytes(31))
    with pytest.raises(ValueError, match="seconds since 1970"):
        cosign(HEAD, "north", WITNESS, time_s=-1)
