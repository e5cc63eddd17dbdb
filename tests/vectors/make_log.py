"""Write the known answers of Merkle trees and checkpoints: `python tests/vectors/make_log.py`.

The verifier in JavaScript reads the same files. `published_log.json` is not made here: it holds what others published.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

from fedcollm_crypto.checkpoint import Checkpoint, cosign, sign_checkpoint
from fedcollm_crypto.keys import Identity
from fedcollm_crypto.merkle import Tree, leaf_hash, node_hash
from fedcollm_crypto.note import Note

HERE = Path(__file__).parent
ENTRIES = [f"entry {number}".encode() for number in range(21)]
ORIGIN = "fedcollm-secure/vectors"
TIME_S = 1_800_000_000
Vectors = dict[str, object]


def tree() -> Tree:
    """Return the tree over all entries."""
    return Tree(map(leaf_hash, ENTRIES))


def hexes(values: Sequence[bytes]) -> list[str]:
    """Write hashes as text."""
    return [value.hex() for value in values]


def proofs() -> Vectors:
    """All roots; inclusion and consistency proofs of a few sizes, the awkward ones among them."""
    known = tree()
    sizes = (1, 2, 3, 7, 8, 13, 21)
    return {
        "entries": hexes(ENTRIES),
        "roots": hexes([known.root(size) for size in range(len(ENTRIES) + 1)]),
        "inclusion": [
            {"index": index, "size": size, "proof": hexes(known.inclusion_proof(index, size))}
            for size in sizes
            for index in sorted({0, size // 2, size - 1})
        ],
        "consistency": [
            {"old": old, "size": size, "proof": hexes(known.consistency_proof(old, size))}
            for size in sizes
            for old in sorted({0, 1, size // 2, size - 1, size})
            if old <= size
        ],
    }


def bad_proofs() -> Vectors:
    """Proofs that must be refused, with a part of the reason."""
    known = tree()
    path, grown = known.inclusion_proof(5, 13), known.consistency_proof(6, 13)
    leaf, root, old_root = leaf_hash(ENTRIES[5]), known.root(13), known.root(6)
    node = node_hash(leaf_hash(ENTRIES[4]), leaf)

    def inclusion(name: str, leaf: bytes, place: tuple[int, int], path: Sequence[bytes], why: str) -> Vectors:
        index, size = place
        return {"name": name, "leaf": leaf.hex(), "index": index, "size": size, "root": root.hex()} | {
            "proof": hexes(path),
            "reason": why,
        }

    def consistency(name: str, sizes: tuple[int, int], old_root: bytes, proof: Sequence[bytes], why: str) -> Vectors:
        return {"name": name, "old": sizes[0], "size": sizes[1], "old_root": old_root.hex(), "root": root.hex()} | {
            "proof": hexes(proof),
            "reason": why,
        }

    return {
        "inclusion": [
            inclusion("another entry", leaf_hash(b"forged"), (5, 13), path, "does not lead"),
            inclusion("another place", leaf, (4, 13), path, "does not lead"),
            inclusion("outside the tree", leaf, (13, 13), path, "cannot be in a tree"),
            inclusion("one hash too few", leaf, (5, 13), path[:-1], "does not lead"),
            inclusion("one hash too many", leaf, (5, 13), [*path, path[0]], "more hashes"),
            inclusion("out of order", leaf, (5, 13), [path[1], path[0], *path[2:]], "does not lead"),
            inclusion("a node for an entry", node, (2, 13), path[1:], "does not lead"),
            inclusion("a hash cut short", leaf, (5, 13), [path[0][:31], *path[1:]], "32 bytes"),
        ],
        "consistency": [
            consistency("another past", (6, 13), known.root(5), grown, "not those seen before"),
            consistency("one hash too few", (6, 13), old_root, grown[:-1], "not those seen before"),
            consistency("one hash too many", (6, 13), old_root, [*grown, grown[0]], "more hashes"),
            consistency("no hashes", (6, 13), old_root, [], "empty"),
            consistency("a log that shrank", (14, 13), old_root, grown, "shrank"),
            consistency("two roots of one size", (13, 13), old_root, [], "two roots"),
            consistency("a past before the first entry", (0, 13), old_root, [], "two roots"),
        ],
    }


def identities() -> dict[str, Identity]:
    """Return the keeper and three witnesses, whose keys are no secret."""
    names = (ORIGIN, "north", "south", "west")
    return {
        name: Identity.generate(name, lambda count, n=place: bytes([n]) * count) for place, name in enumerate(names)
    }


def signed_head(size: int = 13) -> Note:
    """Return a checkpoint that the keeper signed and two witnesses cosigned."""
    parties = identities()
    head = Checkpoint(origin=ORIGIN, size=size, root=tree().root(size))
    lines = [line for who in ("north", "south") for line in cosign(head, who, parties[who], time_s=TIME_S)]
    return sign_checkpoint(head, parties[ORIGIN]).with_lines(lines)


def checkpoints() -> Vectors:
    """A signed and cosigned head, and the keys to check it with."""
    parties = identities()
    return {
        "origin": ORIGIN,
        "keeper": parties[ORIGIN].public_key.hex(),
        "witnesses": {name: parties[name].public_key.hex() for name in ("north", "south", "west")},
        "note": signed_head().encode(),
        "size": 13,
        "root": tree().root(13).hex(),
        "cosigners": ["north", "south"],
    }


def bad_checkpoints() -> Vectors:
    """Notes that must be refused; keys and origin are those of `log_checkpoints.json`."""
    parties, note = identities(), signed_head()
    keeper_line, north, south = note.signatures
    head, other = Checkpoint.of(note.text), tree().root(12)
    fork = replace(head, root=other)
    foreign = replace(head, origin="fedcollm-secure/another")

    def case(name: str, text: str, reason: str) -> Vectors:
        return {"name": name, "note": text, "reason": reason}

    return {
        "cases": [
            case("another root under the same signatures", replace(note, text=fork.text).encode(), "does not verify"),
            case("another size", note.encode().replace("\n13\n", "\n12\n"), "does not verify"),
            case("a stranger for the keeper", sign_checkpoint(head, parties["north"]).encode(), "did not sign"),
            case("another log", sign_checkpoint(foreign, parties[ORIGIN]).encode(), "this one is of"),
            case(
                "a forged cosignature",
                replace(note, signatures=(keeper_line, replace(north, signature=south.signature))).encode(),
                "cosignature of north",
            ),
            case(
                "a cosignature of another time",
                replace(
                    note, signatures=(keeper_line, replace(north, signature=bytes(8) + north.signature[8:]))
                ).encode(),
                "cosignature of north",
            ),
            case(
                "signed twice by one key",
                replace(note, signatures=(keeper_line, north, north)).encode(),
                "signed it twice",
            ),
            case("no signatures", note.text + "\n", "signature lines were expected"),
            case("an extension line", note.encode().replace("\n\n", "\nmore\n\n", 1), "a line each"),
            case("a size with a leading zero", note.encode().replace("\n13\n", "\n013\n"), "a line each"),
            case("base64 in another spelling", note.encode().replace("=\n\n", "\n\n"), "canonical base64"),
            case("a control character", note.encode().replace("\n13\n", "\n13\r\n"), "printable text"),
        ]
    }


FILES: dict[str, Callable[[], Vectors]] = {
    "log_proofs.json": proofs,
    "log_bad_proofs.json": bad_proofs,
    "log_checkpoints.json": checkpoints,
    "log_bad_checkpoints.json": bad_checkpoints,
}


def render(vectors: Vectors) -> str:
    """Return the file's text."""
    return json.dumps(vectors, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


def main() -> None:
    """Write all files."""
    for name, make in FILES.items():
        (HERE / name).write_text(render(make()), encoding="utf-8")


if __name__ == "__main__":
    main()
