"""What a silo keeps of an open round is durable, and damage is never taken for absence: a vector may have left."""

import os
from pathlib import Path

import numpy as np
import pytest

from fedcollm_secure.federation.open_round import Kept, KeptDamaged, Pending

VERSION = "ab" * 32
KEPT = Kept(
    change=np.arange(5, dtype=np.float32),
    vectors={0: np.arange(7, dtype=np.uint64), 1: np.array([2**64 - 1], dtype=np.uint64)},
)


@pytest.fixture
def pending(tmp_path: Path) -> Pending:
    found = Pending(tmp_path / "silo" / "pending.npz")
    found.write(VERSION, KEPT)
    return found


def test_what_is_kept_comes_back_for_its_version_alone(pending: Pending) -> None:
    found = pending.read(VERSION)

    assert found is not None
    assert np.array_equal(found.change, KEPT.change)
    assert all(np.array_equal(found.vectors[number], KEPT.vectors[number]) for number in (0, 1))
    assert pending.read("cd" * 32) is None
    pending.forget()
    assert pending.read(VERSION) is None


def test_a_torn_or_changed_file_is_damage_and_not_absence(pending: Pending, tmp_path: Path) -> None:
    path = tmp_path / "silo" / "pending.npz"
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(KeptDamaged):
            pending.read(VERSION)
    for place in range(0, len(whole), 7):
        changed = bytearray(whole)
        changed[place] ^= 4
        path.write_bytes(changed)
        with pytest.raises(KeptDamaged):
            pending.read(VERSION)


def test_damage_is_a_refusal_that_shows_nothing_of_the_update(pending: Pending, tmp_path: Path) -> None:
    (tmp_path / "silo" / "pending.npz").write_bytes(b"garbage")

    with pytest.raises(KeptDamaged, match="nothing is trained again for this model version") as caught:
        pending.read(VERSION)
    assert caught.value.reason_code == "kept_damaged"


def test_it_is_on_the_disk_before_write_returns_and_the_old_one_until_then(
    pending: Pending, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[bool] = []
    honest = os.fsync
    monkeypatch.setattr("os.fsync", lambda one: (synced.append(os.path.isdir(f"/proc/self/fd/{one}")), honest(one))[1])
    pending.write("cd" * 32, KEPT)
    assert synced == [False, True]  # the file, then the folder

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space left"):
        pending.write(VERSION, KEPT)
    monkeypatch.undo()
    assert pending.read("cd" * 32) is not None
    assert [path.name for path in (tmp_path / "silo").iterdir()] == ["pending.npz"]
    assert (tmp_path / "silo" / "pending.npz").stat().st_mode & 0o777 == 0o600
