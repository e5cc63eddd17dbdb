"""A handle on the child process in which TenSEAL runs, with limits on its memory and on every answer's time.

    worker = Worker()                       one child, as long as the party lives; started when first needed
    with worker.decryptor(scheme) as box    a fresh key pair: box.public_key, box.decrypt
    with worker.encryptor(scheme, key)      a decryptor's public key: box.encrypt

A child that crashes, hangs or runs out of memory is killed; what was asked of it is refused, and the next request gets
a new child. Its contexts, secret keys among them, are gone with it: a round's key is never worth saving.
"""

import os
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import IO, Self
from weakref import finalize

import numpy as np
from numpy.typing import NDArray

from fedcollm_crypto import canonical
from fedcollm_crypto.errors import CryptoError, ProtocolError, Refused
from fedcollm_crypto.homomorphic import child
from fedcollm_crypto.homomorphic.parameters import Bfv, Scheme
from fedcollm_crypto.homomorphic.residues import Residues

CALL_ROWS = 8
"""Ciphertexts in one call: a megabyte, so that neither side holds much and no answer takes long."""

_ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "HOME", "SYSTEMROOT")


class WorkerFailed(CryptoError):
    """The child crashed, hung, or could not do what was asked: nothing came of the request."""


def crashed() -> Refused:
    """Return what is said to others of a `WorkerFailed`; what the library said stays here."""
    return Refused("worker_failed", "the homomorphic child crashed, hung or could not compute: its keys are gone")


class Worker:
    """One child process. Not for use by two threads at once."""

    def __init__(
        self, *, memory_mib: int = 2048, timeout_s: float = 60.0, progress: Callable[[int, int], None] | None = None
    ) -> None:
        """Limit the child's address space and the time of one answer; `progress` is told (done, of) ciphertexts."""
        self.progress = progress or tell_nobody
        self._memory_mib = memory_mib
        self._timeout_s = timeout_s
        self._process: subprocess.Popen[bytes] | None = None
        self._children = 0
        self._unreferenced: list[int] = []

    def __enter__(self) -> Self:
        """Return itself; the child starts when first needed."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End the child."""
        self.close()

    def close(self) -> None:
        """End the child, if there is one; its keys go with it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def decryptor(self, scheme: Scheme) -> "Box":
        """Draw a fresh key pair. Raises: WorkerFailed."""
        return self._open(scheme, b"")

    def encryptor(self, scheme: Scheme, public_key: Residues) -> "Box":
        """Take another party's public key. Raises: ProtocolError for residues that are none, WorkerFailed."""
        return self._open(scheme, public_key.astype("<u8", copy=False).tobytes())

    def call(self, what: bytes, payload: bytes) -> bytes:
        """Send one frame and return the answer. Raises: ProtocolError where the child refused; WorkerFailed."""
        while self._unreferenced:
            with suppress(ProtocolError):  # closed already, or gone with an older child
                self._exchange(child.CLOSE, child.HANDLE.pack(self._unreferenced.pop()))
        return self._exchange(what, payload)

    def _exchange(self, what: bytes, payload: bytes) -> bytes:
        process = self._running()
        requests, replies = _pipes(process)
        try:
            with _killed_after(process, self._timeout_s):  # a child that hangs may not even read what it is asked
                child.write_frame(requests, what, payload)
                frame = child.read_frame(replies)
        except (OSError, ProtocolError) as error:
            self.close()
            raise WorkerFailed(f"the homomorphic child did not answer ({error}): it was stopped") from None
        if frame is None:
            self.close()
            raise WorkerFailed(
                f"the homomorphic child ended with status {process.returncode}, or was stopped after "
                f"{self._timeout_s:g} s without an answer: nothing was computed"
            )
        status, answer = frame
        if status == child.DONE:
            return answer
        if status == child.REFUSED:
            raise ProtocolError(answer.decode(errors="replace"))
        raise WorkerFailed(f"the homomorphic library refused: {answer.decode(errors='replace')}")

    def _open(self, scheme: Scheme, key: bytes) -> "Box":
        body = canonical.encode(scheme.to_body())
        answer = self.call(child.OPEN, child.HANDLE.pack(len(body)) + body + key)
        handle, coefficients, prime = struct.unpack("<QQQ", answer)
        box = Box(worker=self, scheme=scheme, handle=handle, coefficients=coefficients, prime=prime)
        finalize(box, self._unreferenced.append, handle)  # closed before the next call, not in the middle of one
        return box

    def _running(self) -> "subprocess.Popen[bytes]":
        if self._process is None or self._process.poll() is not None:
            self.close()
            self._children += 1  # no two children give out the same handle: a stale one finds nothing
            environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
            self._process = subprocess.Popen(  # noqa: S603 - our own module, no shell
                [sys.executable, "-P", "-m", child.__name__, str(self._memory_mib), str(self._children << 32)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                env=environment | {"OMP_NUM_THREADS": "1"},
            )
        return self._process


@dataclass(frozen=True, kw_only=True)
class Box:
    """One context in the child: a key pair, or a public key. It is closed with its last reference at the latest.

    `prime` is q, `coefficients` those of one ciphertext.
    """

    worker: Worker = field(repr=False)
    scheme: Scheme
    handle: int
    coefficients: int
    prime: int

    @property
    def public_key(self) -> Residues:
        """Return the public key as residues of both primes."""
        return np.frombuffer(self.worker.call(child.PUBLIC_KEY, child.HANDLE.pack(self.handle)), dtype="<u8")

    def encrypt(self, slots: NDArray[np.int64]) -> Residues:
        """Return uint64[k · coefficients] from signed int64[k, slots]."""
        parts = [self._call(child.ENCRYPT, rows.tobytes()) for rows in _rows(slots.astype("<i8", copy=False))]
        return np.frombuffer(b"".join(parts), dtype="<u8")

    def decrypt(self, ciphertexts: Residues) -> NDArray[np.int64] | NDArray[np.float64]:
        """Return [k, slots]: BFV's integers, centred; CKKS' floats, which must be rounded before anyone sees them."""
        rows = _rows(ciphertexts.reshape(-1, self.coefficients))
        data = b"".join(self._call(child.DECRYPT, row.tobytes()) for row in rows)
        if isinstance(self.scheme, Bfv):
            return np.frombuffer(data, dtype="<i8").reshape(-1, self.scheme.slots)
        return np.frombuffer(data, dtype="<f8").reshape(-1, self.scheme.slots)

    def close(self) -> None:
        """Forget the context, its secret key included."""
        self.worker.call(child.CLOSE, child.HANDLE.pack(self.handle))

    def _call(self, what: bytes, payload: bytes) -> bytes:
        return self.worker.call(what, child.HANDLE.pack(self.handle) + payload)


@contextmanager
def opened(box: Box) -> Generator[Box]:
    """Close the context at the end, whatever happens; a child that died has closed it already."""
    try:
        yield box
    finally:
        with suppress(CryptoError):
            box.close()


@contextmanager
def _killed_after(process: "subprocess.Popen[bytes]", seconds: float) -> Generator[None]:
    timer = threading.Timer(seconds, process.kill)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def tell_nobody(_: int, __: int) -> None:
    """Take a report of progress and do nothing."""


def _pipes(process: "subprocess.Popen[bytes]") -> tuple[IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("the child was started without pipes")
    return process.stdin, process.stdout


def _rows(matrix: NDArray[np.int64] | Residues) -> Iterator[NDArray[np.int64] | Residues]:
    return (matrix[start : start + CALL_ROWS] for start in range(0, len(matrix), CALL_ROWS))
