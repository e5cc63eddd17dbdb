"""A Merkle tree over a log's entries (RFC 9162, section 2.1): one hash for all of them, short proofs about it.

    leaf = SHA-256(0x00 ‖ entry)        node = SHA-256(0x01 ‖ left ‖ right)        empty tree: SHA-256("")

`inclusion_proof` shows that an entry is in a tree, `consistency_proof` that a tree only grew out of an earlier one.
Both have at most ⌈log2 n⌉ + 1 hashes. `Tree` keeps every complete node: it appends along its right edge, at most log2 n
nodes an entry and one on average, and roots and proofs of any size cost O(log n) too.

Guarantee: two lists of entries with one root and one size are equal, as long as SHA-256 is collision resistant; a
proof that verifies says what it says under the same assumption. Who stands behind a root is the matter of `checkpoint`.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Annotated, TypeAlias

from fedcollm_crypto.declared import Listed
from fedcollm_crypto.derivation import HASH_BYTES
from fedcollm_crypto.errors import ProtocolError
from fedcollm_crypto.kinds import Sha256

EMPTY_ROOT = hashlib.sha256(b"").digest()
MAX_PROOF_HASHES = 64
"""More hashes than this belong to no tree that fits on a disk."""

Proof: TypeAlias = Annotated[tuple[Sha256, ...], Listed(most=MAX_PROOF_HASHES)]


def leaf_hash(entry: bytes) -> bytes:
    """Return the hash of one entry."""
    return hashlib.sha256(b"\x00" + entry).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash over two subtrees; its first byte keeps a node from passing for an entry."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Tree:
    """Every complete node of a tree: 64 bytes an entry, roots and proofs of any earlier size in O(log n)."""

    def __init__(self, leaves: Iterable[bytes] = ()) -> None:
        """Build the tree over hashes of entries."""
        self._levels: list[list[bytes]] = [[]]  # level h, place i: the node over leaves [i·2^h, (i+1)·2^h)
        for leaf in leaves:
            self.append(leaf)

    @property
    def size(self) -> int:
        """Return how many leaves there are."""
        return len(self._levels[0])

    def append(self, leaf: bytes) -> None:
        """Add the hash of one more entry."""
        _check_hash(leaf)
        self._levels[0].append(leaf)
        for height in range(_trailing_zeros(self.size)):
            if height + 1 == len(self._levels):
                self._levels.append([])
            left, right = self._levels[height][-2:]
            self._levels[height + 1].append(node_hash(left, right))

    def root(self, size: int | None = None) -> bytes:
        """Return the root of the first `size` leaves, of all by default. Raises: ValueError for a larger size."""
        size = self._known(self.size if size is None else size)
        return self._over(0, size) if size else EMPTY_ROOT

    def frontier(self, size: int) -> list[bytes]:
        """Return the roots of the complete subtrees that the first `size` leaves fall into, the largest first.

        There is one for each 1 in the binary number of leaves. Raises: ValueError for a larger size.
        """
        found: list[bytes] = []
        start = 0
        for height in _heights(self._known(size)):
            found.append(self._levels[height][start >> height])
            start += 1 << height
        return found

    def inclusion_proof(self, index: int, size: int) -> list[bytes]:
        """Return PATH(index, D[size]) of RFC 9162, 2.1.3.1. Raises: ValueError for an index outside the tree."""
        if not 0 <= index < self._known(size):
            raise ValueError(f"entry {index} is not in a tree of {size}")
        return self._path(index, 0, size)

    def consistency_proof(self, old: int, size: int) -> list[bytes]:
        """Return PROOF(old, D[size]) of RFC 9162, 2.1.4.1; empty from 0 and from the same size. Raises: ValueError."""
        if not 0 <= old <= self._known(size):
            raise ValueError(f"a tree of {old} entries is not within one of {size}")
        return self._subproof(old, 0, size, is_whole=True) if 0 < old < size else []

    def _path(self, index: int, start: int, end: int) -> list[bytes]:
        if end - start == 1:
            return []
        middle = start + _split(end - start)
        if index < middle:
            return [*self._path(index, start, middle), self._over(middle, end)]
        return [*self._path(index, middle, end), self._over(start, middle)]

    def _subproof(self, old: int, start: int, end: int, *, is_whole: bool) -> list[bytes]:
        if old == end:
            return [] if is_whole else [self._over(start, end)]
        middle = start + _split(end - start)
        if old <= middle:
            return [*self._subproof(old, start, middle, is_whole=is_whole), self._over(middle, end)]
        return [*self._subproof(old, middle, end, is_whole=False), self._over(start, middle)]

    def _over(self, start: int, end: int) -> bytes:
        """Return the node over leaves [start, end); `start` is a multiple of the largest power of two below."""
        length = end - start
        height = length.bit_length() - 1
        if length == 1 << height:
            return self._levels[height][start >> height]
        middle = start + _split(length)
        return node_hash(self._over(start, middle), self._over(middle, end))

    def _known(self, size: int) -> int:
        if not 0 <= size <= self.size:
            raise ValueError(f"this tree has {self.size} entries, {size} were asked for")
        return size


def root_after(size: int, frontier: Sequence[bytes], leaves: Iterable[bytes]) -> bytes:
    """Return the root of a tree whose first `size` leaves have this frontier, and which goes on with `leaves`.

    Guarantee: where the root is a known one, so are all leaves after the first `size`, each at its place.
    Raises: ProtocolError for another number of hashes than so many leaves have.
    """
    _check_proof(frontier)
    heights = _heights(size)
    if len(frontier) != len(heights):
        raise ProtocolError(f"frontier: {len(heights)} hashes were expected before entry {size}, got {len(frontier)}")
    complete = list(frontier)
    for leaf in leaves:
        complete.append(leaf)
        size += 1
        for _ in range(_trailing_zeros(size)):
            right = complete.pop()
            complete.append(node_hash(complete.pop(), right))
    if not complete:
        return EMPTY_ROOT
    root = complete.pop()
    while complete:
        root = node_hash(complete.pop(), root)
    return root


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> None:
    """Check that `leaf` is number `index` of the tree with this size and root (RFC 9162, 2.1.3.2).

    Raises: ProtocolError.
    """
    if not 0 <= index < size:
        raise ProtocolError(f"inclusion proof: entry {index} cannot be in a tree of {size}")
    _check_proof(proof)
    first, last, found = index, size - 1, leaf
    for sibling in proof:
        if last == 0:
            raise ProtocolError("inclusion proof: it has more hashes than the tree has levels")
        if first & 1 or first == last:
            found = node_hash(sibling, found)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            found = node_hash(found, sibling)
        first, last = first >> 1, last >> 1
    if last or found != root:
        raise ProtocolError(f"inclusion proof: it does not lead from entry {index} to the root of {size} entries")


def verify_consistency(old: int, old_root: bytes, size: int, root: bytes, proof: Sequence[bytes]) -> None:
    """Check that the tree of `size` begins with exactly the `old` entries of `old_root` (RFC 9162, 2.1.4.2).

    Raises: ProtocolError.
    """
    if not 0 <= old <= size:
        raise ProtocolError(f"consistency proof: the log shrank from {old} to {size} entries")
    _check_proof(proof)
    if old in (0, size):
        if proof or old_root != (root if old else EMPTY_ROOT):
            raise ProtocolError(f"consistency proof: two roots are shown for {old} entries")
        return
    first, last = old - 1, size - 1
    while first & 1:
        first, last = first >> 1, last >> 1
    path = list(proof) if first else [old_root, *proof]  # a power of two is a node of the larger tree itself
    if not path:
        raise ProtocolError("consistency proof: it is empty")
    was = now = path[0]
    for sibling in path[1:]:
        if last == 0:
            raise ProtocolError("consistency proof: it has more hashes than the tree has levels")
        if first & 1 or first == last:
            was, now = node_hash(sibling, was), node_hash(sibling, now)
            while not first & 1 and first:
                first, last = first >> 1, last >> 1
        else:
            now = node_hash(now, sibling)
        first, last = first >> 1, last >> 1
    if last or was != old_root or now != root:
        raise ProtocolError(f"consistency proof: the first {old} of {size} entries are not those seen before")


def _split(length: int) -> int:
    """Return the largest power of two below `length`."""
    return 1 << (length - 1).bit_length() - 1


def _heights(size: int) -> list[int]:
    """Return the heights of the complete subtrees that so many leaves fall into, the largest first."""
    return [height for height in reversed(range(size.bit_length())) if size >> height & 1]


def _trailing_zeros(number: int) -> int:
    return (number & -number).bit_length() - 1


def _check_hash(value: bytes) -> None:
    if len(value) != HASH_BYTES:
        raise ValueError(f"a leaf is the hash of an entry, {HASH_BYTES} bytes; got {len(value)}: call leaf_hash")


def _check_proof(proof: Sequence[bytes]) -> None:
    if len(proof) > MAX_PROOF_HASHES or any(len(value) != HASH_BYTES for value in proof):
        raise ProtocolError(f"proof: at most {MAX_PROOF_HASHES} hashes of {HASH_BYTES} bytes were expected")
