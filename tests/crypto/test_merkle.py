"""Roots are RFC 9162's by two derivations, every proof verifies, and no other proof does."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.merkle import (
    EMPTY_ROOT,
    Tree,
    leaf_hash,
    node_hash,
    root_after,
    verify_consistency,
    verify_inclusion,
)

FOLDER = Path(__file__).parent.parent / "vectors"
ENTRIES = [bytes([number]) for number in range(130)]
TREE = Tree(map(leaf_hash, ENTRIES))


def load(name: str):
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def by_definition(entries: list[bytes]) -> bytes:
    """Return MTH(D[n]) as section 2.1.1 of RFC 9162 defines it."""
    if not entries:
        return EMPTY_ROOT
    if len(entries) == 1:
        return leaf_hash(entries[0])
    half = max(2**k for k in range(8) if 2**k < len(entries))
    return node_hash(by_definition(entries[:half]), by_definition(entries[half:]))


def test_roots_are_those_that_others_published():
    published = load("published_log.json")["roots"]
    tree = Tree(leaf_hash(bytes.fromhex(leaf)) for leaf in published["leaves"])

    assert [tree.root(size).hex() for size in range(9)] == published["roots"]


def test_a_growing_tree_follows_the_definition_at_every_size_up_to_130():
    grown = Tree()
    for size in range(131):
        assert by_definition(ENTRIES[:size]) == TREE.root(size) == grown.root()
        assert grown.size == size
        if size < 130:
            grown.append(leaf_hash(ENTRIES[size]))


def test_every_proof_of_every_size_up_to_130_verifies():
    for size in range(131):
        root = TREE.root(size)
        for index in range(size):
            path = TREE.inclusion_proof(index, size)
            verify_inclusion(leaf_hash(ENTRIES[index]), index, size, path, root)
            assert len(path) <= max(size - 1, 0).bit_length()
        for old in range(size + 1):
            verify_consistency(old, TREE.root(old), size, root, TREE.consistency_proof(old, size))


def test_a_root_follows_from_every_frontier_and_the_leaves_after_it():
    leaves = [leaf_hash(entry) for entry in ENTRIES[:66]]
    for size in range(67):
        for first in range(size + 1):
            frontier = TREE.frontier(first)
            assert root_after(first, frontier, leaves[first:size]) == TREE.root(size)
            if first < size:
                assert root_after(first, frontier, [*leaves[first : size - 1], leaf_hash(b"other")]) != TREE.root(size)


@pytest.mark.parametrize(("size", "hashes"), [(0, 1), (1, 0), (4, 2), (7, 2), (1 << 63, 64)])
def test_a_frontier_of_another_length_is_refused(size, hashes):
    with pytest.raises(ProtocolError, match="frontier"):
        root_after(size, [leaf_hash(b"")] * hashes, [])


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_proof_for_anything_else_is_refused(data):
    size = data.draw(st.integers(2, 130))
    old = data.draw(st.integers(1, size - 1))
    path, grown = TREE.inclusion_proof(old, size), TREE.consistency_proof(old, size)
    changed = _one_bit_off(data, path)

    with pytest.raises(ProtocolError, match="inclusion proof"):
        verify_inclusion(leaf_hash(ENTRIES[old]), old, size, changed, TREE.root(size))
    with pytest.raises(ProtocolError, match="inclusion proof"):
        verify_inclusion(leaf_hash(ENTRIES[old - 1]), old, size, path, TREE.root(size))
    with pytest.raises(ProtocolError, match="consistency proof"):
        verify_consistency(old, TREE.root(old), size, TREE.root(size), _one_bit_off(data, grown))
    with pytest.raises(ProtocolError, match="consistency proof"):
        verify_consistency(old, TREE.root(old - 1), size, TREE.root(size), grown)


def _one_bit_off(data: st.DataObject, proof: list[bytes]) -> list[bytes]:
    place, bit = data.draw(st.integers(0, len(proof) - 1)), data.draw(st.integers(0, 255))
    hashed = bytearray(proof[place])
    hashed[bit // 8] ^= 1 << bit % 8
    return [*proof[:place], bytes(hashed), *proof[place + 1 :]]


@pytest.mark.parametrize("case", load("log_bad_proofs.json")["inclusion"], ids=lambda c: c["name"])
def test_bad_inclusion_proofs_are_refused(case):
    with pytest.raises(ProtocolError, match=case["reason"]):
        verify_inclusion(
            bytes.fromhex(case["leaf"]),
            case["index"],
            case["size"],
            [bytes.fromhex(one) for one in case["proof"]],
            bytes.fromhex(case["root"]),
        )


@pytest.mark.parametrize("case", load("log_bad_proofs.json")["consistency"], ids=lambda c: c["name"])
def test_bad_consistency_proofs_are_refused(case):
    old_root, root = bytes.fromhex(case["old_root"]), bytes.fromhex(case["root"])
    with pytest.raises(ProtocolError, match=case["reason"]):
        verify_consistency(case["old"], old_root, case["size"], root, [bytes.fromhex(one) for one in case["proof"]])


def test_misuse_is_told_apart_from_a_bad_proof():
    with pytest.raises(ValueError, match="call leaf_hash"):
        Tree().append(b"an entry, not its hash")
    with pytest.raises(ValueError, match="130 entries, 131 were asked"):
        TREE.root(131)
    with pytest.raises(ValueError, match="entry 7 is not in a tree of 7"):
        TREE.inclusion_proof(7, 7)
    with pytest.raises(ValueError, match="8 entries is not within one of 7"):
        TREE.consistency_proof(8, 7)
