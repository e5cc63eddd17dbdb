"""The ledger as a file: one writer, and every line durable before the call that wrote it returns.

1. lock (flock, exclusive)  2. verify the whole chain  3. per call: decide (book.py), write one line, fsync, then apply.
A crash between write and fsync leaves a torn last line; it was never acted on, so it is cut off at the next opening.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import TracebackType

from fedcollm_privacy import validate
from fedcollm_privacy.errors import LedgerError, PrivacyError
from fedcollm_privacy.ledger.book import Book, LedgerRow
from fedcollm_privacy.ledger.entry import GENESIS, Entry, Opened, decode, encode
from fedcollm_privacy.plans import Plan


class Disk:
    """The four calls that change the disk, in one place, so that a test can die in any of them."""

    def write(self, descriptor: int, line: bytes) -> None:
        """Append all of `line`."""
        while line:
            line = line[os.write(descriptor, line) :]

    def truncate(self, descriptor: int, size: int) -> None:
        """Cut the file to `size` bytes."""
        os.ftruncate(descriptor, size)

    def sync(self, descriptor: int) -> None:
        """Return when the file's contents are on the device."""
        os.fsync(descriptor)

    def sync_folder(self, folder: Path) -> None:
        """Return when the folder's entry of a new file is on the device."""
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


class Ledger:
    """One population's budget on disk: `reserve` before training, `release` before upload, `done` when closed.

    Guarantee: no sequence of crashes, retries and resumptions lets updates leave whose total exceeds the budget, as
    long as callers wait for `reserve` before they train and for `release` before they send, and nobody replaces the
    file by an older copy (`holds` tells, given a head that the consortium's log committed to).
    """

    def __init__(self, *, descriptor: int, book: Book, disk: Disk) -> None:
        """Use `Ledger.open`."""
        self._descriptor = descriptor
        self._book = book
        self._disk = disk
        self._failed = False

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        population: str,
        epsilon: float,
        delta: float,
        simulated: bool,
        disk: Disk | None = None,
    ) -> Ledger:
        """Create the ledger of `population` at `path`, or resume it; the folder must exist.

        `delta` may be 0: such a ledger pays for scores alone, whose plans have none.

        Raises:
            LedgerError: a broken chain, another population, budget or kind, a ledger in use by another process, or a
                disk that is full or fails; this last is raised by every other call as well.
        """
        validate.positive(epsilon=epsilon)
        if delta != 0:
            validate.probability(delta=delta)
        if not population:
            raise ValueError("population must be a non-empty identifier that the operator declares and keeps")
        disk = disk or Disk()
        opened = Opened(population=population, epsilon=float(epsilon), delta=float(delta), simulated=simulated)
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise _not_written(error) from error
        try:
            return cls(descriptor=descriptor, book=_resume(descriptor, path, opened, disk), disk=disk)
        except OSError as error:
            os.close(descriptor)
            raise _not_written(error) from error
        except BaseException:
            os.close(descriptor)
            raise

    @property
    def head(self) -> str:
        """The hash of the last entry, in hex."""
        return self._book.head

    def holds(self, head: str) -> bool:
        """Return whether this ledger stood at `head` once: an older copy of it does not hold a later head."""
        return head in self._book.heads

    def epsilon_spent(self) -> float:
        """Return ε that the population has spent, all sessions together; ledger/book.py has the rules."""
        return self._book.epsilon_spent()

    def rows(self) -> tuple[LedgerRow, ...]:
        """Return all rounds, in the order of their reservation."""
        return self._book.rows()

    def reserve(self, *, session: str, round: int, plan: Plan) -> None:  # noqa: A002  # the word of the protocol
        """Make the round's charge durable; training may begin when this returns. A repeated call costs nothing.

        Raises:
            BudgetExhausted: before anything is written; the ledger can still be used.
            LedgerError: another plan than the session's, a round beyond the plan, or a closed session.
        """
        self._append(self._book.reservation(session=session, number=round, plan=plan))

    def release(self, *, session: str, round: int, digest: str) -> None:  # noqa: A002  # the word of the protocol
        """Make durable that the update named `digest` leaves; it may be sent when this returns.

        Raises:
            LedgerError: the round is not reserved, is void, or has released another update.
        """
        self._append(self._book.release(session=session, number=round, digest=digest))

    def done(self, *, session: str, round: int) -> None:  # noqa: A002  # the word of the protocol
        """Mark a released round as closed by the consortium."""
        self._append(self._book.done(session=session, number=round))

    def void(self, *, session: str, round: int, reason: str) -> None:  # noqa: A002  # the word of the protocol
        """Give back a reservation under which nothing was released; `reason` is the operator's, in words.

        Raises:
            LedgerError: the round is not reserved, or has released an update.
        """
        self._append(self._book.void(session=session, number=round, reason=reason))

    def close(self) -> None:
        """Release the lock; calling it twice is allowed."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def __enter__(self) -> Ledger:
        """Close at the end of a `with` block."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close."""
        self.close()

    def _append(self, entry: Entry | None) -> None:
        if self._descriptor < 0 or self._failed:
            raise LedgerError("the ledger is closed, or an earlier write failed: open it again")
        if entry is None:
            return
        # A write that fails half-way leaves the file in a state that only a new opening can judge.
        self._failed = True
        try:
            _append(self._descriptor, self._book, entry, self._disk)
        except OSError as error:
            raise _not_written(error) from error
        self._failed = False


def read_book(path: Path) -> Book:
    """Verify the ledger at `path` without a lock and return its state; a torn last line is left out.

    Raises:
        LedgerError: naming the first bad entry. A cut tail isn't seen: compare the head with one held elsewhere.
    """
    book, _ = _replay(path.read_bytes())
    if book is None:
        raise LedgerError(f"{path} holds no complete entry", 0)
    return book


def epsilon_at(path: Path, heads: Collection[str]) -> Mapping[str, float]:
    """Replay the ledger at `path` and return ε spent when it stood at each of these heads; a strange head is left out.

    Raises: `LedgerError`, as `read_book`.
    """
    found: dict[str, float] = {}

    def note(book: Book) -> None:
        if book.head in heads:
            found[book.head] = book.epsilon_spent()

    _replay(path.read_bytes(), note)
    return found


def read_ledger(path: Path) -> tuple[LedgerRow, ...]:
    """Verify the ledger at `path` without a lock and return its rounds. Raises: `LedgerError`, as `read_book`."""
    return read_book(path).rows()


def _resume(descriptor: int, path: Path, opened: Opened, disk: Disk) -> Book:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise LedgerError(f"{path} is in use by another process: one writer at a time") from error
    contents = _read_all(descriptor)
    book, complete = _replay(contents)
    if complete < len(contents):
        disk.truncate(descriptor, complete)
    # Lines that a crash left in the cache alone must be durable before anything relies on them.
    disk.sync(descriptor)
    if book is None:
        book = Book(opened)
        _append(descriptor, book, opened, disk)
        disk.sync_folder(path.parent)
    _check_same(book, opened, path)
    return book


def _not_written(error: OSError) -> LedgerError:
    return LedgerError(
        f"the ledger could not be written ({error}). Nothing may train or leave: free the disk, then open it again"
    )


def _append(descriptor: int, book: Book, entry: Entry, disk: Disk) -> None:
    line, digest = encode(entry, index=book.entries, previous=book.head)
    disk.write(descriptor, line)
    disk.sync(descriptor)
    book.apply(entry, digest)


def _replay(contents: bytes, watch: Callable[[Book], None] = lambda _: None) -> tuple[Book | None, int]:
    """Return the state and the length of the complete lines; None when there is no complete line.

    `watch` is shown the state after each entry.
    """
    *lines, torn = contents.split(b"\n")
    book: Book | None = None
    for index, line in enumerate(lines):
        try:
            entry, digest = decode(line, index=index, previous=book.head if book else GENESIS)
            if book is None:
                book = _first(entry)
            book.apply(entry, digest)
            watch(book)
        except LedgerError as error:
            raise LedgerError(error.reason, index) from error
        except (ValueError, PrivacyError) as error:
            raise LedgerError(str(error), index) from error
    return book, len(contents) - len(torn)


def _first(entry: Entry) -> Book:
    if not isinstance(entry, Opened):
        raise LedgerError("a ledger begins with its opening entry")
    return Book(entry)


def _check_same(book: Book, opened: Opened, path: Path) -> None:
    found = Opened(population=book.population, epsilon=book.epsilon, delta=book.delta, simulated=book.simulated)
    if found != opened:
        raise LedgerError(f"{path} is the ledger of {found}, expected {opened}: a budget is set once per population")


def _read_all(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    parts: list[bytes] = []
    while size and (part := os.pread(descriptor, size, sum(map(len, parts)))):
        parts.append(part)
        size -= len(part)
    return b"".join(parts)
