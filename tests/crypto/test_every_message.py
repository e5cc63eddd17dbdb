"""Every message there is, drawn from its own declaration: what is written is read, and one wrong field is named."""

import ast
import importlib
import pkgutil
from collections.abc import Callable, Iterator
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.mlkem import MLKEM768PrivateKey
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fedcollm_crypto
import fedcollm_secure.audit_log
import fedcollm_secure.consortium
import fedcollm_secure.federation
from fedcollm_crypto import canonical, containers, hpke, kinds
from fedcollm_crypto.declared import Declared, Nested, declaration
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.homomorphic.parameters import PLAIN_MODULI, Bfv, Ckks, Lattice
from fedcollm_crypto.kinds import Kind
from fedcollm_crypto.masking.dealing import ShareBox
from fedcollm_crypto.masking.manifest import Encryption, Quantisation, RoundManifest
from fedcollm_crypto.roster import Member, Roster
from fedcollm_crypto.sealing import x25519_key
from fedcollm_crypto.signed import Signed
from fedcollm_secure.consortium.cards import Card, Invitation
from fedcollm_secure.consortium.certificates import make_certificate
from fedcollm_secure.federation.replies import Cosigned

PACKAGES = (fedcollm_crypto, fedcollm_secure.audit_log, fedcollm_secure.consortium, fedcollm_secure.federation)
CHILDREN = ("fedcollm_crypto.homomorphic.seal",)  # loads TenSEAL; it declares nothing
Body = dict[str, Any]


def everything() -> list[type[Declared]]:
    """Return each class that is declared anywhere in the packages."""
    for package in PACKAGES:
        for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
            if module.name not in CHILDREN:
                importlib.import_module(module.name)
    found, new = set[type[Declared]](), [Declared]
    while new:
        below = [kind for kind in new.pop().__subclasses__() if kind.__module__.startswith("fedcollm_")]
        found.update(below)
        new.extend(below)
    return sorted(found, key=lambda kind: (kind.__module__, kind.__name__))


MESSAGES = everything()
LETTERS = st.characters(exclude_categories=["Cs"])
NAMES = st.text(LETTERS, min_size=1, max_size=6)
HASH_TEXT = st.binary(min_size=32, max_size=32).map(bytes.hex)
X25519 = st.binary(min_size=32, max_size=32).map(lambda data: data[:31] + bytes((data[31] & 0x3F,)))
KEM = st.integers(0, 3).map(lambda seed: MLKEM768PrivateKey.from_seed_bytes(bytes([seed]) * 64).public_key())
KEYS: dict[object, st.SearchStrategy[bytes]] = {
    x25519_key: X25519,
    hpke.kem_key: KEM.map(lambda key: key.public_bytes_raw()),
}
ED25519 = [bytes.fromhex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a")]  # RFC 8032, 7.1
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text(LETTERS, max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2),
    max_leaves=4,
)
SIGNED = st.builds(
    Signed,
    kind=NAMES,
    sender=NAMES,
    body_bytes=st.dictionaries(NAMES, JSON, max_size=2).map(canonical.encode),
    signature=st.sampled_from([b"\x01" * 64, b"\x02" * 2484]),
)


def values(kind: Kind) -> st.SearchStrategy[Any]:
    """Return what a field of this kind may hold in Python."""
    match kind:
        case kinds.Octets(check=check, lengths=lengths):
            plain = st.sampled_from(lengths).flatmap(lambda size: st.binary(min_size=size, max_size=size))
            return plain if check is None else KEYS[check]
        case kinds.HexText(octets=octets):
            return values(octets).map(bytes.hex)
        case kinds.Text(rule=None):
            return st.text(LETTERS, max_size=8) | st.just("x" * kind.longest)
        case kinds.Text():
            return st.sampled_from(["", "0", "1.25", "inf"])
        case kinds.Choice(options=options):
            return st.sampled_from(options)
        case kinds.Whole(low=low, high=high) | kinds.BigWhole(low=low, high=high):
            return st.integers(low, high) | st.sampled_from([low, high])
        case kinds.Truth():
            return st.booleans()
        case containers.Items(of=of, least=least, ascending=ascending):
            listed = st.lists(values(of), min_size=least, max_size=least + 2, unique_by=str if ascending else None)
            return listed.map(lambda found: tuple(sorted(found) if ascending else found))
        case containers.Members(of=of):
            return st.dictionaries(NAMES, values(of), max_size=2)
        case containers.Free():
            return st.dictionaries(NAMES, JSON, max_size=2)
        case containers.OrNull(of=of):
            return st.none() | values(of)
        case Nested(of=of):
            return messages(of)
    return OTHERS[type(kind).__name__]()


def built(kind: type[Declared], **given: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """Return messages of this kind, with some fields as given."""
    drawn = {
        field.name: (st.just(field.default) | values(field.kind)) if field.sparse else values(field.kind)
        for field in declaration(kind).fields
        if not field.constant and field.name not in given
    }
    return st.builds(kind, **{**drawn, **given})


OTHERS: dict[str, Callable[[], st.SearchStrategy[Any]]] = {
    "_Kind": lambda: SIGNED,
    "_ByRecipient": lambda: st.lists(messages(ShareBox), max_size=2, unique_by=lambda box: box.recipient).map(
        lambda boxes: {box.recipient: box for box in boxes}
    ),
    "_PlainModulus": lambda: st.sampled_from(sorted(PLAIN_MODULI)),
}
QUANTISATION = Quantisation(ring_bits=64, bits=16, clip=1.0, max_weight=1, length=3)
HASHES = [name for name in (each.name for each in fields(RoundManifest)) if name.endswith("_hash")]
COHORT = ("a", "b", "c", "ö")


@cache
def certificate() -> str:
    """Return a certificate in the name of "a"."""
    with TemporaryDirectory() as folder:
        key, public = Path(folder, "key.pem"), Path(folder, "certificate.pem")
        make_certificate("a", key, public, None)
        return public.read_text(encoding="ascii")


TOGETHER: dict[type[Declared], Callable[[], st.SearchStrategy[Any]]] = {  # fields that have to agree
    Quantisation: lambda: st.builds(
        replace,
        st.just(QUANTISATION),
        ring_bits=st.sampled_from([32, 64]),
        clip=st.floats(1e-300, 1e300),
        length=st.integers(1, 9),
    ),
    Encryption: lambda: built(Encryption, decryptor=NAMES, parameters_hash=HASH_TEXT, key_hash=HASH_TEXT),
    RoundManifest: lambda: built(
        RoundManifest,
        cohort=st.just(COHORT),
        colluding=st.integers(0, 1),
        threshold=st.integers(3, 4),
        k_min=st.integers(3, 4),
        **{name: st.just("") | HASH_TEXT for name in HASHES},
    ),
    Member: lambda: built(Member, id=st.sampled_from(COHORT), ed25519=st.sampled_from(ED25519)),
    Roster: lambda: built(Roster, members=messages(Member).map(lambda member: (member,))),
    Lattice: lambda: st.builds(Lattice, degree=st.sampled_from([8192, 16384, 32768])),
    Bfv: lambda: built(Bfv, lattice=st.just(Lattice())),
    Ckks: lambda: built(Ckks, scale_bits=st.integers(18, 38)),
    Card: lambda: built(Card, consortium=st.just("pilot"), name=st.just("a"), certificate=st.builds(certificate)),
    Invitation: lambda: built(Invitation, name=st.sampled_from(COHORT), coordinator=messages(Card)),
    Cosigned: lambda: st.builds(lambda a, b: Cosigned(lines="x", size=a + b, heard=a), *[st.integers(0, 9)] * 2),
}


def messages(kind: type[Declared]) -> st.SearchStrategy[Any]:
    """Return messages of this kind."""
    return TOGETHER.get(kind, lambda: built(kind))()


def wrong(kind: Kind, good: Any) -> Iterator[Any]:  # JSON that is read
    """Return JSON that no field of this kind may hold, of which each is wrong in one way."""
    shapes: dict[type, Any] = {type(None): None, bool: True, str: "?", list: [0], dict: {"?": 0}, int: -1}
    if not isinstance(kind, kinds.Text):
        yield "?"
    shapes.pop(type(good), None)
    if isinstance(kind, containers.OrNull):
        shapes.pop(type(None), None)
        if good is None:
            return
    yield from (value for value in shapes.values() if not (isinstance(value, str) and isinstance(kind, kinds.Text)))
    if isinstance(good, str | list | dict):
        yield _deep()
    match kind:
        case kinds.Octets() | kinds.HexText():
            yield from (good + "00", good + " ", "G" * len(good) or "G")
            yield from (bad for bad in (good[2:], " " + good[1:], good.upper()) if bad != good)
        case kinds.Text(longest=longest) if longest < 1 << 20:
            yield "x" * (longest + 1)
        case kinds.Whole(low=low, high=high):
            yield from (low - 1, high + 1, str(good), float(good))
        case kinds.BigWhole(low=low, high=high):
            yield from (str(low - 1), str(high + 1), "0" + good, int(good), good + " ", "٣")
        case kinds.Choice():
            yield from (7, 1.0, [good])
        case containers.Items(of=of, least=least, most=most, ascending=ascending):
            yield from [[]] if least else []
            yield from [good[:1] * (most + 1)] if good and most <= 64 else []
            yield from [good[::-1]] if ascending and len(good) > 1 else []
            yield from [good + good] if ascending and good else []
            yield from ([bad, *good[1:]] for bad in (wrong(of, good[0]) if good else ()))
        case containers.Members(of=of):
            yield {**good, "n" * 513: next(iter(good.values()), "00")}
            yield from ({**good, name: bad} for name in good for bad in wrong(of, good[name]))
        case _:
            pass


def _deep() -> list[Any]:
    deep: list[Any] = []
    for _ in range(5000):  # deeper than Python's stack
        deep = [deep]
    return deep


def flat(kind: type[Declared]) -> Iterator[tuple[str, str, Kind, bool]]:
    """Return name, key, kind and whether it may be missing, of each field on the wire."""
    for field in declaration(kind).fields:
        if field.flat:
            yield from ((inner.where, inner.key, inner.kind, inner.sparse) for inner in field.flat.fields)
        else:
            yield field.where, field.key, field.kind, field.sparse


CHEAP = settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck))
EACH = pytest.mark.parametrize("kind", MESSAGES, ids=lambda kind: kind.__name__)


def refusal(kind: type[Declared], body: Body) -> str:
    with pytest.raises(ProtocolError) as caught:
        kind.from_body(body)
    return str(caught.value)


@EACH
@CHEAP
@given(data=st.data())
def test_what_is_written_is_read_and_written_again(kind: type[Declared], data: st.DataObject) -> None:
    message = data.draw(messages(kind))
    written = canonical.encode(message.to_body())

    read = kind.from_body(canonical.decode(written))

    assert read == message
    assert canonical.encode(read.to_body()) == written


@EACH
@CHEAP
@given(data=st.data())
def test_a_field_that_is_missing_or_unknown_is_named(kind: type[Declared], data: st.DataObject) -> None:
    body = data.draw(messages(kind)).to_body()
    name = declaration(kind).name

    assert refusal(kind, {**body, "what": 1}) == (
        f"{name}: unknown fields, of this version there are 1 too many, such as 'what'"
    )
    for _, key, _, sparse in flat(kind):
        if not sparse:
            without = {each: value for each, value in body.items() if each != key}
            assert refusal(kind, without) == f"{name}: the field {key} is missing"


@EACH
@CHEAP
@given(data=st.data())
def test_a_field_that_holds_something_else_is_named_and_nothing_of_it_is_told(
    kind: type[Declared], data: st.DataObject
) -> None:
    body = data.draw(messages(kind)).to_body()

    for where, key, of, _ in flat(kind):
        for bad in wrong(of, body[key]) if key in body else ():
            said = refusal(kind, {**body, key: bad})
            assert where in said
            if isinstance(bad, str) and len(bad) > 8 and not bad.isdecimal():  # a bound is decimal as well
                assert bad not in said


@EACH
@CHEAP
@given(data=st.data())
def test_a_field_that_stands_twice_is_named(kind: type[Declared], data: st.DataObject) -> None:
    written = canonical.encode(data.draw(messages(kind)).to_body())
    key = next(iter(flat(kind)))[1]
    doubled = b'{"' + key.encode() + b'":0,' + written[1:]
    if b'"' + key.encode() + b'"' not in written:
        return

    with pytest.raises(ProtocolError, match=f"the field '{key}' stands there twice"):
        canonical.decode(doubled)


@EACH
def test_no_message_is_anything_but_an_object(kind: type[Declared]) -> None:
    for value in (None, [], "x", 1, True):
        assert f"{declaration(kind).name}: an object was expected" in refusal(kind, value)  # type: ignore[arg-type]


BY_HAND = {
    "declared.py": "the one reader and the one writer",
    "signed.py": "a signed message keeps the bytes of its body, over which its signature is verified",
}


def test_no_message_is_spelt_by_hand() -> None:
    found = {
        path.name
        for package in PACKAGES
        for path in Path(package.__path__[0]).rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef)
        and node.name in ("to_body", "from_body", "to_json", "from_json")
        and not isinstance(node.body[-1], ast.Expr)  # a protocol's `...`
    }

    assert found == set(BY_HAND)
    assert len(MESSAGES) > 35
