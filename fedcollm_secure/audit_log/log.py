"""The consortium log of a run: append, sign the head, prove, and read back without anybody's word.

`RUN/audit/log.jsonl` holds a line per event (`log_entry.py`), `checkpoints/` the signed heads, `log.pub` the keeper's
public keys in hexadecimal: Ed25519, and on a second line ML-DSA-44 where it has one. A line is on the disk before
`append` returns, so what the log says has happened can be relied on after a crash; the one line that a crash can tear
was never acknowledged, and `open` cuts it off. From `create` or `open` to `close` nobody else writes (`lines`).

What a checkpoint covers can't be changed unseen. Lines behind the last one are chained, but not signed yet.
"""

import time
from collections.abc import Generator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Self

from fedcollm_crypto import durable
from fedcollm_crypto.checkpoint import Checkpoint, NoteKey, sign_checkpoint
from fedcollm_crypto.durable import NotWritten
from fedcollm_crypto.keys import MLDSA44_KEY_BYTES, PUBLIC_KEY_BYTES, Identity, check_ed25519
from fedcollm_crypto.lines import InUse, Lines
from fedcollm_crypto.merkle import Tree, leaf_hash
from fedcollm_crypto.note import Note, SignatureLine
from fedcollm_secure.audit_log import untrusted_files
from fedcollm_secure.audit_log.checkpoint_folder import CheckpointFolder
from fedcollm_secure.audit_log.events import Event, RoundClosed
from fedcollm_secure.audit_log.log_entry import GENESIS, TIME_FORMAT, BrokenChain, Entry, read_line, write_line
from fedcollm_secure.audit_log.unseen_lines import Recent
from fedcollm_secure.errors import LogError, RunError

LOG_NAME = "log.jsonl"
KEY_NAME = "log.pub"


@dataclass(frozen=True, kw_only=True)
class Head:
    """How many entries a log has, and the Merkle root over them in hexadecimal."""

    size: int
    root: str


@dataclass(frozen=True, kw_only=True)
class LogContents:
    """A log whose chain holds: its entries, and how many bytes of a torn last line follow them (usually 0)."""

    entries: tuple[Entry, ...]
    torn_bytes: int

    @cached_property
    def tree(self) -> Tree:
        """Return the Merkle tree over the entries."""
        return Tree(entry.leaf for entry in self.entries)

    @property
    def head(self) -> Head:
        """Size and root over the whole lines."""
        return self.head_at(len(self.entries))

    def head_at(self, size: int) -> Head:
        """Return the head that the log had when it held `size` entries."""
        return Head(size=size, root=self.tree.root(size).hex())


class AuditLog:
    """An append-only log with one writer."""

    def __init__(self, folder: Path, keeper: Identity, origin: str, contents: LogContents, file: Lines) -> None:
        """Use `create` or `open`; they make sure that the files are what the other arguments say."""
        self._file = file
        self._keeper = keeper
        self._origin = origin
        self._checkpoints = CheckpointFolder(folder)
        self._tree = contents.tree
        self._previous = contents.entries[-1].leaf if contents.entries else GENESIS
        self._signed = self._checkpoints.last()
        self._closed = next((e.index for e in reversed(contents.entries) if isinstance(e.event, RoundClosed)), 0)

    @property
    def head(self) -> Head:
        """Size and root after the last append."""
        return Head(size=self._tree.size, root=self._tree.root().hex())

    @property
    def origin(self) -> str:
        """Return the name of this log, which every checkpoint of it begins with."""
        return self._origin

    @classmethod
    def create(cls, folder: Path, keeper: Identity, origin: str) -> Self:
        """Begin an empty log in `folder` and put the public keys beside it.

        Raises: RunError where a log already lies, or the disk is full or fails.
        """
        path = folder / LOG_NAME
        if path.exists() or (folder / KEY_NAME).exists():
            raise RunError(f"{path} already exists; a log is never begun twice. Choose another folder, or resume")
        with _as_run_error():
            durable.make_folder(folder)
            durable.write_new(folder / KEY_NAME, key_text(*keeper.public_keys).encode())
            durable.write_new(path, b"")
            return cls(folder, keeper, origin, LogContents(entries=(), torn_bytes=0), Lines(path))

    @classmethod
    def open(cls, folder: Path, keeper: Identity, origin: str) -> Self:
        """Read the whole log, cut off a torn last line, and go on. A log with a bad line is left as it is.

        Raises: RunError where no log lies, `keeper` does not keep it, another process writes it, or the disk fails;
            LogError for a bad line.
        """
        path = folder / LOG_NAME
        key = read_public_key(folder / KEY_NAME)
        if (key.ed25519, key.mldsa44) != keeper.public_keys:
            raise RunError(f"{path} is kept under another key; resume with the key that began the run")
        contents = read_log(path)
        with _as_run_error(), ExitStack() as opened:
            file = opened.enter_context(closing(Lines(path)))
            if [leaf_hash(line) for line in file.lines] != [entry.leaf for entry in contents.entries]:
                raise RunError(f"{path} was changed while it was opened; verify the run, then resume")
            log = cls(folder, keeper, origin, contents, file)
            opened.pop_all()
        return log

    def append(self, event: Event) -> None:
        """Write one event; it is on the disk when this returns.

        Raises: RunError when the disk is full or fails, or somebody else wrote to the log: then nothing is appended.
        """
        now = datetime.now(UTC).strftime(TIME_FORMAT)
        line = write_line(event, index=self._tree.size, previous=self._previous, time=now)
        read_line(line, index=self._tree.size, previous=self._previous)  # never write what nobody could read
        with _as_run_error():
            self._file.append(line)
        self._previous = leaf_hash(line)
        if isinstance(event, RoundClosed):
            self._closed = self._tree.size
        self._tree.append(self._previous)

    def close(self) -> None:
        """Give up the lock; the log can be opened again."""
        self._file.close()

    def checkpoint(self) -> Note:
        """Sign the present head, durably; a head that is signed already is not signed again."""
        head = Checkpoint(origin=self._origin, size=self._tree.size, root=self._tree.root())
        if self._signed is None or self._signed.text != head.text:
            signed = sign_checkpoint(head, self._keeper, time_s=int(time.time()))
            self._checkpoints.save(signed)
            self._signed = signed  # not before it is on the disk: a save that failed is tried again
        return self._signed

    def consistency_proof(self, old: int) -> list[bytes]:
        """Prove that the last checkpoint grew out of the first `old` entries.

        Raises: ValueError for an `old` that it did not reach; RuntimeError before the first checkpoint.
        """
        return self._tree.consistency_proof(old, Checkpoint.of(self.checkpoint_shown().text).size)

    def recent(self, old: int) -> Recent:
        """Return all lines since the last closed round, and since entry `old`, proved under the last checkpoint.

        Raises: RuntimeError for a checkpoint that does not cover the last line.
        """
        size, last = self._tree.size, Checkpoint.of(self.checkpoint_shown().text).size
        if last != size:
            raise RuntimeError(f"the last checkpoint covers {last} of {size} entries: call checkpoint first")
        first = min(self._closed, old)
        return Recent(first=first, lines=tuple(self._file.lines[first:]), frontier=tuple(self._tree.frontier(first)))

    def cosigned(self, lines: tuple[SignatureLine, ...]) -> None:
        """Put cosignatures, which the caller has verified, under the last checkpoint."""
        signed = self.checkpoint_shown().with_lines(lines)
        self._checkpoints.save(signed)
        self._signed = signed

    def checkpoint_shown(self) -> Note:
        """Return the last checkpoint, with the cosignatures it has. Raises: RuntimeError before the first."""
        if self._signed is None:
            raise RuntimeError("no checkpoint was signed yet: call checkpoint first")
        return self._signed


def read_log(path: Path) -> LogContents:
    """Read every whole line of the log and follow its chain; bytes after the last newline are counted, not judged.

    Guarantee: none by itself: whoever rewrites all lines makes a chain that holds. `checkpoint_folder.check` tells.
    Raises: LogError with the first bad index and the reason, or for no regular file; RunError where there is none.
    """
    *lines, tail = untrusted_files.read_regular(path, untrusted_files.LINES_BYTES).split(b"\n")
    entries: list[Entry] = []
    previous = GENESIS
    for index, line in enumerate(lines):
        try:
            entry = read_line(line, index=index, previous=previous)
        except BrokenChain as error:
            raise LogError(str(error), max(index - 1, 0)) from error
        except ValueError as error:
            raise LogError(str(error), index) from error
        entries.append(entry)
        previous = entry.leaf
    return LogContents(entries=tuple(entries), torn_bytes=len(tail))


def origin(session: str) -> str:
    """Return the name of a run's log, which each of its checkpoints begins with."""
    return f"fedcollm-secure/{session}"


def read_public_key(path: Path) -> NoteKey:
    """Read `log.pub`: 64 hexadecimal digits, and on a second line an ML-DSA-44 key where there is one.

    Raises: RunError where there is no such file; LogError when it holds no key.
    """
    text = untrusted_files.read_text(path, untrusted_files.KEY_BYTES)
    try:
        key = parse_public_key(text)
    except ValueError as error:
        raise LogError(f"{untrusted_files.shown(path)} is not the keeper's public key; {error}") from error
    if text != key_text(key.ed25519, key.mldsa44):
        raise LogError(
            f"{untrusted_files.shown(path)}: a line of lower-case digits for each key was expected, and nothing else"
        )
    return key


def key_text(*keys: bytes) -> str:
    """Return the text of `log.pub` for the keys that a keeper has."""
    return "".join(f"{key.hex()}\n" for key in keys if key)


def parse_public_key(text: str) -> NoteKey:
    """Read the text of `log.pub`. Raises: ValueError."""
    ed25519, mldsa44, *rest = [bytes.fromhex(line) for line in text.split()] + [b"", b""]
    if len(ed25519) != PUBLIC_KEY_BYTES or len(mldsa44) not in (0, MLDSA44_KEY_BYTES) or any(rest):
        raise ValueError("64 hexadecimal digits of an Ed25519 public key were expected")
    check_ed25519(ed25519)
    return NoteKey(name="keeper", ed25519=ed25519, mldsa44=mldsa44)


@contextmanager
def _as_run_error() -> Generator[None, None, None]:
    """Say of a disk that fails, or a file that is in use, that the run cannot go on."""
    try:
        yield
    except (NotWritten, InUse) as error:
        raise RunError(str(error)) from error
