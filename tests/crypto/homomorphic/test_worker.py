"""The child process: it may crash, hang or run out of memory, and nobody else does."""

import os
import signal
import struct
from pathlib import Path

import numpy as np
import pytest

from fedcollm_crypto.errors import CryptoError, ProtocolError
from fedcollm_crypto.homomorphic import child
from fedcollm_crypto.homomorphic.parameters import Bfv, Ckks
from fedcollm_crypto.homomorphic.worker import CALL_ROWS, Worker, WorkerFailed, opened

SLOTS = np.arange(8192, dtype=np.int64)[None] - 4000


@pytest.fixture
def own() -> Worker:
    """A worker of the test's own, to be broken."""
    with Worker() as mine:
        yield mine


@pytest.mark.parametrize("scheme", [Bfv(), Ckks()], ids=lambda scheme: scheme.name)
def test_what_is_encrypted_under_the_public_key_decrypts(worker, scheme):
    slots = np.resize(SLOTS, (CALL_ROWS + 1, scheme.slots))  # more than one call
    with opened(worker.decryptor(scheme)) as keys, opened(worker.encryptor(scheme, keys.public_key)) as public:
        decrypted = keys.decrypt(public.encrypt(slots))

    assert (np.rint(decrypted) == slots).all()


def test_a_public_key_opens_nothing(worker):
    with opened(worker.decryptor(Bfv())) as keys, opened(worker.encryptor(Bfv(), keys.public_key)) as public:
        ciphertexts = public.encrypt(SLOTS)
        with pytest.raises(WorkerFailed, match="the homomorphic library refused"):
            public.decrypt(ciphertexts)


def test_another_key_opens_noise(worker):
    keys, other = worker.decryptor(Bfv()), worker.decryptor(Bfv())
    with opened(keys), opened(other), opened(worker.encryptor(Bfv(), keys.public_key)) as public:
        decrypted = other.decrypt(public.encrypt(SLOTS))

    assert (decrypted != SLOTS).mean() > 0.99


def test_a_public_key_with_a_coefficient_that_is_too_large_is_refused(worker):
    with opened(worker.decryptor(Bfv())) as keys:
        key = keys.public_key.copy()
    key[-1] = (1 << 60) - 1

    with pytest.raises(ProtocolError, match="not below the prime"):
        worker.encryptor(Bfv(), key)


def test_a_killed_child_is_a_refusal_and_a_new_one_serves(own):
    box = own.decryptor(Bfv())
    own._process.kill()

    with pytest.raises(CryptoError, match=r"no context|did not answer|ended with status -9"):
        box.public_key  # noqa: B018 - it asks the child
    with opened(own.decryptor(Bfv())) as keys:
        assert len(keys.public_key) == 4 * 8192


def test_a_box_of_a_dead_child_never_reaches_another_context(own):
    box = own.decryptor(Bfv())
    own.close()
    own.decryptor(Bfv())  # the new child's first, as the box was of the old one's

    with pytest.raises(ProtocolError, match="no context"):
        box.public_key  # noqa: B018 - it asks the child


def test_a_context_that_nobody_refers_to_is_closed(worker):
    handle = worker.decryptor(Bfv()).handle
    worker.decryptor(Bfv()).close()

    with pytest.raises(ProtocolError, match="no context"):
        worker.call(child.PUBLIC_KEY, child.HANDLE.pack(handle))


def test_a_child_that_hangs_is_stopped_even_while_it_is_written_to(own):
    box = own.encryptor(Bfv(), key_of(own))
    own._timeout_s = 0.1
    own._process.send_signal(signal.SIGSTOP)

    with pytest.raises(WorkerFailed, match="did not answer"):
        box.encrypt(np.resize(SLOTS, (CALL_ROWS, 8192)))  # more than a pipe holds
    assert own._process is None


def test_a_child_that_never_answers_is_stopped(own):
    box = own.decryptor(Bfv())
    own._timeout_s = 0.1
    own._process.send_signal(signal.SIGSTOP)

    with pytest.raises(WorkerFailed, match=r"stopped after 0\.1 s"):
        box.public_key  # noqa: B018 - it asks the child


def test_a_child_without_memory_is_a_refusal():
    with Worker(memory_mib=64) as own, pytest.raises(WorkerFailed, match=r"nothing was computed|did not answer"):
        own.decryptor(Bfv())


def test_frames_that_are_no_frames_are_refused():
    read, write = os.pipe()
    with os.fdopen(read, "rb") as stream, os.fdopen(write, "wb") as torn:
        torn.write(child.FRAME.pack(b"e", 10) + b"short")
        torn.close()
        with pytest.raises(ProtocolError, match="ends before its length"):
            child.read_frame(stream)
        assert child.read_frame(stream) is None
    read, write = os.pipe()
    with os.fdopen(read, "rb") as stream, os.fdopen(write, "wb") as endless:
        endless.write(struct.pack("<cQ", b"e", 1 << 40))
        endless.close()
        with pytest.raises(ProtocolError, match="is longer than"):
            child.read_frame(stream)


@pytest.mark.parametrize(("what", "message"), [(b"?", "is unknown"), (child.ENCRYPT, "no context 7 is open")])
def test_the_child_answers_nonsense_with_a_refusal_and_lives(worker, what, message):
    with opened(worker.decryptor(Bfv())) as box:
        handle = box.handle if what == b"?" else 7
        with pytest.raises(ProtocolError, match=message):
            worker.call(what, child.HANDLE.pack(handle))
        with pytest.raises(WorkerFailed, match="the homomorphic library refused"):
            worker.call(child.DECRYPT, child.HANDLE.pack(box.handle) + bytes(24))
        assert len(box.public_key) == 4 * 8192


def test_the_child_gets_no_environment_but_what_it_needs(own, monkeypatch):
    monkeypatch.setenv("FEDCOLLM_PASSPHRASE", "canary")
    own.decryptor(Bfv())

    environment = Path(f"/proc/{own._process.pid}/environ").read_bytes()
    assert b"PATH=" in environment
    assert b"canary" not in environment


def key_of(worker: Worker) -> np.ndarray:
    with opened(worker.decryptor(Bfv())) as keys:
        return keys.public_key
